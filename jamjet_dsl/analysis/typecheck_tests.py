"""`test` blocks: what they give and expect must fit the agent (JAM901)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from jamjet_dsl.analysis.asks import options_of
from jamjet_dsl.analysis.flow import ANONYMOUS
from jamjet_dsl.analysis.model import AgentInfo, FlowState, Symbol, Type
from jamjet_dsl.analysis.names import Names
from jamjet_dsl.analysis.report import Report
from jamjet_dsl.analysis.resolve_agent import AgentResolver
from jamjet_dsl.analysis.typecheck_agent import AgentChecker, end_scope
from jamjet_dsl.analysis.typecheck_expr import ExprChecker, Scope, Shapes
from jamjet_dsl.analysis.types import ANY, NULL
from jamjet_dsl.diagnostics.model import Diagnostic
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node

_AS_IS = frozenset({"JAM001", "JAM108", "JAM007", "JAM104"})


def _label(state: FlowState) -> str:
    """What a test calls a state: the one of a plain body has no name, and is called like its branch or the state around
    it."""
    parts = reversed(state.path.split("/"))
    return next((part for part in parts if part not in (ANONYMOUS, "each")), state.name)


class TestChecker:
    """Checks one test. Whatever does not fit is JAM901: the program may be right, the test is not."""

    __test__ = False  # keeps pytest from collecting it

    def __init__(
        self,
        test: ast.TestDecl,
        names: Names,
        shapes: Shapes,
        report: Report,
        agents: list[AgentChecker],
        consts: Callable[[Symbol], Type],
    ) -> None:
        self.test = test
        self.names = names
        self.report = report
        self.agents = agents
        self.consts = consts
        self.exprs = ExprChecker(names, shapes, report)
        self.exprs.one_currency = False

    def check(self) -> None:
        """Reports everything that is wrong with the test."""
        report = self.report
        start = len(report.found)
        symbol = self.names.use(self.test.agent, "agent")
        agent = next((a for a in self.agents if symbol is not None and a.info.decl is symbol.node), None)
        if agent is not None:
            self.exprs.complete = agent.exprs.complete
            missed = self.names.missed
            self._items(agent.info)
            self.names.missed = missed
        report.found[start:] = map(_as_test, report.found[start:])

    def _problem(self, node: Node, message: str, help: str = "") -> None:
        self.report.add("JAM901", node.span, message, help=help)

    def _unknown(self, node: ast.Name, what: str, candidates: Iterable[str], of: str) -> None:
        known = list(candidates)
        otherwise = f"there are {', '.join(known[:10])}" if known else ""
        help = self.report.meant(node.text, known, otherwise)
        self._problem(node, f"{of} has no {what} `{node.text}`", help)

    def _items(self, info: AgentInfo) -> None:
        states = {_label(s): s for s in info.all_states()}
        given: set[str] = set()
        agent = f"agent `{info.name.partition('@')[0]}`"
        paths = 0
        for item in self.test.items:
            match item:
                case ast.TestInput(name=name, value=value):
                    self._input(info, name, value, given, agent)
                case ast.Mock():
                    self._mock(item, states, agent)
                case ast.ExpectPath(states=names):
                    paths += 1
                    if paths > 1:
                        self._problem(item, "a test expects one path", "write the whole path once")
                    for name in names:
                        if name.text not in states:
                            self._unknown(name, "state", states, agent)
                        else:
                            self.exprs.symbols[name] = Symbol("state", name.text, states[name.text].decl)
                case ast.Expect(condition=condition):
                    self.exprs.scope = end_scope(info)
                    self.exprs.condition(condition, "what a test expects")
                case _:
                    pass
        missing = [
            f"`{name}`" for name, s in info.inputs.items() if name not in given and s.type and s.type.kind != "optional"
        ]
        if missing and not self.names.partial:
            self._problem(
                self.test.title,
                f"{agent} needs the input{'s' if len(missing) > 1 else ''} {', '.join(missing)}",
                f"add `input {missing[0][1:-1]} = …`",
            )

    def _input(self, info: AgentInfo, name: ast.Name, value: ast.Expr, given: set[str], agent: str) -> None:
        self.exprs.scope = Scope(roots=frozenset())
        symbol = info.inputs.get(name.text)
        if symbol is None or symbol.type is None:
            self._unknown(name, "input", info.inputs, agent)
            self.exprs.infer(value)
            return
        if name.text in given:
            self._problem(name, f"`{name.text}` is given twice")
        given.add(name.text)
        self.exprs.symbols[name] = symbol
        self.exprs.expect(value, symbol.type)

    # ---- mocks

    def _mock(self, mock: ast.Mock, states: dict[str, FlowState], agent: str) -> None:
        name = mock.target
        tool = self.names.scope.names.get(name.text)
        state = states.get(name.text)
        self.exprs.scope = Scope(roots=frozenset())
        if state is not None:
            self.exprs.symbols[name] = Symbol("state", name.text, state.decl)
            self._state(mock, state)
        elif tool is not None and isinstance(tool.node, ast.ToolDecl):
            self.names.find(name.text)
            self.exprs.symbols[name] = tool
            result = self.exprs.types_of(tool.node.result) if tool.node.result is not None else NULL
            self._responses(mock, result, f"tool `{name.text}`")
        elif tool is None or tool.kind != "unknown":
            self._unknown(name, "state or tool", [*states, *self.names.all_of("tool")], agent)

    def _state(self, mock: ast.Mock, state: FlowState) -> None:
        match state.action:
            case ast.ThinkAction(options=options):
                self._responses(mock, self._thought(options), f"`{state.name}`")
            case ast.RunAction():
                bind = ast.clause(state.action.options, ast.BindOpt)
                symbol = self.exprs.symbols.get(bind.name) if bind is not None else None
                self._responses(mock, symbol.type if symbol is not None and symbol.type else ANY, f"`{state.name}`")
            case ast.AskAction() as ask:
                for response in mock.responses:
                    if isinstance(response, ast.Answers):
                        self._answer(response, ask)
                    else:
                        self._problem(response, f"`{state.name}` asks a person: mock it with `answers OPTION`")
            case _:
                self._problem(
                    mock.target, f"`{state.name}` has nothing to mock", "mock a tool, or a state that thinks or asks"
                )

    def _thought(self, options: tuple[Node, ...]) -> Type:
        from jamjet_dsl.analysis.types import MOVE, STRING

        bind = ast.clause(options, ast.BindOpt)
        if ast.clause(options, ast.ToolsOpt) is not None:
            return MOVE
        if bind is not None and bind.type is not None:
            return self.exprs.types_of(bind.type)
        symbol = self.exprs.symbols.get(bind.name) if bind is not None else None
        return symbol.type if symbol is not None and symbol.type is not None else STRING

    def _responses(self, mock: ast.Mock, result: Type, what: str) -> None:
        for response in mock.responses:
            match response:
                case ast.Returns(value=value):
                    self.exprs.expect(value, result)
                case ast.Raises(error=error):
                    symbol = AgentResolver.error(self.names, error.text)
                    if symbol is None:
                        self._unknown(error, "error", self.names.errors, "the program")
                    else:
                        self.exprs.symbols[error] = symbol
                case ast.Answers():
                    self._problem(response, f"{what} is no question: mock it with `returns` or `raises`")

    def _answer(self, response: ast.Answers, ask: ast.AskAction) -> None:
        options = [name for name, _ in options_of(ask)]
        timed = ast.clause(ask.options, ast.TimeoutClause) is not None
        if response.option.text == "timeout" and timed:  # nobody answers in time
            if response.form is not None:
                self._problem(response.form, "a timeout has no form", "remove it")
            return
        if response.option.text not in options:
            options += ["timeout"] if timed else []
            self._unknown(response.option, "option", options, "this question")
        form = ast.clause(ask.options, ast.AnswerOpt)
        fields = form.fields if form is not None else ()
        shape = Type("object", fields=tuple((f.name.text, self.exprs.types_of(f.type)) for f in fields))
        if response.form is not None:
            self.exprs.expect(response.form, shape)
        elif any(self.exprs.types_of(f.type).kind != "optional" for f in fields):
            needed = ", ".join(f.name.text for f in fields if self.exprs.types_of(f.type).kind != "optional")
            self._problem(response, f"the answer needs a form with {needed}", "add it: `answers x { … }`")


def _as_test(found: Diagnostic) -> Diagnostic:
    """The same finding as one about a test."""
    if found.code in _AS_IS or found.code == "JAM901":
        return found
    return Diagnostic("JAM901", found.message, found.span, found.labels, found.why, found.help)
