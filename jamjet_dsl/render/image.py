"""DOT to SVG, PNG or PDF. SVG and PNG come from `graphviz-pure`, which needs no installed Graphviz; PDF needs
a `dot` on the machine, since nothing else here writes it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import networkx as nx

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.render.dot import BUSY, to_dot
from jamjet_dsl.render.graph import Overlay

CURVES_S = 20
"""A layout that takes longer is made again with straight edges."""
TIMEOUT_S = 100
"""One that takes longer even so is given up with an error."""


def _program() -> list[str] | None:
    """The bundled renderer, beside this interpreter or on the path."""
    for folder in (Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))):
        found = shutil.which("graphviz-pure", path=os.fspath(folder))
        if found:
            return [found]
    found = shutil.which("graphviz-pure") or shutil.which("dot")
    return [found] if found else None


DPI = 110
PAGE = 1.42
"""Height over width of a page. A drawing much taller than that is set in columns, so that it can be printed."""


def fitted(graph: nx.MultiDiGraph, overlay: Overlay | None = None) -> str:
    """DOT text that fits a page as well as it can: laid out once to see its shape, and again in columns if it is
    more than half as tall again as a page."""
    dot = to_dot(graph, overlay)
    if graph.number_of_nodes() <= BUSY or _program() is None:
        return dot
    size = re.search(rb'<svg width="(\d+)pt" height="(\d+)pt"', draw(dot, "svg"))
    if size is None:
        return dot
    width, height = int(size[1]), int(size[2])
    columns = round((height / width / PAGE) ** 0.5)
    return to_dot(graph, overlay, columns=columns) if columns > 1 else dot


def _run(command: list[str], dot: str, seconds: int) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, input=dot.encode(), capture_output=True, timeout=seconds, check=False)


def _pdf(dot: str) -> bytes:
    """By the system's own Graphviz: nothing that comes with the package writes PDF."""
    import graphviz

    try:
        pdf: bytes = graphviz.pipe("dot", "pdf", dot.encode(), quiet=True)
    except graphviz.ExecutableNotFound:
        raise JamError(
            "JAMR006",
            "a PDF needs Graphviz, and no `dot` is installed here",
            "install Graphviz, or draw an SVG or PNG",
        ) from None
    except subprocess.CalledProcessError as error:
        raise JamError("JAMR006", f"the renderer failed: {error}", "draw DOT text with -o F.dot") from None
    return pdf


def draw(dot: str, kind: str) -> bytes:
    """Lay out DOT text and return the picture; `kind` is svg, png or pdf.

    Raises JamError JAMR006 when no renderer for the kind is installed, or when the layout fails.
    """
    if kind == "pdf":
        return _pdf(dot)
    program = _program()
    if program is None:
        raise JamError("JAMR006", "no renderer is installed", "install the package `graphviz-pure`")
    # A raster of a thousand states at full size has a hundred million dots; the overview is what it is for.
    flags = [f"-Gdpi={DPI if len(dot) < 250_000 else DPI // 3}"] if kind == "png" else []
    command = [*program, f"-T{kind}", *flags]
    try:
        try:
            done = _run(command, dot, CURVES_S)
        except subprocess.TimeoutExpired:
            done = _run([*command, "-Gsplines=line"], dot.replace("splines=spline", "splines=line"), TIMEOUT_S)
    except subprocess.TimeoutExpired as late:
        raise JamError(
            "JAMR006", f"the layout took longer than {TIMEOUT_S} seconds", "draw Mermaid text, or one agent at a time"
        ) from late
    if done.returncode != 0 or not done.stdout:
        raise JamError(
            "JAMR006",
            f"the renderer failed: {done.stderr.decode(errors='replace').strip()[:500]}",
            "draw DOT text with -o F.dot",
        )
    return done.stdout
