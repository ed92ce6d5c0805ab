"""One self-contained HTML page: the drawing to pan, zoom and search, and the source of whatever is clicked.

Nothing is loaded from anywhere, so the page can be attached to a review or kept with an audit.
"""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from string import Template
from typing import Any

import networkx as nx

from jamjet_dsl import definition as d
from jamjet_dsl.render.graph import Overlay
from jamjet_dsl.render.image import draw, fitted

CONTEXT = 60
"""At most this many lines of source are shown for one state."""


def to_html(graph: nx.MultiDiGraph, compiled: d.Compiled | d.Definition, overlay: Overlay | None = None) -> str:
    """The page for a graph. With a `Compiled`, a click on a state shows its source and doc comment."""
    agent: d.Agent = graph.graph["agent"]
    svg = draw(fitted(graph, overlay), "svg").decode()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'<svg width="[^"]*" height="[^"]*"', '<svg id="drawing"', svg, count=1)
    details = _details(graph, compiled, agent) if isinstance(compiled, d.Compiled) else {}
    # A "<" in a source text could end or open a script element: JSON has another way to write it.
    data = json.dumps(details, ensure_ascii=False, sort_keys=True).replace("<", "\\u003c")
    version = f" version {agent.version}" if agent.version is not None else ""
    return Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(agent.name + version), svg=svg, data=data
    )


def _details(graph: nx.MultiDiGraph, compiled: d.Compiled, agent: d.Agent) -> dict[str, Any]:
    """For each state: its doc comment, file, line and source."""
    found: dict[str, Any] = {}
    for path, box in graph.nodes(data="box"):
        key = f"{agent.name}/{path}"
        span = compiled.spans.get(key)
        if box.kind not in ("state", "final", "failed") or span is None:
            continue
        lines = compiled.sources.get(span.file, "").split("\n")[span.line - 1 : span.end_line]
        if len(lines) > CONTEXT:
            lines = [*lines[:CONTEXT], "…"]
        found[path] = {
            "doc": compiled.docs.get(key, ""),
            "file": span.file,
            "line": span.line,
            "source": "\n".join(lines),
        }
    return found
