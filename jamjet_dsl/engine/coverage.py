"""Coverage: which states and edges of agents their tests pass, which they do not (JAM904), and the drawing of both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jamjet_dsl import definition as d
from jamjet_dsl.diagnostics.model import Diagnostic
from jamjet_dsl.engine.passed import EXCEEDED, Part, Passed, handlers_of, parts_of, states_of
from jamjet_dsl.render import readable
from jamjet_dsl.source import SourceFile, Span

if TYPE_CHECKING:
    from jamjet_dsl.render.graph import Overlay


@dataclass(slots=True)
class Coverage:
    """What tests have passed of one agent. `compiled` is its program, `passed` counts parts of this agent only."""

    compiled: d.Compiled
    passed: Passed = field(default_factory=Counter)

    @property
    def agent(self) -> d.Agent:
        """The agent that is looked at."""
        return self.compiled.definition.agent

    @property
    def states(self) -> tuple[int, int]:
        """How many states were passed, and how many there are."""
        return self._counted(part for part in parts_of(self.agent) if not part.edge)

    @property
    def edges(self) -> tuple[int, int]:
        """How many edges were passed, and how many there are."""
        return self._counted(part for part in parts_of(self.agent) if part.edge)

    def _counted(self, parts: Iterable[Part]) -> tuple[int, int]:
        hits = [self.passed[part] > 0 for part in parts]
        return sum(hits), len(hits)

    def add(self, passed: Passed, name: str | None = None) -> None:
        """What one more run has passed; `name` is what its program calls the agent, where it is another program."""
        agent = self.agent.name
        for part, times in passed.items():
            if part.agent == (name or agent):
                self.passed[part._replace(agent=agent)] += times

    def missing(self) -> list[Part]:
        """What no test passes, in the order of the program."""
        return [part for part in parts_of(self.agent) if not self.passed[part]]

    def findings(self, folder: str = "") -> list[Diagnostic]:
        """JAM904 of each missing part, in the order of the program. `folder` stands before the names of files."""
        return [self._finding(part, folder) for part in self.missing()]

    def _finding(self, part: Part, folder: str) -> Diagnostic:
        what = named(self.agent, part)
        message = f"no test takes {what}" if part.edge else f"no test enters {what}"
        return Diagnostic("JAM904", message, self._span(part, folder), agent=self.agent.name)

    def _span(self, part: Part, folder: str) -> Span:
        spans = self.compiled.spans
        key = "/".join(filter(None, (part.agent, part.state, part.edge.removesuffix("!"))))
        place = spans.get(key) or spans[part.agent]
        text = self.compiled.sources.get(place.file, "")
        source = SourceFile(folder + place.file, text)
        lines = text.split("\n")

        def offset(line: int, column: int) -> int:
            return sum(len(row) + 1 for row in lines[: line - 1]) + column - 1

        start = offset(place.line, place.column)
        if not part.edge:  # a state is as long as all that stands in it: its first line names it
            return Span(source, start, min(offset(place.end_line, place.end_column), offset(place.line + 1, 1) - 1))
        return Span(source, start, offset(place.end_line, place.end_column))

    def overlay(self) -> Overlay:
        """What was passed and what was not, to be drawn over the diagram."""
        from jamjet_dsl.render.graph import ANY_STATE, BUDGET, Overlay

        states, edges = self.states, self.edges
        title = f"tests pass {_of(states, 'states')} and {_of(edges, 'edges')}"
        drawn = Overlay(title=title, coverage=True)
        handlers = {part.edge: f"handler:{h.trigger}#{n}" for n, (part, h) in enumerate(handlers_of(self.agent))}
        for part, times in self.passed.items():
            if not part.edge:
                drawn.states[part.state] = times
            elif part.state:
                drawn.edges[(part.state, part.edge)] = times
            elif part.edge == EXCEEDED:
                drawn.edges[(BUDGET, EXCEEDED)] = times
            else:
                drawn.edges[(ANY_STATE, handlers[part.edge])] = times
        return drawn


def named(agent: d.Agent, part: Part) -> str:
    """A part of an agent in words: "the edge `on approve` of `review`"."""
    if not part.edge:
        return f"`{_place(part.state)}`"
    if not part.state:
        if part.edge == EXCEEDED:
            return "the edge `exceeded` of the budget"
        handler = next(h for known, h in handlers_of(agent) if known == part)
        return f"the edge `{_trigger(handler.trigger, handler.errors)}` of `{agent.name}`"
    state = next(s for path, s in states_of(agent.body) if path == part.state)
    assert isinstance(state, d.State)
    edge = next(e for e in state.edges if e.id == part.edge.removesuffix("!"))
    text = f"`{_edge_text(edge)}` of `{_place(part.state)}`"
    return f"the `else` of the limit of {text}" if part.edge.endswith("!") else f"the edge {text}"


def _edge_text(edge: d.Edge) -> str:
    match edge.trigger:
        case "always":
            return "->"
        case "when" if edge.guard is not None:
            return f"when {readable.expression(edge.guard)}"
        case "otherwise":
            return "otherwise"
        case "option":
            return f"on {edge.option}"
        case "event":
            return f"on event {edge.event}"
        case trigger:
            return _trigger(trigger, edge.errors)


def _trigger(trigger: str, errors: tuple[str, ...]) -> str:
    return " ".join(filter(None, ("on", trigger, ", ".join(errors))))


def _place(path: str) -> str:
    """The path of a state as people say it: the one state of a plain body is called like its branch."""
    parts = path.split("/")
    return "/".join(part for n, part in enumerate(parts) if part != "do" or n == 0)


def percent(hits: int, all_: int) -> float:
    """How much of all that is, in percent; 100 where there is nothing."""
    return 100.0 * hits / all_ if all_ else 100.0


def _of(counted: tuple[int, int], what: str) -> str:
    hits, all_ = counted
    return f"{hits} of {all_} {what}"
