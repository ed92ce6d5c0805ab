"""The drawing as DOT text: shapes, colours, the legend. `image` turns it into SVG, PNG or PDF.

What the eye must get at once decides the style: the main way is dark and heavy, trouble is red and dashed and
does not pull the layout, an irreversible call is the only thing filled with red, a person's approval the
only thing in violet. A run or the path of a finding is drawn over it in one strong colour; the rest fades.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable
from dataclasses import replace
from math import isqrt

import networkx as nx

from jamjet_dsl import definition as d
from jamjet_dsl.render import readable
from jamjet_dsl.render.graph import ANY_STATE, BUDGET, JOIN, START, Arrow, Box, Cluster, Overlay, describe

FONT = "Arial"
INK, SOFT, FAINT, PAPER = "#1f2430", "#5b6475", "#aab2c0", "#ffffff"
RED, AMBER, GREEN, VIOLET, BLUE, TEAL = "#c62f3b", "#b7791f", "#1d7f4e", "#6b46c1", "#2563a8", "#0f7b83"
BUSY = 16
"""Above this many states the ways of trouble are drawn as tags beside their state, not as lines across the page."""
TROUBLED = 9
"""So they are where there are more of them than this: dashed lines beside each other cannot be told apart."""
LARGE = 80
"""Above this many states the drawing is always laid out in columns; what leads from one column to another becomes a
tag. One column of a thousand states could not be read, nor laid out in less than minutes."""

_ACCENT = {
    "call": BLUE, "approved": VIOLET, "think": TEAL, "ask": VIOLET, "wait": SOFT, "emit": BLUE, "run": BLUE, "each": BLUE,
    "undo": AMBER, "parallel": SOFT, "": FAINT,
}  # fmt: skip
_VERB = {"approved": "call approved", "undo": "undo all", "": ""}
_EFFECT = {"reads": (BLUE, "reads"), "writes": (AMBER, "writes"), "irreversible": (RED, "irreversible")}
_EDGE = {
    "main": (INK, "solid", 1.6), "guard": (INK, "solid", 1.6), "option": (VIOLET, "solid", 1.6), "join": (INK, "solid", 1.6),
    "event": (BLUE, "solid", 1.4), "inner": (SOFT, "solid", 1.0), "error": (RED, "dashed", 1.1), "timeout": (AMBER, "dashed", 1.1),
    "denied": (RED, "dashed", 1.1), "in_doubt": (RED, "dashed", 1.1), "else": (SOFT, "dotted", 1.2),
    "handler": (RED, "dashed", 1.1), "exceeded": (AMBER, "dashed", 1.1),
}  # fmt: skip
_ASIDE = frozenset({"error", "timeout", "denied", "in_doubt", "else", "handler", "exceeded"})


def to_dot(graph: nx.MultiDiGraph, overlay: Overlay | None = None, *, columns: int = 1) -> str:
    """DOT text for a graph of `graph.build`, with what a run or a finding went through drawn over it.

    `columns` asks for a layout of that many columns; a large graph gets as many as make it about square.
    """
    states = sum(box.kind in ("state", "final", "failed") for _, box in graph.nodes(data="box"))
    edges = _merged(graph, overlay)
    lines_of_trouble = sum(a.kind in _ASIDE and a.kind not in ("handler", "exceeded") for _, _, a in edges)
    busy, large = states > BUSY or lines_of_trouble > TROUBLED, states > LARGE
    spacing = "ranksep=0.28, nodesep=0.25" if busy else "ranksep=0.45, nodesep=0.35"
    lines = [
        "digraph jam {",
        f'  graph [fontname="{FONT}", rankdir=TB, compound=true, bgcolor="{PAPER}", pad=0.3, {spacing},'
        f" splines={'line, nslimit=1, nslimit1=1, mclimit=0.2' if large else 'spline'}];",
        f'  node [fontname="{FONT}", fontsize=11, shape=plain, fontcolor="{INK}"];',
        f'  edge [fontname="{FONT}", fontsize=9.5, arrowsize=0.7, fontcolor="{INK}"];',
    ]
    lines.append(f"  graph [label=<{_header(graph, overlay)}>, labelloc=t, labeljust=l];")
    lines += _clusters(graph, overlay)
    if large:
        # A column is about eighteen times as wide as one of its states is high; half of that keeps the layout quick.
        columns = max(columns, states // max(36, isqrt(9 * states)) + 1)
    column = _columns(graph, -(-states // columns)) if columns > 1 else {}
    tags: dict[tuple[str, str, bool], list[Arrow]] = {}
    spine = _spine(graph)
    for source, target, arrow in edges:
        taken = _taken(overlay, source, arrow)
        far = columns > 1 and column[source] != column[target]
        if far or (busy and not taken and arrow.kind in _ASIDE and arrow.kind not in ("handler", "exceeded")):
            tags.setdefault((source, target, arrow.kind in _ASIDE), []).append(arrow)
        else:
            clipped = _clipped(graph, source, target) if arrow.kind == "inner" else ""
            lines.append("  " + _edge(source, target, arrow, overlay, (source, arrow.id) in spine, clipped))
    for (source, target, _), arrows in tags.items():
        lines += _tag(graph, source, target, arrows, overlay)
    lines.append("}")
    return "\n".join(lines) + "\n"


def _merged(graph: nx.MultiDiGraph, overlay: Overlay | None) -> list[tuple[str, str, Arrow]]:
    """All edges; ways of trouble of one colour that lead from one state to another and do the same are one line,
    unless a run took them."""
    kept: list[tuple[str, str, Arrow]] = []
    place: dict[tuple[object, ...], int] = {}
    for source, target, arrow in graph.edges(data="arrow"):
        key = (source, target, _EDGE[arrow.kind][0], arrow.limit, arrow.sets)
        if arrow.kind not in _ASIDE or _taken(overlay, source, arrow):
            kept.append((source, target, arrow))
        elif key in place:
            before = kept[place[key]][2]
            label = f"{before.label}, {arrow.label.removeprefix('after ')}"
            kept[place[key]] = (source, target, replace(before, label=label))
        else:
            place[key] = len(kept)
            kept.append((source, target, arrow))
    return kept


def _taken(overlay: Overlay | None, source: str, arrow: Arrow) -> int:
    """How often what is drawn over the program went along an edge."""
    return overlay.edges.get((source.removesuffix(JOIN), arrow.id), 0) if overlay and arrow.id else 0


def _passed(overlay: Overlay | None, source: str, target: str, arrow: Arrow) -> bool:
    """Whether it went along an edge. A way into or out of a branch or item has no name of its own: it was taken if
    both its ends were."""
    if overlay is not None and overlay.coverage and source == START:
        return target in overlay.states
    if overlay is None or arrow.id or arrow.kind != "inner":
        return _taken(overlay, source, arrow) > 0
    return all(_was_there(overlay, end) for end in (source, target))


def _was_there(overlay: Overlay, node: str) -> bool:
    """Whether it came through a node. The mark at which an edge ends a branch or an item stands for that edge."""
    state, mark, edge = node.removesuffix(JOIN).partition("/\x00")
    return (state, edge) in overlay.edges if mark else state in overlay.states


def _shades(overlay: Overlay) -> tuple[str, str]:
    """The colours of what was passed, and of the rest. Where coverage is asked, the rest is what matters."""
    if overlay.coverage:
        return GREEN, RED
    return (RED if overlay.alarming else "#d69e00"), FAINT


def _columns(graph: nx.MultiDiGraph, height: int) -> dict[str, int]:
    """A column number for every node: states in the order of the program, `height` at a time; what stands inside
    a frame stays with its frame, and the marks with what they lead to."""
    frame = {c.path: c.parent for c in graph.graph["clusters"]}

    def outermost(path: str) -> str:
        cluster = graph.nodes[path]["box"].cluster
        while frame.get(cluster):
            cluster = frame[cluster]
        return cluster or path

    homes = list(dict.fromkeys(outermost(n) for n in graph if n not in (START, ANY_STATE, BUDGET)))
    number = {home: n // height for n, home in enumerate(homes)}
    column = {n: number[outermost(n)] for n in graph if n not in (START, ANY_STATE, BUDGET)}
    for mark in (START, ANY_STATE, BUDGET):
        if mark in graph:
            column[mark] = column[next(iter(graph[mark]))]
    return column


def _clusters(graph: nx.MultiDiGraph, overlay: Overlay | None) -> list[str]:
    """All nodes, each inside the frames it belongs to. Iterative, since frames may nest deeply."""
    members: dict[str, list[Box]] = {}
    for _, box in graph.nodes(data="box"):
        members.setdefault(box.cluster, []).append(box)
    nested: dict[str, list[Cluster]] = {}
    for cluster in graph.graph["clusters"]:
        nested.setdefault(cluster.parent, []).append(cluster)
    lines: list[str] = []
    todo: list[tuple[str, int] | str] = [("", 1)]
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            lines.append(item)
            continue
        path, depth = item
        pad = "  " * depth
        lines += [pad + _node(box, overlay, graph.graph["agent"].name) for box in members.get(path, ())]
        for cluster in reversed(nested.get(path, [])):
            todo.append(pad + "}")
            todo.append((cluster.path, depth + 1))
            todo.append(_open(cluster, pad))
    return lines


def _open(cluster: Cluster, pad: str) -> str:
    fill = "#f4f6fa" if cluster.kind != "branch" else "#ffffff"
    return (
        f'{pad}subgraph {_id("cluster " + cluster.path)} {{ graph [label=<<font point-size="10" color="{SOFT}">{_esc(cluster.title)}'
        f'</font>>, style="rounded,filled", color="{FAINT}", fillcolor="{fill}", margin=12, labeljust=l, labelloc=t];'
    )


def _node(box: Box, overlay: Overlay | None, agent: str) -> str:
    faded = overlay is not None and box.path not in overlay.states and box.kind in ("state", "final", "failed", "join")
    name = _id(box.path)
    tag = f'id="{_esc(f"state {box.path}")}", ' if box.kind in ("state", "final", "failed") else ""
    match box.kind:
        case "start":
            return f'{name} [shape=circle, width=0.16, fixedsize=true, style=filled, color="{INK}", fillcolor="{INK}", label="", xlabel=""];'
        case "any" | "budget":
            text = _esc(box.title)
            return (
                f'{name} [shape=box, style="rounded,dashed", color="{SOFT}", fontcolor="{SOFT}", fontsize=10, margin="0.1,0.04", '
                f"label=<<i>{text}</i>>];"
            )
        case "join" | "end":
            return f'{name} [shape=box, style="rounded,filled", color="{SOFT}", fillcolor="#e8ecf3", fontsize=10, margin="0.1,0.03", label="{_quote(box.title)}"];'
        case _:
            return f'{name} [{tag}tooltip="{_quote(box.title)}", label=<{_card(box, overlay, faded)}>];'


def _card(box: Box, overlay: Overlay | None, faded: bool) -> str:
    """A state as a small table: a coloured bar, its name and badges, what it does."""
    visits = overlay.states.get(box.path, 0) if overlay else 0
    ends = box.kind in ("final", "failed")
    accent = (RED if box.kind == "failed" else GREEN) if ends else _ACCENT.get(box.does, SOFT)
    fill = {"final": "#e7f5ec", "failed": "#fdeaea"}.get(box.kind, PAPER)
    ink, soft = (FAINT, FAINT) if faded else (INK, SOFT)
    border, width = (FAINT if faded else accent), 1
    if box.effect == "irreversible":
        fill, accent, border, width = "#fff0f0", RED, (FAINT if faded else RED), 2
    if overlay and box.path in overlay.current:
        fill, border, width = (
            ("#ffe1e1" if overlay.alarming else "#fff3c4"),
            (RED if overlay.alarming else "#d69e00"),
            3,
        )
    if overlay and overlay.coverage:
        ink, soft, faded = INK, SOFT, False
        fill, border, width = (PAPER, GREEN, 2) if visits else ("#fdeaea", RED, 2)
    bar = FAINT if faded else accent
    title = f"<b>{_esc(box.title)}</b>"
    badge = _badge(box, faded)
    count = f' <font color="{SOFT}" point-size="9">×{visits}</font>' if visits > 1 else ""
    head = f'<tr><td align="left" balign="left"><font color="{ink}">{title}</font>{count}{badge}</td></tr>'
    rows = [head]
    for n, line in enumerate(box.lines):
        verb = _VERB.get(box.does, box.does) if n == 0 and not ends else ""
        said = f'<font color="{bar}"><b>{verb}</b></font> ' if verb else ""
        wrapped = '<br align="left"/>'.join(_esc(part) for part in textwrap.wrap(line, 44) or [""])
        rows.append(
            f'<tr><td align="left" balign="left"><font point-size="9.5" color="{soft}">{said}{wrapped}</font></td></tr>'
        )
    inner = f'<table border="0" cellborder="0" cellspacing="0" cellpadding="2">{"".join(rows)}</table>'
    style = ' style="rounded"'
    return (
        f'<table border="{width}" color="{border}" bgcolor="{fill}" cellborder="0" cellspacing="5" cellpadding="0"{style}>'
        f'<tr><td bgcolor="{bar}" width="4"></td><td>{inner}</td></tr></table>'
    )


def _badge(box: Box, faded: bool) -> str:
    if box.effect not in _EFFECT:
        return ""
    colour, text = _EFFECT[box.effect]
    granted = f' <font point-size="8.5" color="{FAINT if faded else VIOLET}">approved</font>' if box.approved else ""
    return f'   <font point-size="8.5" color="{FAINT if faded else colour}">{text}</font>{granted}'


def _tag(graph: nx.MultiDiGraph, source: str, target: str, arrows: list[Arrow], overlay: Overlay | None) -> list[str]:
    """The ways of trouble from one state to another as a small tag at its side: `timeout, after 2× → escalated`."""
    colour = _shades(overlay)[1] if overlay is not None else _EDGE[arrows[0].kind][0]
    said = ", ".join(a.label + (f" ≤ {a.limit}×" if a.limit is not None else "") for a in arrows)
    name = _id(f"{source}\x00tag {arrows[0].kind in _ASIDE} {target}")
    text = "<br/>".join(_esc(part) for part in textwrap.wrap(f"{said} → {graph.nodes[target]['box'].title}", 30))
    node = (
        f'  {name} [shape=box, style="rounded,dashed", color="{colour}", fontcolor="{colour}", fontsize=8.5, height=0.1, '
        f'margin="0.06,0.02", label=<{text}>];'
    )
    edge = f'  {_id(source)} -> {name} [style=dashed, color="{colour}", arrowhead=none, weight=20];'
    beside = f"  {{ rank=same; {_id(source)}; {name}; }}"
    # Inside a frame a rank constraint would pull the state out of it; there the tag simply stands below.
    return [node, edge] if graph.nodes[source]["box"].cluster else [node, edge, beside]


def _spine(graph: nx.MultiDiGraph) -> set[tuple[str, str]]:
    """From each state the edge to the one written next, if there is one: in the order of the program the drawing
    goes straight down."""
    order = {node: n for n, node in enumerate(graph)}
    found: set[tuple[str, str]] = set()
    for source in graph:
        ways = [(t, a) for _, t, a in graph.out_edges(source, data="arrow") if a.kind not in _ASIDE and a.id]
        later = [(order[t], a.id) for t, a in ways if order[t] > order[source]]
        if later:
            found.add((source, min(later)[1]))
    return found


def _clipped(graph: nx.MultiDiGraph, source: str, target: str) -> str:
    """A way into or out of a branch ends at its frame, whose title it would cross."""
    kinds = {c.path: c.kind for c in graph.graph["clusters"]}
    tail, head = graph.nodes[source]["box"].cluster, graph.nodes[target]["box"].cluster
    if kinds.get(head) == "branch" and not tail.startswith(head):
        return f"lhead={_id('cluster ' + head)}"
    if kinds.get(tail) == "branch" and not head.startswith(tail):
        return f"ltail={_id('cluster ' + tail)}"
    return ""


def _edge(source: str, target: str, arrow: Arrow, overlay: Overlay | None, straight: bool, clipped: str = "") -> str:
    colour, style, width = _EDGE[arrow.kind]
    state = source.removesuffix(JOIN)
    taken = _taken(overlay, source, arrow)
    if overlay is not None:
        on, off = _shades(overlay)
        if _passed(overlay, source, target, arrow):
            colour, width = on, 2.0 if overlay.coverage else 3.0
        else:
            colour = off
    attributes = [f'color="{colour}"', f"style={style}", f"penwidth={width}", clipped]
    faint = _shades(overlay)[1] if overlay is not None and not taken else ""
    label = _edge_label(arrow, taken, faint or SOFT)
    if label:
        shade = faint or (colour if arrow.kind in _ASIDE or arrow.kind == "option" else INK)
        attributes.append(f'fontcolor="{shade}"')
        attributes.append(f"label=<{label}>")
    if arrow.kind in _ASIDE:
        # Trouble hangs off the main way: it may not decide the ranks that the eye follows downwards.
        attributes.append(f"weight={1 if arrow.kind in ('handler', 'exceeded') else 0}")
    else:
        attributes.append(f"weight={40 if straight else 8 if arrow.kind in ('main', 'join') else 4}")
    tag = f"edge {state} {arrow.id}"
    attributes.append(f'id="{_esc(tag)}"' if arrow.id else "")
    return f"{_id(source)} -> {_id(target)} [{', '.join(a for a in attributes if a)}];"


def _edge_label(arrow: Arrow, taken: int, soft: str) -> str:
    lines = _balanced(arrow.label, 34)
    label = "<br/>".join(f" {_esc(part)} " for part in lines)
    if arrow.kind == "option":
        label = f"<b>{label}</b>"
    if arrow.turn:
        label = f'<font color="{soft}" point-size="8.5"> {arrow.turn}.</font>{label}'
    if arrow.limit is not None:
        label += f'{" " if label else ""}<font color="{soft}" point-size="8.5"> ≤ {arrow.limit}× </font>'
    for text in arrow.sets:
        for part in _balanced(_cut(text, 72), 40):
            label += f'<br/><font color="{soft}" point-size="8.5"> {_esc(part)} </font>'
    if taken > 1:
        label += f'<font point-size="9"><b> ×{taken} </b></font>'
    return label


def _header(graph: nx.MultiDiGraph, overlay: Overlay | None) -> str:
    """The card above the drawing: the agent, what goes in and out, its budget and policy, how to read the colours."""
    agent: d.Agent = graph.graph["agent"]
    version = (
        f' <font color="{SOFT}" point-size="11">version {agent.version}</font>' if agent.version is not None else ""
    )
    rows = [f'<tr><td align="left"><font point-size="17"><b>{_esc(agent.name)}</b></font>{version}</td></tr>']
    if overlay and overlay.title:
        rows.append(
            f'<tr><td align="left"><font point-size="11" color="{RED if overlay.alarming else GREEN if overlay.coverage else AMBER}"><b>{_esc(overlay.title)}</b></font>{_legend(overlay)}</td></tr>'
        )
    facts = _rows("takes", [f"{f.name}: {readable.type_text(f.type)}" for f in agent.inputs])
    facts += _rows("gives", [f"{f.name}: {readable.type_text(f.type)}" for f in agent.outputs])
    facts += _rows("hears", [_message(name, message) for name, message in agent.events.items()])
    facts += _rows("tells", [_message(name, message) for name, message in agent.emits.items()])
    if agent.finally_ is not None:
        # It stands for no place in the graph: it is done at every end, wherever that is.
        calls = (s.action for s in agent.finally_.states if isinstance(s, d.State))
        facts += _rows("at every end", [line for a in calls for line in describe(graph.graph["definition"], a)[1]])
    if agent.budget:
        parts = readable.limits(agent.budget.limits)
        kept = readable.limits(agent.budget.reserve)
        parts += [f"of which reserved: {', '.join(kept)}"] if kept else []
        facts += _rows("budget", parts)
    if agent.rules is not None:
        # A reviewer asks first what is forbidden or needs a person; the allows are one line.
        allows = [r for r in agent.rules if r.kind == "allow" and r.when is None and not r.because]
        rest = [readable.rule(r) for r in agent.rules if r not in allows]
        plain = ", ".join(readable.tool_set(r.tools) for r in allows)
        facts += _rows("policy", [*([f"allow {plain}"] if plain else []), *rest], each=True)
    if facts:
        table = f'<table border="0" cellborder="0" cellspacing="0" cellpadding="2">{"".join(facts)}</table>'
        rows.append(f'<tr><td align="left">{table}</td></tr>')
    rows.append(
        f'<tr><td align="left"><font point-size="8.5" color="{SOFT}">'
        f'<font color="{BLUE}">■</font> call  <font color="{TEAL}">■</font> think  <font color="{VIOLET}">■</font> a person decides  '
        f'<font color="{RED}">■ irreversible</font>  <font color="{GREEN}">■</font> ends well  <font color="{RED}">- - error, denied, in doubt</font>  '
        f'<font color="{AMBER}">- - timeout, budget</font>  ·· limit used up</font></td></tr>'
    )
    return f'<table border="0" cellborder="0" cellspacing="0" cellpadding="2">{"".join(rows)}</table>'


def _legend(overlay: Overlay) -> str:
    if not overlay.coverage:
        return ""
    return (
        f'<font point-size="9">   <font color="{GREEN}">■</font> passed  <font color="{RED}">■ not passed</font></font>'
    )


def _message(name: str, message: d.Message) -> str:
    return f"{name}({', '.join(f'{f.name}: {readable.type_text(f.type)}' for f in message.fields)})"


def _rows(title: str, parts: Iterable[str], *, each: bool = False) -> list[str]:
    parts = list(parts)
    if not parts:
        return []
    lines = parts if each else textwrap.wrap(" · ".join(parts), 110)
    wrapped = [piece for line in lines for piece in textwrap.wrap(line, 110, subsequent_indent="    ")]
    text = '<br align="left"/>'.join(_esc(line) for line in wrapped)
    # One cell, the title above its lines: a second column would be pulled as wide as the widest row of the card.
    head = f'<font color="{SOFT}">{title}</font>' + ('<br align="left"/>' if each else "  ")
    return [f'<tr><td align="left" balign="left"><font point-size="9.5">{head}{text}</font></td></tr>']


def _balanced(text: str, width: int) -> list[str]:
    """Lines of at most `width` characters, as few as can be and of about one length: no last line of one word."""
    lines = textwrap.wrap(text, width)
    shortest = max([12, *map(len, text.split())])
    while width > shortest and len(shorter := textwrap.wrap(text, width - 1)) <= len(lines):
        lines, width = shorter, width - 1
    return lines


def _id(path: str) -> str:
    return '"' + _quote(path.replace("\x00", "*")) + '"'


def _quote(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def _esc(text: str) -> str:
    return html.escape(text.replace("\x00", "*"), quote=True)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
