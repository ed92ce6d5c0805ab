"""Expressions that may fail at run time (JAM507), regular expressions that always do (JAM509), and placeholders where
none is filled in (JAM415).

Each operation that can fail has a condition under which it does not. That condition is proved from what holds
where the operation stands: the other operands of its `&&` and `||` (a side that decides wins over an error on the
other, whichever comes first), the test of its `? :`, the guards before it that were false, the declared types.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from decimal import Decimal
from typing import NamedTuple

from jamjet_dsl.analysis.checks.atoms import Formula, Space, conj, conjuncts, disj, key_of, neg, paths_in
from jamjet_dsl.analysis.checks.constants import constant
from jamjet_dsl.analysis.checks.cover import satisfiable
from jamjet_dsl.analysis.checks.paths import source_text
from jamjet_dsl.analysis.model import AgentInfo, Analysis, FlowState, Type
from jamjet_dsl.diagnostics.model import Diagnostic
from jamjet_dsl.source import Span
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node, children

_MACROS = frozenset({"all", "exists", "exists_one", "filter", "map"})
_PARSERS = frozenset({"int", "uint", "float", "double", "decimal", "bool", "timestamp", "duration", "money"})
_NESTED = (ast.StateDecl, ast.ParallelDecl, ast.FinalDecl, ast.Branch, ast.YieldsClause)
_PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\}")
_FACTS = 30
"""How many facts one proof uses at most, the nearest ones first."""
_LONGEST_PATTERN = 1000
"""The longest regular expression that runs accept."""
_PATTERN_MEMORY = 1 << 20
"""Bytes that a compiled regular expression may take in a run."""

Need = Callable[[Space], Formula]
"""What has to hold for an operation not to fail."""


class Facts(NamedTuple):
    """Expressions known to be true (or false) here, and those that were known further out.

    `skip` is the index of the operand that is being looked at. `stale` are variables assigned since.
    """

    outer: Facts | None
    exprs: tuple[ast.Expr, ...]
    truth: bool
    skip: int = -1

    def each(self) -> Iterator[tuple[ast.Expr, bool]]:
        """The facts, nearest first."""
        at: Facts | None = self
        while at is not None:
            for index, expr in enumerate(at.exprs):
                if index != at.skip:
                    yield expr, at.truth
            at = at.outer


class _Site(NamedTuple):
    """An operation that may fail: `need` is None where nothing that can be said of its operands helps."""

    expr: ast.Expr
    need: Need | None
    message: str
    help: str


def check_raising(agent: AgentInfo, analysis: Analysis) -> Iterator[Diagnostic]:
    """The expressions of an agent that may fail; with the first agent of a file also those of its functions."""
    scan = _Scan(analysis, agent.vars.keys() | agent.inputs.keys())
    if next(a for a in analysis.agents if a.file is agent.file) is agent:
        for fn in ast.clauses(agent.file.items, ast.FnDecl):
            scan.next_state()
            scan.expr(fn.body, None)
    for state in agent.all_states():
        scan.next_state()
        _scan_state(state, scan)
    yield from scan.found


def _scan_state(state: FlowState, scan: _Scan) -> None:
    if isinstance(state.decl, ast.FinalDecl):
        for assign in state.decl.assigns:
            scan.expr(assign.value, None)
        return
    known: Facts | None = None
    for clause in state.clauses:
        match clause:
            case ast.Edge(trigger=ast.When(condition=condition)):
                scan.expr(condition, known)
                _scan_sets(clause.sets, Facts(known, (condition,), True), scan)
                known = Facts(known, (condition,), False)
            case ast.Edge():
                _scan_sets(clause.sets, known if isinstance(clause.trigger, ast.Otherwise | ast.Always) else None, scan)
            case ast.StateDecl() | ast.ParallelDecl() | ast.FinalDecl() | ast.Branch():
                pass
            case _:
                for root in _roots(clause):
                    scan.expr(root, None)
        if isinstance(clause, ast.Edge) and clause.yields is not None:
            scan.expr(clause.yields, None)


def _scan_sets(sets: tuple[ast.SetClause, ...], known: Facts | None, scan: _Scan) -> None:
    """The assignments of an edge: what the guards said holds until a variable it speaks of is assigned."""
    assigned: set[str] = set()
    for clause in sets:
        scan.expr(clause.value, _still_true(known, assigned) if assigned else known)
        assigned.add(clause.path.names[0].text)


def _still_true(known: Facts | None, assigned: set[str]) -> Facts | None:
    kept: Facts | None = None
    for expr, truth in known.each() if known is not None else ():
        if assigned.isdisjoint(path.partition(".")[0] for path in paths_in(expr)):
            kept = Facts(kept, (expr,), truth)
    return kept


def _roots(node: Node) -> Iterator[ast.Expr]:
    """The outermost expressions of an action or clause; nested states have a turn of their own."""
    if isinstance(node, ast.Expr):
        yield node
        return
    inner: Iterable[Node] = (node.source,) if isinstance(node, ast.EachAction) else children(node)
    for child in inner:
        if not isinstance(child, _NESTED) or isinstance(child, ast.YieldsClause):
            yield from _roots(child)


class _Scan:
    """One walk over expressions that collects findings."""

    def __init__(self, analysis: Analysis, names: AbstractSet[str]) -> None:
        self.analysis = analysis
        self.names = names
        self.found: list[Diagnostic] = []
        self._told: set[tuple[str, str]] = set()

    def next_state(self) -> None:
        """Begins another state. Within one, an operation that may fail is reported once."""
        self._told.clear()

    def expr(self, expr: ast.Expr, facts: Facts | None) -> None:
        """Looks at an expression and everything in it, given what is known where it stands."""
        match expr:
            case ast.Binary(op="&&" | "||" as op):
                parts = tuple(conjuncts(expr, op))
                for at, part in enumerate(parts):
                    self.expr(part, Facts(facts, parts, op == "&&", at))
                return
            case ast.Cond(test=test, then=then, other=other):
                self.expr(test, facts)
                self.expr(then, Facts(facts, (test,), True))
                self.expr(other, Facts(facts, (test,), False))
                return
            case ast.FnCall(function=ast.Name(text="has" | "attested" | "untrusted")):
                return
            case ast.Lit(kind="string", value=str(text)) if "{" in text:
                self._braces(expr, text)
                return
            case ast.MethodCall(operand=operand, method=method, args=(ast.Ident() as name, *rest)) if (
                method.text in _MACROS and rest
            ):
                self.expr(operand, facts)
                inner = Facts(facts, self._of_item(operand, name), True)
                for at, part in enumerate(rest):
                    # `map(x, P, E)` evaluates E only where P holds.
                    self.expr(part, inner if at == 0 else Facts(inner, (rest[0],), True))
                return
            case _:
                pass
        for site in self._sites(expr):
            told = (site.message, site.help)
            if told not in self._told and not self._proved(site, facts):
                self._told.add(told)
                self.found.append(
                    Diagnostic(
                        "JAM507",
                        site.message,
                        site.expr.span,
                        why="an expression that fails is a run error; in a guard it is never taken for false",
                        help=site.help,
                    )
                )
        self._pattern(expr)
        for child in _operands(expr):
            self.expr(child, facts)

    def _of_item(self, operand: ast.Expr, name: ast.Ident) -> tuple[ast.Expr, ...]:
        """What a macro says of the name it binds: a key of the map, a number of the range."""
        if self._type(operand).kind == "map":
            return (ast.Binary(name.span, "in", name, operand),)
        match operand:
            case ast.FnCall(function=ast.Name(text="range"), args=(ast.Arg(value=end),)):
                zero = ast.Lit(name.span, "int", 0)
                return (ast.Binary(name.span, "<", name, end), ast.Binary(name.span, ">=", name, zero))
            case _:
                return ()

    def _proved(self, site: _Site, facts: Facts | None) -> bool:
        if site.need is None:
            return facts is not None and _matched(site.expr, facts)
        space = Space(self.analysis)
        need = site.need(space)
        if isinstance(need, bool):
            return need
        known: list[Formula] = []
        for expr, truth in facts.each() if facts is not None else ():
            if len(known) == _FACTS:
                break
            formula = space.formula(expr)
            known.append(formula if truth else neg(formula))
        space.seal()
        return satisfiable(conj(*known, neg(need)), space) is False

    def _type(self, expr: ast.Expr) -> Type:
        type_ = self.analysis.types.get(expr) or Type("error")
        while type_.kind in ("optional", "secret"):
            type_ = type_.args[0]
        return type_

    # ---- what can fail

    def _sites(self, expr: ast.Expr) -> Iterator[_Site]:
        match expr:
            case ast.Binary(op="/" | "%", right=right):
                yield from self._division(expr, right)
            case ast.FnCall(function=function, args=args):
                yield from self._call(expr, function.text, [a.value for a in args])
            case ast.MethodCall(operand=operand, method=method, args=args):
                yield from self._call(expr, method.text, [operand, *args])
            case ast.Index(operand=operand, index=index):
                kind = self._type(operand).kind
                if kind == "list":
                    yield self._position(expr, operand, index)
                elif kind in ("map", "any"):
                    yield self._key(expr, operand, index)
            case ast.Select(operand=operand, field=field) if self._type(operand).kind in ("map", "any"):
                yield self._key(expr, operand, ast.Lit(field.span, "string", field.text))
            case _:
                pass

    def _division(self, expr: ast.Expr, divisor: ast.Expr) -> Iterator[_Site]:
        kind = self._type(divisor).kind
        text = source_text(divisor)
        while isinstance(divisor, ast.FnCall) and divisor.function.text in ("decimal", "int", "uint"):
            inner = divisor.args[0].value
            if self._type(inner).kind not in ("int", "uint"):
                break
            divisor, kind = inner, self._type(inner).kind  # it is zero if what it was converted from is
        if kind not in ("int", "uint", "decimal", "money"):
            return
        zero = ast.Lit(divisor.span, "int", 0)
        if kind == "money":
            known = constant(divisor, self.analysis)
            currency = known.currency if known is not None else self._type(divisor).currency or "USD"
            zero = ast.Lit(divisor.span, "money", ("0", currency))
        yield _Site(
            expr,
            lambda space: neg(space.comparison("==", divisor, zero)),
            f"`{source_text(expr)}` may divide by zero",
            f"ask first: `{text} != 0 && …`" if kind != "money" else f"make sure that `{text}` is not zero first",
        )

    def _position(self, expr: ast.Expr, operand: ast.Expr, index: ast.Expr) -> _Site:
        return _Site(
            expr,
            lambda space: self._in_bounds(space, operand, index, "<"),
            f"`{source_text(expr)}` may be past the end of the list",
            f"ask first: `size({source_text(operand)}) > {source_text(index)} && …`",
        )

    def _in_bounds(self, space: Space, operand: ast.Expr, index: ast.Expr, op: str) -> Formula:
        """`0 <= index` and `index op size(operand)`."""
        length = _length(operand, self.analysis)
        at = constant(index, self.analysis)
        if op == "<" and at is not None and isinstance(at.value, Decimal) and 0 <= at.value < self._at_least(operand):
            return True
        span = operand.span
        size: ast.Expr = (
            ast.Lit(span, "int", length)
            if length is not None
            else ast.FnCall(span, ast.Name(span, "size"), (ast.Arg(span, None, operand),))
        )
        zero = ast.Lit(span, "int", 0)
        parts = (space.comparison(">=", index, zero), space.comparison(op, index, size))
        if all(isinstance(p, bool) for p in parts):
            return all(parts)
        return conj(*parts)

    def _at_least(self, expr: ast.Expr) -> int:
        """Items that a list has in any case: what is joined to it can only make it longer."""
        match expr:
            case ast.Binary(op="+", left=left, right=right):
                return self._at_least(left) + self._at_least(right)
            case ast.Cond(then=then, other=other):
                return min(self._at_least(then), self._at_least(other))
            case ast.MethodCall(operand=operand, method=ast.Name(text="map"), args=(_, _)):
                return self._at_least(operand)
            case _:
                low = self._type(expr).low
                return _length(expr, self.analysis) or (low if isinstance(low, int) else 0)

    def _key(self, expr: ast.Expr, operand: ast.Expr, key: ast.Expr) -> _Site:
        shown = source_text(key) if isinstance(expr, ast.Index) else f'"{source_text(key)}"'
        text = source_text(operand)
        check = f"has({source_text(expr)})" if isinstance(expr, ast.Select) else f"{shown} in {text}"

        def need(space: Space) -> Formula:
            member = space.formula(ast.Binary(expr.span, "in", key, operand))
            return disj(member, space.present(expr)) if not isinstance(member, bool) else member

        return _Site(expr, need, f"`{text}` may have no {shown}", f"ask first: `{check} && …`")

    def _call(self, expr: ast.Expr, name: str, args: list[ast.Expr]) -> Iterator[_Site]:
        if not args:
            return
        first = args[0]
        kind = self._type(first).kind
        text = source_text(expr)
        if name in _PARSERS and isinstance(expr, ast.FnCall) and kind == "string":
            if constant(first, self.analysis) is None:
                yield _Site(
                    expr,
                    None,
                    f"`{text}` fails for a text that is no {name}",
                    f"ask first: `{source_text(first)}.matches(…) && …`, or let it come as a {name}",
                )
        elif name == "uint" and kind == "int":
            zero = ast.Lit(first.span, "int", 0)
            need: Need = lambda space: space.comparison(">=", first, zero)  # noqa: E731
            yield _Site(expr, need, f"`{text}` fails for a negative number", f"ask first: `{source_text(first)} >= 0`")
        elif name in ("min", "max") and len(args) == 1 and kind == "list":
            zero = ast.Lit(first.span, "int", 0)
            yield _Site(
                expr,
                lambda space: self._in_bounds(space, first, zero, "<"),
                f"`{text}` fails for an empty list",
                f"ask first: `size({source_text(first)}) > 0 && …`",
            )
        elif name in ("charAt", "substring") and kind == "string" and len(args) > 1:
            for at in args[1:]:
                yield _Site(
                    expr,
                    lambda space, at=at: self._in_bounds(space, first, at, "<="),  # type: ignore[misc]
                    f"`{text}` may be past the end of the text",
                    f"ask first: `size({source_text(first)}) >= {source_text(at)} && …`",
                )
        elif name == "divide" and len(args) > 1:
            yield from self._division(expr, args[1])

    def _braces(self, expr: ast.Expr, text: str) -> None:
        """JAM415: a text of an expression is taken as it stands, so `{name}` in it is hardly what is meant."""
        path = next((p for p in _PLACEHOLDER.findall(text) if p.partition(".")[0] in self.names), None)
        if path is None:
            return
        self.found.append(
            Diagnostic(
                "JAM415",
                f"`{{{path}}}` is not filled in here",
                expr.span,
                why="placeholders are filled in texts of `think` and `ask`; in an expression a text is what it says",
                help=f'join the parts: `"…" + {path} + "…"`',
            )
        )

    # ---- regular expressions

    def _pattern(self, expr: ast.Expr) -> None:
        match expr:
            case ast.MethodCall(method=ast.Name(text="matches"), args=(pattern,)):
                pass
            case ast.FnCall(function=ast.Name(text="matches"), args=(_, ast.Arg(value=pattern))):
                pass
            case _:
                return
        known = constant(pattern, self.analysis)
        if known is None or not isinstance(known.value, str):
            if self._type(pattern).kind == "string":
                self.found.append(_free_pattern(pattern))
            return
        reason = pattern_problem(known.value)
        if reason:
            self.found.append(_bad_pattern(pattern.span, reason))


def _free_pattern(pattern: ast.Expr) -> Diagnostic:
    return Diagnostic(
        "JAM507",
        f"`{source_text(pattern)}` may be no regular expression",
        pattern.span,
        why="a pattern that is not written in the program is first read when the run gets there",
        help="write the pattern as a string, or compare with `==`, `startsWith` or `contains`",
    )


def _bad_pattern(span: Span, reason: str) -> Diagnostic:
    return Diagnostic(
        "JAM509",
        f"{reason}",
        span,
        why="patterns are RE2, which matches in linear time: no look-around and no back-references",
        help="correct the pattern; `jam eval` tries one",
    )


def pattern_problem(pattern: str) -> str:
    """Why a run would refuse a regular expression; empty if it would not."""
    import re2

    if len(pattern) > _LONGEST_PATTERN:
        return f"the regular expression has more than {_LONGEST_PATTERN} characters"
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _PATTERN_MEMORY
    try:
        re2.compile(pattern, options)
    except re2.error as problem:
        reason = problem.args[0] if problem.args else ""
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        if "too large" in text:
            return "the regular expression takes too much memory"
        return f"not a regular expression: {text}" if text else "not a regular expression"
    return ""


def _operands(expr: ast.Expr) -> Iterator[ast.Expr]:
    for child in children(expr):
        if isinstance(child, ast.Expr):
            yield child
        elif isinstance(child, ast.Arg | ast.MapEntry):
            yield from (c for c in children(child) if isinstance(c, ast.Expr))


def _matched(expr: ast.Expr, facts: Facts) -> bool:
    """Whether a text that is converted was matched against a pattern before. The pattern is taken on trust."""
    assert isinstance(expr, ast.FnCall)
    wanted = key_of(expr.args[0].value)
    return any(
        truth and isinstance(e, ast.MethodCall) and e.method.text == "matches" and key_of(e.operand) == wanted
        for e, truth in facts.each()
    )


def _length(expr: ast.Expr, analysis: Analysis) -> int | None:
    """The length of a list or text that is written in the program."""
    match expr:
        case ast.ListLit(items=items):
            return len(items)
        case ast.Lit(kind="string", value=str(text)):
            return len(text)
        case ast.Ident():
            symbol = analysis.symbols.get(expr)
            if symbol is not None and symbol.kind == "const" and isinstance(symbol.node, ast.ConstDecl):
                value = symbol.node.value
                return None if isinstance(value, ast.Ident) else _length(value, analysis)
            return None
        case _:
            return None
