"""The syntax tree of a `.jam` program: every construct of the language, as written.

The tree accepts slightly more than the language (a clause twice, an option where it has no place):
the parser builds it, the resolver rejects. Clauses therefore stand in a tuple in source order, and
`clause` and `clauses` find those of a kind. Nothing here is resolved: a `Name` is only text with a place.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias, TypeVar

from jamjet_dsl.source import SourceFile
from jamjet_dsl.syntax.node import Node

_N = TypeVar("_N", bound=Node)


def clause(nodes: Iterable[Node], kind: type[_N]) -> _N | None:
    """The first node of a kind, or None. A second one is the resolver's JAM007."""
    for node in nodes:
        if isinstance(node, kind):
            return node
    return None


def clauses(nodes: Iterable[Node], kind: type[_N]) -> tuple[_N, ...]:
    """All nodes of a kind, in source order."""
    return tuple(node for node in nodes if isinstance(node, kind))


class Name(Node):
    """An identifier; `text` is without backticks."""

    text: str


class Path(Node):
    """`a.b.c`, where only names may stand."""

    names: tuple[Name, ...]

    @property
    def text(self) -> str:
        """The path as dotted text."""
        return ".".join(n.text for n in self.names)


# ---- expressions


class Expr(Node):
    """Any expression."""


class Lit(Expr):
    """A literal.

    `kind` is one of int uint float string bytes bool null money duration quantity percent; `value` is an
    int, float, str, bytes, bool or None, for money a `(str amount, str currency)` pair (the amount as the
    digits written, exact), for a duration its whole milliseconds, for a quantity (`20k`) the int meant.
    """

    kind: str
    value: object


class Ident(Expr):
    """A bare name in an expression."""

    name: str


class Select(Expr):
    """`operand.field`."""

    operand: Expr
    field: Name


class Index(Expr):
    """`operand[index]`."""

    operand: Expr
    index: Expr


class Arg(Node):
    """One argument; `name` is None when given by position."""

    name: Name | None
    value: Expr


class FnCall(Expr):
    """`f(args)`: a built-in, a declared `fn`, a macro such as `has`, or `calls(T)`, `attempted(T, a = e)`."""

    function: Name
    args: tuple[Arg, ...]


class MethodCall(Expr):
    """`operand.method(args)`, macros (`exists`, `map`, …) included."""

    operand: Expr
    method: Name
    args: tuple[Expr, ...]


class Unary(Expr):
    """`!x` or `-x`; a minus before a number literal is folded into the literal by the builder."""

    op: str
    operand: Expr


class Binary(Expr):
    """`left op right` with op one of || && == != < <= > >= in + - * / %."""

    op: str
    left: Expr
    right: Expr


class Cond(Expr):
    """`test ? then : other`."""

    test: Expr
    then: Expr
    other: Expr


class ListLit(Expr):
    """`[a, b]`."""

    items: tuple[Expr, ...]


class MapEntry(Node):
    """One `key: value`. `field` is set when the key is a bare name, which is a field name; then `key` is
    the same text as a string literal."""

    key: Expr
    value: Expr
    field: Name | None = None


class MapLit(Expr):
    """`{ key: value }`: a record where the expected type is one, else a map."""

    entries: tuple[MapEntry, ...]


class ErrorExpr(Expr):
    """Stands where an expression could not be read; already reported, so nothing more is said of it."""


class Placeholder(Node):
    """`{path}` inside a text."""

    path: Path


class Text(Node):
    """A prompt or question: literal pieces and placeholders in order; `value` is the text with `{{` undone
    nowhere, exactly as the string literal reads."""

    value: str
    parts: tuple[str | Placeholder, ...]


# ---- types


class RangeExpr(Node):
    """`low..high` after a type; both ends belong to it."""

    low: Expr
    high: Expr


class TypeExpr(Node):
    """A type as written: `secret list<int 0..9>? 1..12`."""

    name: Name
    args: tuple[TypeExpr, ...] = ()
    optional: bool = False
    secret: bool = False
    range: RangeExpr | None = None


class Param(Node):
    """`name: type`, in parameters, inputs, outputs, records and forms."""

    name: Name
    type: TypeExpr
    doc: str | None = None


# ---- declarations


class LanguageDecl(Node):
    """`language 1`."""

    version: int


class Import(Node):
    """`import { a, b } from "./x.jam"`."""

    names: tuple[Name, ...]
    path: Lit


class RecordDecl(Node):
    name: Name
    fields: tuple[Param, ...]
    doc: str | None


class EnumDecl(Node):
    name: Name
    members: tuple[Name, ...]
    doc: str | None


class ConstDecl(Node):
    name: Name
    type: TypeExpr | None
    value: Expr
    doc: str | None


class FnDecl(Node):
    name: Name
    params: tuple[Param, ...]
    result: TypeExpr
    body: Expr
    doc: str | None


class ToolCall(Node):
    """`tool(args)`: also `run agent(args)` and `emit message(args)`."""

    tool: Name
    args: tuple[Arg, ...]


class Via(Node):
    """`via KIND [QUALIFIER] VALUE`: where a tool or a model is found. VALUE is a string or a list."""

    kind: Name
    qualifier: Name | None
    value: Expr


class EffectClause(Node):
    effect: Name


class KeyClause(Node):
    value: Expr


class ConfirmClause(Node):
    call: ToolCall


class UndoClause(Node):
    call: ToolCall


class CostClause(Node):
    amount: Expr


class RateClause(Node):
    """`limit 10 calls per minute` of a tool: shared by all runs of a database; delays."""

    count: Expr
    unit: Name


class RaisesClause(Node):
    errors: tuple[Name, ...]


class TimeoutClause(Node):
    """`timeout 60s`, of a tool or of an action; a literal or the name of a const."""

    duration: Expr


class RetryClause(Node):
    """`retry E, F 3 times backoff 1s x 2 max 30s jitter full`; `any` when it names all errors."""

    errors: tuple[Name, ...]
    any: bool
    times: Expr
    backoff: Expr | None = None
    factor: Expr | None = None
    max_delay: Expr | None = None
    jitter: Name | None = None


class ToolDecl(Node):
    """`untrusted` marks the result as text from outside."""

    name: Name
    params: tuple[Param, ...]
    result: TypeExpr | None
    untrusted: bool
    clauses: tuple[Node, ...]
    doc: str | None


class PriceClause(Node):
    """`price $3 in $15 out per 1M tokens`."""

    input: Expr
    output: Expr
    per: Expr


class ModelDecl(Node):
    name: Name
    clauses: tuple[Node, ...]
    doc: str | None


# ---- agents


class InputDecl(Node):
    params: tuple[Param, ...]


class OutputDecl(Node):
    params: tuple[Param, ...]


class VarDecl(Node):
    name: Name
    type: TypeExpr
    init: Expr | None
    doc: str | None


class EventDecl(Node):
    """`event said(text: string)`: may be sent to a run from outside."""

    name: Name
    params: tuple[Param, ...]
    doc: str | None


class EmitsDecl(Node):
    """`emits reply(text: string)`: what the run may send out."""

    name: Name
    params: tuple[Param, ...]
    doc: str | None


class BudgetLimit(Node):
    """`steps 25`, `tokens 20k`, `cost $2`, `time 7d`, `active 10m`."""

    kind: str
    amount: Expr


class WarnAt(Node):
    """`warn at 80%`."""

    percent: Lit


class ReserveClause(Node):
    limits: tuple[BudgetLimit, ...]


class ExceededClause(Node):
    target: Name


class Budget(Node):
    """Of an agent, or a clause of `run`."""

    items: tuple[Node, ...]


# ---- policy


class ToolSet(Node):
    """Which tools a rule speaks of: `names`, and classes out of `any`, `reads`, `writes`, `irreversible`
    (written `any`, `any reads`, …)."""

    names: tuple[Name, ...]
    classes: tuple[Name, ...] = ()


class FactRule(Node):
    """`fact order = get_order(id = args.id) within 10m for A, B`."""

    name: Name
    call: ToolCall
    within: Expr | None
    tools: ToolSet | None


class AllowRule(Node):
    """`because` is set by `without approval because "…"`."""

    tools: ToolSet
    when: Expr | None
    because: Lit | None


class ForbidRule(Node):
    tools: ToolSet
    when: Expr | None


class RequireAnyRule(Node):
    """`require any of A, B as who before C`."""

    tools: ToolSet
    alias: Name | None
    before: ToolSet
    when: Expr | None


class RequireReadRule(Node):
    """`require get_order(id = args.id) as o before C`."""

    call: ToolCall
    alias: Name | None
    before: ToolSet
    when: Expr | None


class RequireAskRule(Node):
    """`require approval review before C`: an ask state of this agent."""

    ask: Name
    before: ToolSet
    when: Expr | None


class RequirePeopleRule(Node):
    """`require approval by 2 of "officer" not principal before C`."""

    count: Expr
    role: Lit
    excluding: Name | None
    before: ToolSet
    when: Expr | None


class NeverRule(Node):
    """`never A after B`."""

    tools: ToolSet
    after: ToolSet
    when: Expr | None


class LimitCalls(Node):
    """`search 8 calls`, `refund 1 call per args.order_id`, `… per principal per day`, `any 1 call per turn`."""

    tools: ToolSet
    count: Expr
    per: tuple[Expr, ...]


class LimitTotal(Node):
    """`refund total args.amount <= $500 per principal per day`."""

    tools: ToolSet
    amount: Expr
    bound: Expr
    per: tuple[Expr, ...]


class LimitRule(Node):
    limits: tuple[LimitCalls | LimitTotal, ...]


class RedactRule(Node):
    paths: tuple[Path, ...]


class Policy(Node):
    rules: tuple[Node, ...]


# ---- checks


class EveryPathPasses(Node):
    state: Name
    passes: tuple[Name, ...]


class NeverUnless(Node):
    tool: Name
    ask: Name
    option: Name


class NoPathCalls(Node):
    """`no path calls T twice` (count 2) or `n times`."""

    tool: Name
    count: Expr | None


class EveryRunEnds(Node):
    steps: Expr


class EveryCycleBounded(Node):
    pass


class FinalReachable(Node):
    pass


class AlwaysHolds(Node):
    condition: Expr


class HoldsAtEnd(Node):
    """A bare expression: `check spent.cost <= $2.00`."""

    condition: Expr


Property: TypeAlias = (
    EveryPathPasses
    | NeverUnless
    | NoPathCalls
    | EveryRunEnds
    | EveryCycleBounded
    | FinalReachable
    | AlwaysHolds
    | HoldsAtEnd
)


class Check(Node):
    """`check "label": property`."""

    label: Lit | None
    property: Property


# ---- actions and their options


class BindOpt(Node):
    """`as x` or `as x: T`."""

    name: Name
    type: TypeExpr | None


class Given(Node):
    """One thing shown to a model: `a`, `b?`, `label = expr`. `expr` is a path unless labelled."""

    label: Name | None
    expr: Expr
    optional: bool


class GivenOpt(Node):
    items: tuple[Given, ...]


class ToolsOpt(Node):
    tools: tuple[Name, ...]


class ModelOpt(Node):
    model: Name


class TemperatureOpt(Node):
    value: Expr


class MaxPromptOpt(Node):
    tokens: Expr


class MaxTokensOpt(Node):
    tokens: Expr


class ShowItem(Node):
    """`report?` in `show`."""

    path: Path
    optional: bool


class ShowOpt(Node):
    items: tuple[ShowItem, ...]


class OptionDecl(Node):
    name: Name
    approves: bool


class OptionsOpt(Node):
    options: tuple[OptionDecl, ...]


class AnswerOpt(Node):
    fields: tuple[Param, ...]


class RemindOpt(Node):
    every: Expr


class Action(Node):
    """What a state does; `options` are its `as`, `timeout`, `retry` and the like, in source order."""


class CallAction(Action):
    call: ToolCall
    options: tuple[Node, ...]


class CallWithAction(Action):
    """`call T with MAP`."""

    tool: Name
    args: Expr
    options: tuple[Node, ...]


class CallProposedAction(Action):
    move: Name
    options: tuple[Node, ...]


class CallApprovedAction(Action):
    """`name` is a tool or the name of an ask's answer."""

    name: Name
    options: tuple[Node, ...]


class ThinkAction(Action):
    """`chat` is the conversation variable of `in chat`."""

    text: Text
    chat: Name | None
    options: tuple[Node, ...]


class AskAction(Action):
    """At most one of `call` (`to T(args)`) and `proposed` (`to proposed M`) is set."""

    role: Lit
    call: ToolCall | None
    proposed: Name | None
    text: Text
    options: tuple[Node, ...]


class RunAction(Action):
    call: ToolCall
    options: tuple[Node, ...]


class EachAction(Action):
    """`each item in source, 4 at once collect flat { body } as xs`; body holds clauses, states, finals."""

    item: Name
    source: Expr
    at_once: Expr | None
    flat: bool
    body: tuple[Node, ...]
    options: tuple[Node, ...]


class WaitFor(Action):
    """`wait 30m`."""

    duration: Expr
    options: tuple[Node, ...]


class WaitUntil(Action):
    """`wait until t`."""

    until: Expr
    options: tuple[Node, ...]


class WaitEvent(Action):
    """`wait for event said(m) timeout 30m`."""

    event: Name
    bind: Name | None
    options: tuple[Node, ...]


class EmitAction(Action):
    call: ToolCall


class UndoAllAction(Action):
    pass


# ---- edges


class Trigger(Node):
    """What an edge waits for."""


class Always(Trigger):
    pass


class When(Trigger):
    condition: Expr


class Otherwise(Trigger):
    pass


class OnError(Trigger):
    """`any` when it names all errors."""

    errors: tuple[Name, ...]
    any: bool


class OnTimeout(Trigger):
    pass


class OnDenied(Trigger):
    pass


class OnInDoubt(Trigger):
    pass


class OnJoin(Trigger):
    pass


class OnCancel(Trigger):
    pass


class OnEvent(Trigger):
    event: Name
    bind: Name | None


class OnOption(Trigger):
    option: Name


class SetClause(Node):
    """`set a.b = expr`."""

    path: Path
    value: Expr


class Edge(Node):
    """`TRIGGER -> target limit n else t2 { set … }`, or `TRIGGER skip`, or `TRIGGER yields EXPR` in items
    and branches. Exactly one of `target`, `skip`, `yields` is given."""

    trigger: Trigger
    target: Name | None
    skip: bool
    yields: Expr | None
    limit: Expr | None
    limit_else: Name | None
    sets: tuple[SetClause, ...]


class YieldsClause(Node):
    """`yields EXPR` in the body of `each` or a branch: its value when it ends well."""

    value: Expr


class Handler(Node):
    """`on error any -> s` and the like for the whole agent."""

    trigger: Trigger
    target: Name


class Finally(Node):
    body: tuple[Node, ...]


# ---- states


class StateDecl(Node):
    """`clauses` holds the action, `set`, `yields` and edges in source order."""

    name: Name
    start: bool
    clauses: tuple[Node, ...]
    doc: str | None


class Branch(Node):
    """`branch a as x or default { … }`: body holds clauses of one anonymous state, or states and finals."""

    name: Name
    bind: Name | None
    default: Expr | None
    body: tuple[Node, ...]
    doc: str | None


class Join(Node):
    """`mode` is all, any or of; `k` and `n` are set for `k of n`."""

    mode: str
    k: Expr | None
    n: Expr | None
    within: Expr | None


class ParallelDecl(Node):
    """`members` holds branches, the join and edges in source order."""

    name: Name
    start: bool
    members: tuple[Node, ...]
    doc: str | None


class Assign(Node):
    name: Name
    value: Expr


class FinalDecl(Node):
    name: Name
    failed: bool
    assigns: tuple[Assign, ...]
    doc: str | None


class AgentDecl(Node):
    """`members` in source order: InputDecl, OutputDecl, VarDecl, EventDecl, EmitsDecl, Budget, Policy, Check,
    Handler, Finally, StateDecl, ParallelDecl, FinalDecl, Migration."""

    name: Name
    version: int | None
    members: tuple[Node, ...]
    doc: str | None


class MigrateState(Node):
    """`old -> new` inside `migrate from`."""

    old: Name
    new: Name


class Migration(Node):
    """`migrate from 2 { old -> new }`."""

    version: int
    states: tuple[MigrateState, ...]


# ---- tests


class TestInput(Node):
    __test__ = False  # keeps pytest from collecting it
    name: Name
    value: Expr


class Returns(Node):
    value: Expr


class Raises(Node):
    error: Name


class Answers(Node):
    option: Name
    form: MapLit | None


class Mock(Node):
    """`mock T returns a then raises E`; the last response repeats."""

    target: Name
    responses: tuple[Returns | Raises | Answers, ...]


class ExpectPath(Node):
    states: tuple[Name, ...]


class Expect(Node):
    condition: Expr


class TestDecl(Node):
    __test__ = False
    title: Lit
    agent: Name
    items: tuple[Node, ...]


# ---- a whole file


class Comment(Node):
    """A `//` comment with its slashes; `///` doc comments are in `doc` fields and not here."""

    text: str


class Program(Node):
    """One file as parsed. After errors it holds what could be read."""

    source: SourceFile
    language: LanguageDecl | None
    imports: tuple[Import, ...]
    items: tuple[Node, ...]
    comments: tuple[Comment, ...]


Declaration: TypeAlias = RecordDecl | EnumDecl | ConstDecl | FnDecl | ToolDecl | ModelDecl | AgentDecl | TestDecl
