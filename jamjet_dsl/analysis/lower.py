"""From a checked program to its definition, with what people need beside it."""

from __future__ import annotations

from jamjet_dsl import definition as d
from jamjet_dsl.analysis.lower_actions import ActionLowering, errors_of, trigger_name
from jamjet_dsl.analysis.lower_parts import Parts
from jamjet_dsl.analysis.lower_policy import lower_policy
from jamjet_dsl.analysis.model import AgentInfo, Analysis, FlowRegion, FlowState
from jamjet_dsl.analysis.types import ERROR
from jamjet_dsl.source import Span
from jamjet_dsl.syntax import ast


def lower(analysis: Analysis, main: AgentInfo) -> d.Compiled:
    """The definition of an agent of a program that was checked without errors, and its side tables."""
    return lower_with_places(analysis, main)[0]


def lower_with_places(analysis: Analysis, main: AgentInfo) -> tuple[d.Compiled, list[tuple[d.ExprJson, Span]]]:
    """As `lower`; and every expression in it with its place in the source.

    The same program gives the same bytes: everything is gone through in the order of the source.
    """
    parts = Parts(analysis)
    infos = {info.decl: info for info in analysis.agents}
    parts.agents.append(main.decl)
    agents: dict[str, d.Agent] = {}
    for decl in parts.agents:  # grows while child agents are met
        info = infos[decl]
        parts.currency = info.currency or "USD"
        agents[info.name] = AgentLowering(info, parts).agent()
    definition = d.Definition(
        main=main.name,
        agents=agents,
        tools={name: tool for name, tool in parts.tools.items() if tool is not None},
        models=parts.models,
        records=parts.records,
        enums=parts.enums,
        fns={name: fn for name, fn in parts.fns.items() if fn is not None},
    )
    spans, docs = dict(parts.spans), dict(parts.docs)
    parts.currency = main.currency or "USD"
    tests = tuple(_test(t, parts) for t in _tests_of(analysis, main))
    compiled = d.Compiled(
        definition=definition,
        sources={parts.file(f.program.source.name): f.program.source.text for f in analysis.files},
        spans=spans,
        docs=docs,
        tests=tests,
        test_fns={name: fn for name, fn in parts.fns.items() if fn is not None and name not in definition.fns},
    )
    return compiled, parts.lowered


class AgentLowering:
    """Lowers one agent."""

    def __init__(self, info: AgentInfo, parts: Parts) -> None:
        self.info = info
        self.parts = parts
        self.actions = ActionLowering(info, parts, self.region)

    def agent(self) -> d.Agent:
        """The agent, its places and doc comments noted."""
        info, parts = self.info, self.parts
        members = info.decl.members
        parts.note(info.name, info.decl.span, info.decl.doc)
        assert info.flow is not None
        seen: dict[str, int] = {}
        for handler in info.handlers:
            trigger = trigger_name(handler.trigger)
            at = seen[trigger] = seen.get(trigger, -1) + 1
            parts.note(f"{info.name}/agent on {trigger}#{at}", handler.span)
        if info.budget is not None and (exceeded := ast.clause(info.budget.items, ast.ExceededClause)) is not None:
            parts.note(f"{info.name}/exceeded", exceeded.span)
        events = ((m.name.text, m.params) for m in ast.clauses(members, ast.EventDecl))
        emits = ((m.name.text, m.params) for m in ast.clauses(members, ast.EmitsDecl))
        return d.Agent(
            name=info.name,
            version=info.decl.version,
            inputs=parts.fields(p for m in ast.clauses(members, ast.InputDecl) for p in m.params),
            outputs=parts.fields(p for m in ast.clauses(members, ast.OutputDecl) for p in m.params),
            vars=self._vars(),
            events={name: d.Message(fields=parts.fields(params)) for name, params in events},
            emits={name: d.Message(fields=parts.fields(params)) for name, params in emits},
            currency=info.currency or "USD",
            budget=self.actions.budget(info.budget) if info.budget is not None else None,
            rules=lower_policy(info, parts) if info.policy is not None else None,
            handlers=tuple(self._handler(h) for h in info.handlers),
            finally_=self._finally(info.finally_) if info.finally_ is not None else None,
            migrations=tuple(
                d.MigrationDef(from_version=m.version, states={s.old.text: s.new.text for s in m.states})
                for m in ast.clauses(members, ast.Migration)
            ),
            body=self.region(info.flow),
        )

    def _vars(self) -> tuple[d.VarDef, ...]:
        found = []
        for symbol in self.info.vars.values():
            init = symbol.node.init if isinstance(symbol.node, ast.VarDecl) else None
            assert symbol.type is not None
            assert symbol.type != ERROR
            found.append(
                d.VarDef(
                    name=symbol.name,
                    type=self.parts.type(symbol.type),
                    init=self.parts.expr(init) if init is not None else None,
                )
            )
        return tuple(found)

    def _handler(self, handler: ast.Handler) -> d.HandlerDef:
        return d.HandlerDef.model_validate(
            {
                "trigger": trigger_name(handler.trigger),
                "errors": errors_of(handler.trigger),
                "target": handler.target.text,
            }
        )

    def _finally(self, node: ast.Finally) -> d.Region | None:
        """The calls of `finally` one after the other; each goes on to the next whatever becomes of it."""
        calls = ast.clauses(node.body, ast.CallAction)
        if not calls:
            return None
        names = [f"finally_{n}" for n in range(1, len(calls) + 1)]
        states: list[d.State | d.Final] = []
        holder = FlowRegion("agent", "finally", None)
        for name, call, next_ in zip(names, calls, [*names[1:], "finally_end"], strict=True):
            flow = FlowState(name, name, node, holder, call, (call,))
            edges = [d.Edge(id="on error#0", trigger="error", errors=("any",), target=next_)]
            edges += [d.Edge(id=f"on {t}#0", trigger=t, target=next_) for t in ("denied", "in_doubt")]
            edges.append(d.Edge(id="always#0", trigger="always", target=next_))
            states.append(d.State(name=name, action=self.actions.action(flow), edges=tuple(edges)))
        return d.Region(start=names[0], states=(*states, d.Final(name="finally_end")))

    # ---- states

    def region(self, region: FlowRegion) -> d.Region:
        """The agent itself, a branch, or the body of an `each`."""
        assert region.start is not None
        return d.Region(start=region.start.name, states=tuple(self._state(s) for s in region.states.values()))

    def _state(self, state: FlowState) -> d.State | d.Final:
        key = f"{self.info.name}/{state.path}"
        self.parts.note(key, state.decl.span, getattr(state.decl, "doc", None))
        if isinstance(state.decl, ast.FinalDecl):
            return d.Final(
                name=state.name,
                failed=state.failed,
                outputs={a.name.text: self.parts.expr(a.value) for a in state.decl.assigns},
            )
        for edge in state.out:
            if edge.origin == "edge":
                self.parts.note(f"{key}/{edge.id}", edge.node.span)
        clause = ast.clause(state.clauses, ast.YieldsClause)
        return d.State(
            name=state.name,
            action=self.actions.action(state),
            sets=self.actions.sets(ast.clauses(state.clauses, ast.SetClause)),
            edges=self.actions.edges(state),
            yields=self.parts.expr(clause.value) if clause is not None else _result(state),
        )


def _result(state: FlowState) -> d.ExprJson | None:
    """The body of a branch or item that is written as plain clauses is worth what its one action gives."""
    if not isinstance(state.decl, ast.Branch | ast.EachAction) or state.action is None:
        return None
    return ["var", "result"]


# ---- tests


def _tests_of(analysis: Analysis, main: AgentInfo) -> list[ast.TestDecl]:
    found = ast.clauses(analysis.files[0].program.items, ast.TestDecl)
    symbols = analysis.symbols
    return [t for t in found if t.agent in symbols and symbols[t.agent].node is main.decl]


def _test(test: ast.TestDecl, parts: Parts) -> d.TestDef:
    paths = ast.clauses(test.items, ast.ExpectPath)
    expects = ast.clauses(test.items, ast.Expect)
    return d.TestDef(
        title=str(test.title.value),
        agent=parts.analysis.symbols[test.agent].name,
        inputs={i.name.text: parts.expr(i.value) for i in ast.clauses(test.items, ast.TestInput)},
        mocks=tuple(_mock(m, parts) for m in ast.clauses(test.items, ast.Mock)),
        path=tuple(n.text for n in paths[0].states) if paths else None,
        expects=tuple(parts.expr(e.condition) for e in expects),
        texts=tuple(e.condition.span.text for e in expects),
        span=parts.place(test.span),
    )


def _mock(mock: ast.Mock, parts: Parts) -> d.MockDef:
    responses = []
    for response in mock.responses:
        match response:
            case ast.Returns(value=value):
                responses.append(d.MockResponse(returns=parts.expr(value)))
            case ast.Raises(error=error):
                responses.append(d.MockResponse(raises=error.text))
            case ast.Answers(option=option, form=form):
                form_json = parts.expr(form) if form is not None else None
                responses.append(d.MockResponse(option=option.text, form=form_json))
    target = parts.analysis.symbols[mock.target].name
    return d.MockDef(target=target, responses=tuple(responses), span=parts.place(mock.target.span))
