"""The drawing as Mermaid text, which forges and wikis render where Markdown is read."""

from __future__ import annotations

import textwrap

import networkx as nx

from jamjet_dsl.render.graph import Arrow, Box, Cluster, Overlay

_SHAPE = {
    "start": ("((", "))"), "final": ("([", "])"), "failed": ("([", "])"), "join": ("{{", "}}"), "any": ("(", ")"),
    "budget": ("(", ")"), "end": ("([", "])"), "state": ("[", "]"),
}  # fmt: skip
_CLASSES = """\
  classDef reads stroke:#2563a8
  classDef writes stroke:#b7791f,stroke-width:2px
  classDef irreversible fill:#fff0f0,stroke:#c62f3b,stroke-width:3px
  classDef person stroke:#6b46c1,stroke-width:2px
  classDef model stroke:#0f7b83
  classDef final fill:#e7f5ec,stroke:#1d7f4e
  classDef failed fill:#fdeaea,stroke:#c62f3b
  classDef mark stroke-dasharray:4 3,color:#5b6475
  classDef here fill:#fff3c4,stroke:#d69e00,stroke-width:4px"""
_TROUBLE = frozenset({"error", "timeout", "denied", "in_doubt", "else", "handler", "exceeded"})


def to_mermaid(graph: nx.MultiDiGraph, overlay: Overlay | None = None) -> str:
    """A `flowchart` of the graph; edges a run took are thick, those that tests leave out red."""
    ids = {path: f"n{i}" for i, path in enumerate(graph)}
    lines = ["flowchart TD"]
    nested: dict[str, list[Cluster]] = {}
    for cluster in graph.graph["clusters"]:
        nested.setdefault(cluster.parent, []).append(cluster)
    members: dict[str, list[Box]] = {}
    for _, box in graph.nodes(data="box"):
        members.setdefault(box.cluster, []).append(box)
    lines += _group("", ids, members, nested, 1)
    taken: list[int] = []
    left: list[int] = []
    for n, (source, target, arrow) in enumerate(graph.edges(data="arrow")):
        lines.append(f"  {ids[source]} {_link(arrow)} {ids[target]}")
        if overlay and arrow.id and (source.removesuffix("/\x00join"), arrow.id) in overlay.edges:
            taken.append(n)
        elif arrow.id:
            left.append(n)
    lines.append(_CLASSES)
    for path, box in graph.nodes(data="box"):
        css = _css(box)
        if overlay and path in overlay.current:
            css = "here"
        if overlay and overlay.coverage and path not in overlay.states and box.kind in ("state", "final", "failed"):
            css = "left"
        if css:
            lines.append(f"  class {ids[path]} {css}")
    on = "#1d7f4e" if overlay and overlay.coverage else "#d69e00"
    if taken:
        lines.append(f"  linkStyle {','.join(map(str, taken))} stroke:{on},stroke-width:4px")
    if overlay and overlay.coverage:
        lines.append("  classDef left fill:#fdeaea,stroke:#c62f3b,stroke-width:3px")
        if left:
            lines.append(f"  linkStyle {','.join(map(str, left))} stroke:#c62f3b")
    return "\n".join(lines) + "\n"


def _group(
    path: str, ids: dict[str, str], members: dict[str, list[Box]], nested: dict[str, list[Cluster]], depth: int
) -> list[str]:
    """The nodes of a frame and the frames inside it; programs nest them a few levels deep at most."""
    pad = "  " * depth
    lines = [f"{pad}{ids[b.path]}{_node(b)}" for b in members.get(path, ())]
    for cluster in nested.get(path, ()):
        # Frames need ids of their own; those of a branch are paths of no node.
        name = ids.setdefault("frame " + cluster.path, f"f{len(ids)}")
        lines.append(f'{pad}subgraph {name}["{_esc(cluster.title)}"]')
        lines += _group(cluster.path, ids, members, nested, depth + 1)
        lines.append(f"{pad}end")
    return lines


def _node(box: Box) -> str:
    left, right = _SHAPE[box.kind]
    text = f"<b>{_esc(box.title)}</b>" if box.title else " "
    for line in box.lines:
        text += "<br/>" + "<br/>".join(_esc(part) for part in textwrap.wrap(line, 44))
    if box.effect:
        text += f"<br/><i>{box.effect}{', approved' if box.approved else ''}</i>"
    return f'{left}"{text}"{right}'


def _link(arrow: Arrow) -> str:
    line = "-.->" if arrow.kind in _TROUBLE else "-->"
    turn = f"{arrow.turn}. " if arrow.turn else ""
    label = turn + _esc(arrow.label) + (f" ≤ {arrow.limit}×" if arrow.limit is not None else "")
    return f'{line}|"{label}"|' if label.strip() else line


def _css(box: Box) -> str:
    if box.kind in ("final", "failed"):
        return box.kind
    if box.kind in ("any", "budget"):
        return "mark"
    if box.effect == "irreversible":
        return "irreversible"
    if box.does in ("ask", "approved"):
        return "person"
    return "model" if box.does == "think" else box.effect


def _esc(text: str) -> str:
    """Mermaid reads quotes, brackets and hashes inside labels only as entities."""
    named = {'"': "#quot;", "<": "#lt;", ">": "#gt;", "#": "#35;", "`": "#96;", "|": "#124;"}
    return "".join(named.get(c, c) for c in text.replace("\x00", ""))
