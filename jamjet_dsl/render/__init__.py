"""Drawings of a definition. `picture` makes any of `FORMATS`; networkx and the renderer load when it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jamjet_dsl import definition as d

if TYPE_CHECKING:
    from jamjet_dsl.render.graph import Overlay

FORMATS = ("svg", "png", "pdf", "dot", "mmd", "html")


def picture(
    compiled: d.Compiled | d.Definition, kind: str, *, agent: str | None = None, overlay: Overlay | None = None
) -> bytes:
    """The diagram of one agent (the main one unless named) in one of `FORMATS`.

    Raises JamError JAMR006 when the format cannot be made on this machine, KeyError for an unknown agent.
    """
    from jamjet_dsl.render.graph import build

    graph = build(compiled, agent)
    match kind:
        case "mmd":
            from jamjet_dsl.render.mermaid import to_mermaid

            return to_mermaid(graph, overlay).encode()
        case "html":
            from jamjet_dsl.render.html import to_html

            return to_html(graph, compiled, overlay).encode()
        case "dot":
            from jamjet_dsl.render.image import fitted

            return fitted(graph, overlay).encode()
        case _:
            from jamjet_dsl.render.image import draw, fitted

            return draw(fitted(graph, overlay), kind)
