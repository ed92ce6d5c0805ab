"""A definition as a networkx graph: what every drawing is made from.

Nodes are states by their path (`STATE`, or `STATE/BRANCH/INNER` inside a parallel or an each), plus a few
helpers that exist only in drawings: the start mark, the join of a parallel, `any state` for the handlers of
the whole agent, and the budget. Node and edge attributes are `Box` and `Arrow`; the graph's own attributes
hold the agent's name and the clusters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import networkx as nx

from jamjet_dsl import definition as d
from jamjet_dsl.render import readable

START = "\x00start"
ANY_STATE = "\x00any"
BUDGET = "\x00budget"
JOIN = "/\x00join"
ANONYMOUS = "do"
"""What the compiler calls the only state of a branch or item."""


@dataclass(frozen=True, slots=True)
class Box:
    """A state to draw.

    `kind`: state, final, failed, start, join, any, budget. `does` names the action (call, think, ask, …, or empty),
    `lines` say what it does, `effect` is the class of the call it makes, `approved` that a person granted it.
    """

    path: str
    title: str
    kind: str
    does: str = ""
    lines: tuple[str, ...] = ()
    effect: str = ""
    approved: bool = False
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class Arrow:
    """An edge to draw.

    `kind`: main (the ordinary way on), guard, option, event, join, error, timeout, denied, in_doubt, else
    (a limit is used up), handler, exceeded, inner (into and out of a branch or item). `id` is definition.Edge.id.
    `turn` is the place of a guard among several, from 1.
    """

    id: str
    kind: str
    label: str = ""
    limit: int | None = None
    sets: tuple[str, ...] = ()
    turn: int = 0


@dataclass(frozen=True, slots=True)
class Cluster:
    """A frame around the states of a parallel, a branch or an each."""

    path: str
    parent: str
    title: str
    kind: str


@dataclass(slots=True)
class Overlay:
    """Which way a run, or the path of a finding, took, or what tests have passed (`coverage`: then what they have not
    is drawn as strongly). Keys of `edges` are (state path, edge id)."""

    states: dict[str, int] = field(default_factory=dict)
    edges: dict[tuple[str, str], int] = field(default_factory=dict)
    current: tuple[str, ...] = ()
    title: str = ""
    alarming: bool = False
    coverage: bool = False


_TROUBLE = {"error": "error", "timeout": "timeout", "denied": "denied", "in_doubt": "in_doubt"}


def build(compiled: d.Compiled | d.Definition, agent: str | None = None) -> nx.MultiDiGraph:
    """The graph of one agent of a definition (the main one unless named).

    Graph attributes: `definition`, `agent` (the d.Agent), `clusters` (a list of Cluster). Raises KeyError for an
    agent that the definition does not have.
    """
    definition = compiled.definition if isinstance(compiled, d.Compiled) else compiled
    wanted = definition.agents[agent or definition.main]
    graph = nx.MultiDiGraph(definition=definition, agent=wanted, clusters=[])
    _region(graph, definition, wanted.body, "", "")
    graph.add_node(START, box=Box(START, "", "start"))
    graph.add_edge(START, wanted.body.start, arrow=Arrow("", "main"))
    _handlers(graph, wanted)
    return graph


def _region(graph: nx.MultiDiGraph, definition: d.Definition, region: d.Region, prefix: str, cluster: str) -> None:
    for state in region.states:
        path = f"{prefix}{state.name}"
        if isinstance(state, d.Final):
            outputs = tuple(f"{k} = {readable.expression(v)}" for k, v in state.outputs.items())
            kind = "failed" if state.failed else "final"
            graph.add_node(path, box=Box(path, state.name, kind, lines=outputs, cluster=cluster))
        else:
            _state(graph, definition, state, path, cluster)
    for state in region.states:
        if isinstance(state, d.State):
            path = f"{prefix}{state.name}"
            leaves = f"{path}{JOIN}" if isinstance(state.action, d.Parallel | d.Each) else path
            for place, edge in enumerate(state.edges):
                _edge(graph, edge, leaves, prefix, cluster, _turn(state.edges, place))


def _state(graph: nx.MultiDiGraph, definition: d.Definition, state: d.State, path: str, cluster: str) -> None:
    """Adds a state; for a parallel and an each also the states inside."""
    does, lines, effect, approved = describe(definition, state.action, graph.graph["agent"])
    lines += tuple(f"set {'.'.join(s.path)} = {readable.expression(s.value)}" for s in state.sets)
    if state.yields is not None and state.yields != ["var", "result"]:
        lines += (f"yields {readable.expression(state.yields)}",)
    inner = cluster
    action = state.action
    name = _title(graph, state.name, path)
    if isinstance(action, d.Parallel | d.Each):
        inner = path
        title = name if isinstance(action, d.Parallel) else f"for each {action.item}"
        graph.graph["clusters"].append(Cluster(path, cluster, title, does))
    graph.add_node(path, box=Box(path, name, "state", does, lines, effect, approved, inner))
    if isinstance(action, d.Parallel):
        join = path + JOIN
        graph.add_node(join, box=Box(join, _join_text(action), "join", cluster=inner))
        for branch in action.branches:
            frame = f"{path}/{branch.name}"
            title = f"branch {branch.name}" + (f" as {branch.bind}" if branch.bind else "")
            graph.graph["clusters"].append(Cluster(frame, path, title, "branch"))
            _body(graph, definition, branch.body, path, f"{frame}/", frame)
    elif isinstance(action, d.Each):
        bind = f" → {action.bind}" if action.bind else ""
        graph.add_node(path + JOIN, box=Box(path + JOIN, f"all items{bind}", "join", cluster=inner))
        _body(graph, definition, action.body, path, f"{path}/each/", path)


def _title(graph: nx.MultiDiGraph, name: str, path: str) -> str:
    """The name of a state. The one state of a branch or item has none of its own; people know it by the frame's."""
    if name != ANONYMOUS or "/" not in path:
        return name
    frame = path.rsplit("/", 2)[-2]
    if frame != "each":
        return frame
    around = path.rsplit("/", 2)[0]
    return next((c.title.removeprefix("for ") for c in graph.graph["clusters"] if c.path == around), frame)


def _body(graph: nx.MultiDiGraph, definition: d.Definition, body: d.Region, path: str, prefix: str, frame: str) -> None:
    """The states of a branch or item of the state at `path`, and the ways into and out of them."""
    _region(graph, definition, body, prefix, frame)
    graph.add_edge(path, f"{prefix}{body.start}", arrow=Arrow("", "inner"))
    for leaf in _leaves(body):
        foot = f"{prefix}{leaf}{JOIN}"
        graph.add_edge(foot if foot in graph else f"{prefix}{leaf}", path + JOIN, arrow=Arrow("", "inner"))
    for state in body.states:
        for edge in state.edges if isinstance(state, d.State) else ():
            if edge.target is None and not edge.skip:
                source = f"{prefix}{state.name}"
                source = f"{source}{JOIN}" if f"{source}{JOIN}" in graph else source
                graph.add_edge(_end(source, edge), path + JOIN, arrow=Arrow("", "inner"))


def _end(source: str, edge: d.Edge) -> str:
    """The node of an edge that ends an item or branch."""
    return f"{source}/\x00{edge.id}"


def _leaves(region: d.Region) -> list[str]:
    """The states of a branch or item in which it ends well: finals, and states without an edge for that case."""
    onward = ("always", "when", "otherwise", "join", "option")
    return [s.name for s in region.states if isinstance(s, d.Final) or not any(e.trigger in onward for e in s.edges)]


def _join_text(action: d.Parallel) -> str:
    count = len(action.branches)
    need = "all" if action.need == count else "any" if action.need == 1 else f"{action.need} of {count}"
    return f"join {need}" + (f" within {readable.duration(action.within_ms)}" if action.within_ms is not None else "")


def trigger_text(edge: d.Edge) -> str:
    """What an edge waits for, in words."""
    match edge.trigger:
        case "always":
            return ""
        case "when" if edge.guard is not None:
            return readable.expression(edge.guard)
        case "error":
            return "error " + ", ".join(edge.errors)
        case "event":
            return f"event {edge.event}"
        case "option":
            return f"{edge.option}"
        case "in_doubt":
            return "in doubt"
        case other:
            return other


def _turn(edges: tuple[d.Edge, ...], place: int) -> int:
    """The turn of a guard among those of its state, from 1, since the first that holds is taken; 0 if it is alone."""
    turns = [n for n, edge in enumerate(edges) if edge.trigger == "when"]
    return turns.index(place) + 1 if len(turns) > 1 and place in turns else 0


def _edge(graph: nx.MultiDiGraph, edge: d.Edge, source: str, prefix: str, cluster: str, turn: int) -> None:
    kind = _TROUBLE.get(edge.trigger) or {"when": "guard", "otherwise": "guard", "option": "option",
                                          "event": "event", "join": "join"}.get(edge.trigger, "main")  # fmt: skip
    sets = tuple(f"{'.'.join(s.path)} = {readable.expression(s.value)}" for s in edge.sets)
    label = trigger_text(edge)
    if edge.target is None:
        ends = "skip" if edge.skip else f"yields {readable.expression(edge.yields or ['null'])}"
        path = _end(source, edge)
        graph.add_node(path, box=Box(path, ends, "end", cluster=cluster))
        graph.add_edge(source, path, arrow=Arrow(edge.id, kind, label, turn=turn))
        return
    graph.add_edge(source, f"{prefix}{edge.target}", arrow=Arrow(edge.id, kind, label, edge.limit, sets, turn))
    if edge.limit is not None and edge.limit_to is not None:
        graph.add_edge(source, f"{prefix}{edge.limit_to}", arrow=Arrow(f"{edge.id}!", "else", f"after {edge.limit}×"))


def _handlers(graph: nx.MultiDiGraph, agent: d.Agent) -> None:
    """Handlers of the whole agent leave from one mark instead of from every state, or nobody could read it."""
    if agent.handlers:
        graph.add_node(ANY_STATE, box=Box(ANY_STATE, "any state", "any"))
    for n, handler in enumerate(agent.handlers):
        label = (
            f"error {', '.join(handler.errors)}" if handler.trigger == "error" else handler.trigger.replace("_", " ")
        )
        graph.add_edge(ANY_STATE, handler.target, arrow=Arrow(f"handler:{handler.trigger}#{n}", "handler", label))
    if agent.budget and agent.budget.exceeded:
        graph.add_node(BUDGET, box=Box(BUDGET, "budget", "budget", lines=tuple(readable.limits(agent.budget.limits))))
        graph.add_edge(BUDGET, agent.budget.exceeded, arrow=Arrow("exceeded", "exceeded", "exceeded"))


def _args(given: Mapping[str, d.ExprJson], declared: Iterable[d.FieldDef]) -> str:
    """Arguments in the order of the declaration. A definition that was stored has them in the order of their names."""
    order = {field.name: n for n, field in enumerate(declared)}
    names = sorted(given, key=lambda name: order.get(name, len(order)))
    return ", ".join(readable.expression(given[name]) for name in names)


def describe(
    definition: d.Definition, action: Any, agent: d.Agent | None = None
) -> tuple[str, tuple[str, ...], str, bool]:
    """What an action does: its kind, lines of text, the effect class of its call, and whether a person granted it.

    With the agent, a proposed call has the class of what the agent's policy can let through without a person.
    """
    lines: tuple[str, ...]
    match action:
        case None:
            return "", (), "", False
        case d.Call():
            args = action.args_map
            text = f"{action.tool}({_args(action.args, definition.tools[action.tool].params)})"
            text = f"{action.tool} with {readable.expression(args)}" if args is not None else text
            return "call", (text, *_extras(action)), definition.tools[action.tool].effect, False
        case d.CallProposed():
            tools = [t for t in action.tools if agent is None or not _needs_a_person(definition, agent, t)]
            lines = (f"what {action.move} proposes",)
            if tools:
                lines += (f"one of {', '.join(tools)}" if len(tools) > 1 else f"only {tools[0]}",)
            return "call", (*lines, *_extras(action)), _worst(definition, tools), False
        case d.CallApproved():
            tools = [action.tool] if action.tool else _granted(definition, action.asks)
            name = action.tool or "the approved call"
            return "approved", (name, *_extras(action)), _worst(definition, tools), True
        case d.Think():
            lines = (f"“{_short(readable.expression(action.prompt))}”",)
            if action.tools:
                lines += (f"may propose {', '.join(action.tools)}",)
            if action.model:
                lines += (
                    f"model {action.model}"
                    + (f", ≤ {readable.quantity(action.max_tokens)} tokens" if action.max_tokens else ""),
                )
            return "think", (*lines, *_extras(action)), "", False
        case d.Ask():
            lines = (f"“{_short(readable.expression(action.text))}”", f"role {action.role}")
            if action.call:
                call = action.call
                lines += (f"for {call.tool}({_args(call.args, definition.tools[call.tool].params)})",)
            elif action.proposed:
                lines += (f"for what {action.proposed} proposes",)
            return "ask", (*lines, *_extras(action)), "", False
        case d.RunAgent():
            given = _args(action.args, definition.agents[action.agent].inputs)
            return "run", (f"{action.agent}({given})",), "", False
        case d.Each():
            once = f", {action.at_once} at once" if action.at_once > 1 else ""
            return "each", (f"{action.item} in {readable.expression(action.source)}{once}",), "", False
        case d.Wait():
            return "wait", (_wait(action), *_extras(action)), "", False
        case d.Emit():
            said = agent.emits.get(action.message) if agent is not None else None
            given = _args(action.args, said.fields if said is not None else ())
            return "emit", (f"{action.message}({given})",), "", False
        case d.UndoAll():
            return "undo", ("what was done, in reverse",), "", False
        case d.Parallel():
            return "parallel", (), "", False
    return "", (), "", False


def _wait(action: d.Wait) -> str:
    if action.duration_ms is not None:
        return readable.duration(action.duration_ms)
    if action.until is not None:
        return f"until {readable.expression(action.until)}"
    return f"for event {action.event}"


def _extras(action: Any) -> tuple[str, ...]:
    """Timeout and retries: what a reviewer asks next."""
    parts = []
    if action.timeout_ms is not None:
        parts.append(f"timeout {readable.duration(action.timeout_ms)}")
    for retry in getattr(action, "retry", ()):
        parts.append(f"retry {', '.join(retry.errors)} {retry.times}×")
    return (" · ".join(parts),) if parts else ()


def _needs_a_person(definition: d.Definition, agent: d.Agent, tool: str) -> bool:
    """Whether the policy denies every call of a tool that nobody approved: then no proposed call performs it."""
    effect = definition.tools[tool].effect
    speaking = [
        r
        for r in agent.rules or ()
        if r.tools is not None and (tool in r.tools.names or "any" in r.tools.classes or effect in r.tools.classes)
    ]
    if any(r.kind in ("require_ask", "require_people") and r.when is None for r in speaking):
        return True
    return effect == "irreversible" and not any(r.kind == "allow" and r.because for r in speaking)


def _worst(definition: d.Definition, tools: Iterable[str]) -> str:
    order = ("reads", "writes", "irreversible")
    ranks = [order.index(definition.tools[t].effect) for t in tools if t in definition.tools]
    return order[max(ranks)] if ranks else ""


def _granted(definition: d.Definition, asks: Iterable[str]) -> list[str]:
    found: list[str] = []
    for agent in definition.agents.values():
        for state in agent.body.states:
            if state.name in asks and isinstance(state, d.State) and isinstance(state.action, d.Ask):
                found += [state.action.call.tool] if state.action.call else list(state.action.tools)
    return found


def _short(text: str, width: int = 84) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"


def overlay_of_run(events: Iterable[Mapping[str, Any]], title: str = "") -> Overlay:
    """The way a run took, from its journal (mappings with kind and body): through its states and those of its branches
    and items, all items of a list together. What happens in agents that it runs is not in its picture."""
    overlay = Overlay(title=title)
    current: dict[str, str] = {}
    regions: dict[str, str] = {"": ""}
    for event in events:
        kind, body = event["kind"], event["body"]
        frame = body.get("frame", "")
        if kind == "begun" and body["kind"] in ("branch", "item") and body["cmd"].rpartition("#")[0] in regions:
            regions[frame] = f"{body['region']}/"
            current[frame] = target = f"{body['region']}/{body['state']}"
            overlay.states[target] = overlay.states.get(target, 0) + 1
        elif kind == "moved" and frame in regions:
            source, target = f"{regions[frame]}{body['state']}", f"{regions[frame]}{body['to']}"
            overlay.states.setdefault(source, 1)
            overlay.states[target] = overlay.states.get(target, 0) + 1
            key = (source, body["edge"])
            overlay.edges[key] = overlay.edges.get(key, 0) + 1
            current[frame] = target
        elif kind == "closed":
            current.pop(frame, None)
    overlay.current = tuple(dict.fromkeys(current.values()))
    return overlay


def overlay_of_path(steps: Iterable[tuple[str, str]], title: str = "") -> Overlay:
    """The path of a finding: (state path, edge id) pairs, the last with an empty edge."""
    overlay = Overlay(title=title, alarming=True)
    last = ""
    for state, edge in steps:
        overlay.states[state] = overlay.states.get(state, 0) + 1
        if edge:
            overlay.edges[(state, edge)] = overlay.edges.get((state, edge), 0) + 1
        last = state
    overlay.current = (last,) if last else ()
    return overlay
