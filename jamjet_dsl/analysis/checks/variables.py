"""Where the variables of an agent are read and where they are assigned.

Variables are bits of an int, so a set of them is one number and the analyses over a thousand states and a
thousand variables stay cheap. Only what can be unassigned is followed: declared variables and names bound by
`as`, by events and by items. Inputs always have a value.
"""

from __future__ import annotations

from collections.abc import Iterator

from jamjet_dsl.analysis.checks.facts import options_of
from jamjet_dsl.analysis.model import AgentInfo, Analysis, FlowEdge, FlowState, Symbol
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node, children

_FOLLOWED = frozenset({"var", "bound"})
_PATHS = frozenset({"attested", "untrusted"})
_DEEPEST = 40
"""How deep `has` is looked for under `&&`, `||`, `!`; below that nothing is concluded."""


class Variables:
    """The variables of one agent as bits, and what its expressions say about them."""

    def __init__(self, agent: AgentInfo, analysis: Analysis) -> None:
        self.agent = agent
        self.symbols = analysis.symbols
        self.names: list[str] = []
        self._bits: dict[str, int] = {}
        self.known_mentions: dict[Node, int] = {}

    def bit(self, name: str) -> int:
        """The bit of a variable."""
        found = self._bits.get(name)
        if found is None:
            found = self._bits[name] = 1 << len(self.names)
            self.names.append(name)
        return found

    def named(self, bits: int) -> Iterator[str]:
        """The names of the variables in a set."""
        while bits:
            low = bits & -bits
            yield self.names[low.bit_length() - 1]
            bits ^= low

    def _of(self, symbol: Symbol | None) -> int:
        return self.bit(symbol.name) if symbol is not None and symbol.kind in _FOLLOWED else 0

    # ---- reads

    def mentions(self, node: Node) -> int:
        """The variables that an expression, a text or a path names, in whatever way."""
        found = self.known_mentions.get(node)
        if found is None:
            found = self.known_mentions[node] = self._mentioned(node)
        return found

    def _mentioned(self, node: Node) -> int:
        symbols = self.symbols
        bits = 0
        todo = [node]
        while todo:
            node = todo.pop()
            match node:
                case ast.Lit():
                    pass
                case ast.Ident() | ast.Name():
                    bits |= self._of(symbols.get(node))
                case ast.Select(operand=operand):
                    todo.append(operand)
                case ast.Binary(left=left, right=right):
                    todo += (left, right)
                case ast.MethodCall(operand=operand, args=args):
                    todo.append(operand)
                    todo += args
                case ast.FnCall(args=given):
                    todo += (arg.value for arg in given)
                case ast.Arg(value=value):
                    todo.append(value)
                case ast.Path(names=names):
                    todo.append(names[0])
                case ast.Text(parts=parts):
                    todo += (part.path for part in parts if isinstance(part, ast.Placeholder))
                case _:
                    todo += children(node)
        return bits

    def unsafe_reads(self, node: Node, known: int) -> Iterator[tuple[str, Node]]:
        """Reads of variables outside `known`, except where `has` has made sure of them: (name, place)."""
        if not self.mentions(node) & ~known:
            return
        todo = [(node, known)]
        while todo:
            node, known = todo.pop()
            match node:
                case ast.Ident() | ast.Name():
                    if self._of(self.symbols.get(node)) & ~known:
                        yield node.name if isinstance(node, ast.Ident) else node.text, node
                case ast.Path(names=names):
                    todo.append((names[0], known))
                case ast.Text(parts=parts):
                    todo += ((p.path, known) for p in reversed(parts) if isinstance(p, ast.Placeholder))
                case ast.Select(operand=operand):
                    todo.append((operand, known))
                case ast.FnCall(function=function, args=args):
                    todo += ((value, known) for value in reversed(_values_read(function.text, args)))
                case ast.MethodCall(operand=operand, args=arguments):
                    todo += ((value, known) for value in (*reversed(arguments), operand))
                case ast.Binary(op="&&" | "||" as op):
                    todo += reversed(list(self._chained(node, op, known)))
                case ast.Cond(test=test, then=then, other=other):
                    todo.append((other, known | self.assured(test, False)))
                    todo.append((then, known | self.assured(test, True)))
                    todo.append((test, known))
                case ast.Expr() | ast.Arg() | ast.MapEntry():
                    todo += (
                        (child, known) for child in reversed(list(children(node))) if not isinstance(child, ast.Name)
                    )

    def _chained(self, node: ast.Binary, op: str, known: int) -> Iterator[tuple[Node, int]]:
        """The operands of a chain of `&&` or `||`, each with what is known once those before it held."""
        for operand in _operands(node, op):
            yield operand, known
            known |= self.assured(operand, op == "&&")

    def assured(self, test: Node, holds: bool, depth: int = 0) -> int:
        """The variables that are certainly assigned when `test` is true (`holds`) or false."""
        if depth > _DEEPEST:
            return 0
        match test:
            case ast.FnCall(function=ast.Name(text="has"), args=(ast.Arg(value=value),)) if holds:
                while isinstance(value, ast.Select):
                    value = value.operand
                return self._of(self.symbols.get(value)) if isinstance(value, ast.Ident) else 0
            case ast.Unary(op="!", operand=operand):
                return self.assured(operand, not holds, depth + 1)
            case ast.Binary(op="&&" | "||" as op):
                parts = [self.assured(o, holds, depth + 1) for o in _operands(test, op)]
                all_hold = holds == (op == "&&")
                bits = 0 if all_hold else -1
                for part in parts:
                    bits = bits | part if all_hold else bits & part
                return bits
            case _:
                return 0


def _operands(node: ast.Binary, op: str) -> list[Node]:
    """The operands of a chain `a op b op c` from left to right, without recursion down its left side."""
    found: list[Node] = []
    at: Node = node
    while isinstance(at, ast.Binary) and at.op == op:
        found.append(at.right)
        at = at.left
    found.append(at)
    found.reverse()
    return found


def _values_read(function: str, args: tuple[ast.Arg, ...]) -> list[ast.Expr]:
    """The arguments of a call that are evaluated. `has` takes whatever is missing on the path it is asked for
    as a no, so only the indexes on that path are read."""
    if function in _PATHS:
        return []
    if function != "has" or not args:
        return [arg.value for arg in args]
    found: list[ast.Expr] = []
    at = args[0].value
    while isinstance(at, (ast.Select, ast.Index)):
        if isinstance(at, ast.Index):
            found.append(at.index)
        at = at.operand
    return found if isinstance(at, ast.Ident) else [*found, at]


# ---- the parts of a state, in the order in which a run evaluates them


def read_before(state: FlowState) -> Iterator[tuple[Node, bool]]:
    """What is evaluated when a state is entered, each with whether it may be unset (`x?`)."""
    action = state.action
    if isinstance(state.decl, ast.FinalDecl):
        for assign in state.decl.assigns:
            yield assign.value, False
    elif isinstance(state.decl, ast.ParallelDecl):
        for branch in ast.clauses(state.decl.members, ast.Branch):
            if branch.default is not None:
                yield branch.default, False
    match action:
        case ast.CallAction(call=call) | ast.RunAction(call=call) | ast.EmitAction(call=call):
            for arg in call.args:
                yield arg.value, False
        case ast.CallWithAction(args=args):
            yield args, False
        case ast.CallProposedAction(move=name) | ast.CallApprovedAction(name=name):
            yield name, False
        case ast.ThinkAction(text=text, chat=chat):
            yield text, False
            if chat is not None:
                yield chat, True
        case ast.AskAction(call=wanted, proposed=proposed, text=text):
            for arg in wanted.args if wanted is not None else ():
                yield arg.value, False
            if proposed is not None:
                yield proposed, False
            yield text, False
        case ast.EachAction(source=source):
            yield source, False
        case ast.WaitUntil(until=until):
            yield until, False
    yield from _shown(action)


def _shown(action: ast.Action | None) -> Iterator[tuple[Node, bool]]:
    for option in options_of(action):
        if isinstance(option, ast.GivenOpt):
            for given in option.items:
                yield given.expr, given.optional
        elif isinstance(option, ast.ShowOpt):
            for shown in option.items:
                yield shown.path, shown.optional


def state_sets(state: FlowState) -> tuple[ast.SetClause, ...]:
    """The `set`s of a state, which run in order after its action succeeded."""
    return ast.clauses(state.clauses, ast.SetClause)


def state_yields(state: FlowState) -> tuple[ast.YieldsClause, ...]:
    """The value of an item or branch that ends in this state."""
    return ast.clauses(state.clauses, ast.YieldsClause)


def after_success(trigger: ast.Trigger | None) -> bool:
    """Whether an edge with this trigger is taken after the action succeeded: then its result is bound and the
    `set`s of the state have run."""
    return isinstance(trigger, (ast.Always, ast.When, ast.Otherwise, ast.OnOption, ast.OnEvent, ast.OnJoin))


def event_bind(trigger: ast.Trigger | None) -> ast.Name | None:
    """The name that `on event e(x)` gives to what came."""
    return trigger.bind if isinstance(trigger, ast.OnEvent) else None


def written_of(edge: FlowEdge) -> ast.Edge | None:
    """The written edge whose block runs on the way; that of a limit's alternative does not."""
    return edge.edge if edge.origin == "edge" else None
