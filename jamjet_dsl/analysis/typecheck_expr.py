"""Types of expressions: what an expression is, and whether it may stand where it stands.

Types flow both ways. `infer` finds the type of an expression, with a hint for literals, which take the type
that is expected of them; `expect` then compares. Every problem is reported where it begins, and whatever was
reported has the type `error`, which fits everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain
from typing import TYPE_CHECKING

from jamjet_dsl.analysis.model import Analysis, Symbol, Type
from jamjet_dsl.analysis.names import Names, number
from jamjet_dsl.analysis.narrow import Keys, Narrowing, key_of
from jamjet_dsl.analysis.report import Report
from jamjet_dsl.analysis.signatures import operator_overload, signatures_of, unary_type
from jamjet_dsl.analysis.typecheck_literals import infer_list, infer_map
from jamjet_dsl.analysis.types import (
    BOOL,
    BYTES,
    DECIMAL,
    DURATION,
    ERROR,
    FLOAT,
    INT,
    NULL,
    NUMERIC,
    ROOTS,
    STATE,
    STRING,
    UINT,
    base,
    comparable,
    fits,
    join,
    list_of,
    plain,
    secret,
    show,
)
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node

if TYPE_CHECKING:
    from fractions import Fraction

MAX_DEPTH = 120
"""How deep expressions nest; left-leaning chains of operators do not count."""

_LITERALS = {
    "int": INT,
    "uint": UINT,
    "float": FLOAT,
    "string": STRING,
    "bytes": BYTES,
    "bool": BOOL,
    "null": NULL,
    "duration": DURATION,
    "quantity": INT,
}


class Shapes:
    """The fields of records and members of enums, looked up once each."""

    def __init__(self, analysis: Analysis) -> None:
        self._analysis = analysis
        self._fields: dict[str, dict[str, Type]] = {}
        self._members: dict[str, frozenset[str]] = {}

    def fields(self, t: Type) -> dict[str, Type] | None:
        """Field -> type of a record, an object or a built-in shape; None for what has no fields."""
        if t.kind != "record":
            return dict(t.fields) if t.kind in ("object", "Move", "ToolCall") else None
        assert t.name is not None
        found = self._fields.get(t.name)
        if found is None:
            types = self._analysis.types
            decl = self._analysis.records[t.name]
            found = self._fields[t.name] = {f.name.text: types[f.type] for f in decl.fields}
        return found

    def members(self, t: Type) -> frozenset[str]:
        """The members of an enum."""
        assert t.name is not None
        found = self._members.get(t.name)
        if found is None:
            decl = self._analysis.enums[t.name]
            found = self._members[t.name] = frozenset(m.text for m in decl.members)
        return found


class Scope:
    """What bare names mean where an expression stands: `own` first, then `outer`, then consts and roots.

    `forms` are the special forms that mean something here (`attempted` in rules, `calls` in tests). `lenient`
    scopes (rules of a policy) may read optional values: there, what is not set denies. `states` are the names
    that `state` is compared with in tests.
    """

    __slots__ = ("forms", "lenient", "outer", "own", "roots", "states")

    def __init__(
        self,
        own: Mapping[str, Symbol] | None = None,
        outer: Mapping[str, Symbol] | None = None,
        forms: frozenset[str] = frozenset(),
        roots: frozenset[str] = frozenset(ROOTS),
        lenient: bool = False,
    ) -> None:
        self.own = own or {}
        self.outer = outer or {}
        self.forms = forms
        self.roots = roots
        self.lenient = lenient
        self.states: frozenset[str] = frozenset()


_ROOT_SYMBOLS = {name: Symbol("root", name, None, type_) for name, type_ in ROOTS.items()}


class ExprChecker:
    """Types the expressions of one file, in a scope that its user sets."""

    def __init__(self, names: Names, shapes: Shapes, report: Report) -> None:
        self.names = names
        self.shapes = shapes
        self.report = report
        self.types = names.analysis.types
        self.symbols = names.analysis.symbols
        self.widened = names.analysis.widened
        self.scope = Scope()
        self.locals: dict[str, Symbol] = {}
        self.present: Keys = frozenset()
        self.narrowing = Narrowing()
        self.complete: Callable[[Symbol], Type] = lambda symbol: ERROR
        self.currency: str | None = None
        self.one_currency = False
        self._depth = 0
        self._too_deep = False
        self._condition = "a guard"

    def problem(self, code: str, node: Node, message: str, help: str = "", why: str = "") -> Type:
        """Reports and returns the type of what was reported."""
        self.report.add(code, node.span, message, help=help, why=why)
        return ERROR

    def types_of(self, node: ast.TypeExpr) -> Type:
        """The type that a declaration writes."""
        return self.types[node]

    # ---- the two ways

    def infer(self, node: ast.Expr, hint: Type | None = None) -> Type:
        """The type of an expression; `hint` is what a literal, a member or a list is taken for."""
        if self._depth > MAX_DEPTH:
            if self._too_deep:
                return ERROR
            self._too_deep = True
            return self.problem(
                "JAM001",
                node,
                f"this expression nests deeper than {MAX_DEPTH} levels",
                help="give a part of it a name: a `const`, a `fn` or a variable",
            )
        if self._depth == 0:
            self._too_deep = False
        self._depth += 1
        found = self._infer(node, hint)
        self._depth -= 1
        self.types[node] = found
        return found

    def expect(self, node: ast.Expr, expected: Type, code: str = "JAM401") -> Type:
        """Checks that an expression may stand where a type is expected; returns the expected type."""
        found = self.infer(node, expected)
        if found == expected:
            self._check_range(node, expected)
            return expected
        if expected.kind == "error":
            return found
        if found.kind == "error":
            return expected
        if self.fits(found, expected):
            self._widen(node, found, expected)
            self._check_range(node, expected)
            return expected
        if found.kind == "optional" and self.fits(found.args[0], expected):
            self.present_or_report(node, found)
            return expected
        self._mismatch(node, found, expected, code)
        return expected

    def fits(self, found: Type, expected: Type) -> bool:
        """Whether a value of one type may stand where another is expected: as `types.fits` says, and what a branch or
        an item is worth (an object) also where a record of the same fields is expected."""
        if fits(found, expected):
            return True
        if expected.kind == "optional":
            return self.fits(found.args[0] if found.kind == "optional" else found, expected.args[0])
        match found.kind, expected.kind:
            case ("list", "list") | ("map", "map"):
                return all(map(self.fits, found.args, expected.args)) and not _renumbered(found, expected)
            case "object", "record":
                fields, given = self.shapes.fields(expected) or {}, dict(found.fields)
                return all(n in given or t.kind == "optional" for n, t in fields.items()) and all(
                    n in fields and self.fits(t, fields[n]) and not _renumbered(t, fields[n]) for n, t in given.items()
                )
            case _:
                return False

    def condition(self, node: ast.Expr, what: str = "a guard") -> None:
        """Checks a guard: JAM501 where it is no truth value. `what` names it in the message."""
        self._condition = what
        self.expect(node, BOOL, "JAM501")

    def value(self, node: ast.Expr, hint: Type | None = None) -> Type:
        """The type of an expression whose value is used: an optional one is reported and unwrapped."""
        return self.present_or_report(node, self.infer(node, hint))

    def present_or_report(self, node: ast.Expr, found: Type) -> Type:
        """The type without `?`; JAM403 unless the scope is lenient."""
        if found.kind != "optional":
            return found
        if not self.scope.lenient:
            text = node.span.text if len(node.span.text) <= 60 else "this value"
            self.problem(
                "JAM403",
                node,
                f"`{text}` may not be there",
                help=f"ask first: `has({text}) && …`, `has({text}) ? {text} : …`, or an earlier `when !has({text})`",
                why=f"its type is {show(found)}",
            )
        return found.args[0]

    def _widen(self, node: ast.Expr, found: Type, expected: Type) -> None:
        target = base(expected)
        kind = base(found).kind
        if (kind == "int" and target.kind in ("decimal", "float")) or (kind == "map" and target.kind == "record"):
            self.widened[node] = target

    def _mismatch(self, node: ast.Expr, found: Type, expected: Type, code: str) -> None:
        if code == "JAM501":
            message = f"{self._condition} is a truth value, and this is {_a(found)}"
            self.problem(code, node, message, help=_as_bool(node, found))
            return
        help = ""
        inner = base(expected)
        if found.kind == "any" and inner.kind in ("int", "uint", "float", "string", "bool", "decimal"):
            help = f"convert it: `{inner.kind}({node.span.text})`"
        elif inner.kind == "enum" and isinstance(node, ast.Ident) and node.name in self.shapes.members(inner):
            help = f"`{node.name}` is a variable here; write `{show(inner)}.{node.name}` for the member"
        elif found.kind == "float" and inner.kind in ("decimal", "money"):
            help = "a binary fraction is not exact; convert it: `decimal(…)`"
        elif inner.kind == "money" and found.kind in ("int", "decimal"):
            help = 'say the currency: `$1.50`, `1.50 EUR`, or `money(amount, "USD")`'
        elif inner.kind == "string" and found.kind in ("int", "uint", "decimal", "money", "duration", "timestamp"):
            help = f"convert it: `string({node.span.text})`"
        self.problem(code, node, f"{_a(plain(found))} where {_a(plain(expected))} is expected", help=help)

    def _check_range(self, node: ast.Expr, expected: Type) -> None:
        t = base(expected)
        if t.low is None or t.high is None:
            return
        if t.kind == "list":
            size = len(node.items) if isinstance(node, ast.ListLit) else None
            assert isinstance(t.low, int)
            assert isinstance(t.high, int)
            if size is not None and not t.low <= size <= t.high:
                self.problem("JAM408", node, f"a list of {size} where {t.low} to {t.high} are declared")
            return
        value = self._constant(node)
        if value is not None and not number(t.low) <= value <= number(t.high):
            self.problem("JAM408", node, f"`{node.span.text}` is outside of the declared range {t.low}..{t.high}")

    def _constant(self, node: ast.Expr) -> Fraction | int | None:
        """The number of a literal or of a const that is one."""
        for _ in range(20):
            symbol = self.symbols.get(node) if isinstance(node, ast.Ident) else None
            if symbol is None or not isinstance(symbol.node, ast.ConstDecl):
                break
            node = symbol.node.value
        if not isinstance(node, ast.Lit):
            return None
        if node.kind == "money" and isinstance(node.value, tuple):
            return number(str(node.value[0]).replace("_", ""))
        if node.kind in ("int", "uint", "float", "quantity"):
            from math import isfinite

            assert isinstance(node.value, int | float)
            return number(node.value) if isfinite(node.value) else None
        return None

    # ---- by kind of expression

    def _infer(self, node: ast.Expr, hint: Type | None) -> Type:
        match node:
            case ast.Ident():
                return self._ident(node, hint)
            case ast.Lit():
                return self._literal(node, hint)
            case ast.Select():
                return self._select(node)
            case ast.Binary():
                return self._binary(node, hint)
            case ast.FnCall():
                from jamjet_dsl.analysis.typecheck_calls import infer_call

                return infer_call(self, node)
            case ast.MethodCall():
                from jamjet_dsl.analysis.typecheck_calls import infer_method

                return infer_method(self, node, hint)
            case ast.MapLit():
                return infer_map(self, node, hint)
            case ast.ListLit():
                return infer_list(self, node, hint)
            case ast.Cond():
                return self._cond(node, hint)
            case ast.Unary():
                return self._unary(node, hint)
            case ast.Index():
                return self._index(node)
            case _:
                return ERROR

    def _literal(self, node: ast.Lit, hint: Type | None) -> Type:
        target = base(hint) if hint is not None else None
        match node.kind:
            case "money":
                assert isinstance(node.value, tuple)
                return self._money(node, str(node.value[1]))
            case "string" if target is not None and target.kind == "enum":
                if node.value not in self.shapes.members(target):
                    return self._no_member(node, str(node.value), target)
                self.widened[node] = target
                return target
            case "float" if target is not None and target.kind in ("decimal", "money"):
                self.widened[node] = DECIMAL
                return DECIMAL
            case "percent":
                return self.problem("JAM401", node, "a percentage has no place here", help="write a number")
            case kind:
                return _LITERALS[kind]

    def _money(self, node: ast.Expr, currency: str) -> Type:
        """A literal's money; an agent has one currency, which the first that is met decides."""
        if self.one_currency:
            if self.currency is None:
                self.currency = currency
            elif self.currency != currency:
                self.problem(
                    "JAM401",
                    node,
                    f"{currency} in an agent whose money is in {self.currency}",
                    help=f"write all amounts in {self.currency}",
                    why="an agent has one currency, or its budget could not be added up",
                )
                return Type("money")
        return Type("money", currency=currency)

    def _no_member(self, node: Node, text: str, enum: Type) -> Type:
        members = sorted(self.shapes.members(enum))
        listed = f"it has {', '.join(members[:8])}" + (" and more" if len(members) > 8 else "")
        return self.problem(
            "JAM409", node, f"`{show(enum)}` has no member `{text}`", help=self.report.meant(text, members, listed)
        )

    def lookup(self, name: str) -> Symbol | None:
        """What a bare name means in the scope, nearest first."""
        scope = self.scope
        found = self.locals.get(name) or scope.own.get(name) or scope.outer.get(name)
        if found is not None:
            return found
        top = self.names.scope.names.get(name)
        if top is not None and top.kind in ("const", "unknown"):
            return self.names.find(name)
        return _ROOT_SYMBOLS[name] if name in scope.roots else None

    def _ident(self, node: ast.Ident, hint: Type | None) -> Type:
        symbol = self.lookup(node.name)
        if hint is not None and hint.name == "state" and node.name in self.scope.states:
            symbol = Symbol("state", node.name, None, STATE)
        if symbol is None:
            return self._member_or_unknown(node, hint)
        symbol.used = True
        if symbol.kind != "unknown":
            self.symbols[node] = symbol
        found = symbol.type if symbol.type is not None else self.complete(symbol)
        if found.kind == "optional" and node.name in self.present:
            return found.args[0]
        if found.kind == "money" and found.currency is not None and symbol.kind == "const":
            return self._money(node, found.currency)
        return found

    def _member_or_unknown(self, node: ast.Ident, hint: Type | None) -> Type:
        name = node.name
        target = base(hint) if hint is not None else None
        if target is not None and target.kind == "enum":
            if name not in self.shapes.members(target):
                return self._no_member(node, name, target)
            assert target.name is not None
            self.symbols[node] = Symbol("member", name, self.names.analysis.enums[target.name], target, used=True)
            return target
        top = self.names.scope.names.get(name)
        if top is not None:
            self.names.missed += 1
            return self.problem("JAM101", node, f"`{name}` is {_KINDS.get(top.kind, top.kind)}, not a value")
        scope = self.scope
        known = chain(self.locals, scope.own, scope.outer, scope.roots, self.names.all_of("const"))
        self.names.unknown(node.span, name, "variable", known, f"write `{_FOREIGN[name]}`" if name in _FOREIGN else "")
        return ERROR

    def _select(self, node: ast.Select) -> Type:
        operand = node.operand
        if isinstance(operand, ast.Ident) and self.lookup(operand.name) is None:
            enum = self.names.scope.names.get(operand.name)
            if enum is not None and enum.kind == "enum":
                return self._member(node, operand, enum)
        whole = self.value(operand)
        found = self.field(node.field, whole)
        if found.kind == "optional" and self.present:
            key = key_of(node)
            if key in self.present:
                return found.args[0]
        return found

    def _member(self, node: ast.Select, operand: ast.Ident, enum: Symbol) -> Type:
        self.names.find(operand.name)
        self.symbols[operand] = enum
        type_ = Type("enum", name=enum.name)
        self.types[operand] = type_
        if node.field.text not in self.shapes.members(type_):
            return self._no_member(node.field, node.field.text, type_)
        self.symbols[node.field] = Symbol("member", node.field.text, enum.node, type_, used=True)
        return type_

    def field(self, name: ast.Name, whole: Type) -> Type:
        """The type of a field of a value; JAM402 where there is none."""
        if whole.kind == "secret":
            inner = self.field(name, whole.args[0])
            return secret(inner)
        if whole.kind in ("error", "any"):
            return whole
        if whole.kind == "map" and whole.args[0].kind in ("string", "any"):
            return whole.args[1]
        fields = self.shapes.fields(whole)
        if fields is None:
            return self.problem("JAM402", name, f"{_a(whole)} has no fields")
        found = fields.get(name.text)
        if found is None:
            help = self.report.meant(name.text, fields, f"it has {', '.join(list(fields)[:10])}" if fields else "")
            what = f"`{show(whole)}`" if whole.kind != "object" else "this"
            return self.problem("JAM402", name, f"{what} has no field `{name.text}`", help=help)
        return found

    def _index(self, node: ast.Index) -> Type:
        whole = self.value(node.operand)
        inner = whole.args[0] if whole.kind == "secret" else whole
        match inner.kind:
            case "list":
                self.expect(node.index, INT)
                found = inner.args[0]
            case "map":
                self.expect(node.index, inner.args[0])
                found = inner.args[1]
            case "any" | "error":
                self.value(node.index)
                found = inner
            case _:
                self.infer(node.index)
                return self.problem("JAM401", node.operand, f"{_a(inner)} cannot be indexed")
        return secret(found) if whole.kind == "secret" else found

    def _unary(self, node: ast.Unary, hint: Type | None) -> Type:
        operand = self.value(node.operand, hint if node.op == "-" else None)
        found = unary_type(node.op, operand)
        if found is None:
            return self.problem("JAM401", node, f"`{node.op}` does not take {_a(operand)}")
        return found

    def _cond(self, node: ast.Cond, hint: Type | None) -> Type:
        self.condition_in(node.test)
        facts = self.narrowing.facts(node.test)
        if hint is not None and hint.kind != "any":
            self.under(facts.true, lambda: self.expect(node.then, hint))
            self.under(facts.false, lambda: self.expect(node.other, hint))
            return hint
        then = self.under(facts.true, lambda: self.infer(node.then))
        other = self.under(facts.false, lambda: self.infer(node.other, then))
        joined = join(then, other)
        if joined is None:
            return self.problem(
                "JAM401", node, f"this is {_a(then)} or {_a(other)}", help="both sides of `:` need one type"
            )
        for side, found in ((node.then, then), (node.other, other)):
            self._widen(side, found, joined)
        return joined

    def condition_in(self, node: ast.Expr) -> None:
        """Checks an operand that must be a truth value."""
        self.expect(node, BOOL)

    def under(self, keys: Keys, check: Callable[[], Type]) -> Type:
        """Runs a check where the paths of `keys` are known to have a value."""
        if not keys:
            return check()
        before, self.present = self.present, self.present | keys
        found = check()
        self.present = before
        return found

    def _binary(self, node: ast.Binary, hint: Type | None) -> Type:
        """Chains of operators lean to the left and may be long, so they are gone through without recursion."""
        chain = [node]
        while isinstance(chain[-1].left, ast.Binary):
            chain.append(chain[-1].left)
        first = chain[-1]
        logical = first.op in ("&&", "||")
        if logical:
            left = self.expect(first.left, BOOL)
        else:
            left = self._operand(first.left, first.op, self._side_hint(first, hint))
        for at in reversed(chain):
            left = self._apply(at, left, hint)
            self.types[at] = left
            if at is not node and left.kind == "optional":
                left = self.present_or_report(at, left)
        return left

    def _side_hint(self, node: ast.Binary, hint: Type | None) -> Type | None:
        """What the left operand is taken for: arithmetic keeps the hint; a member looks at the other side of `==`."""
        if node.op in ("+", "-"):
            return hint
        if node.op in ("==", "!=") and isinstance(node.left, ast.Ident) and self.lookup(node.left.name) is None:
            return self.infer(node.right) if isinstance(node.right, ast.Ident | ast.Select) else None
        return None

    def _operand(self, node: ast.Expr, op: str, hint: Type | None) -> Type:
        """An operand; `==` and `!=` compare optional values, every other operator needs them there."""
        found = self.infer(node, hint)
        return found if op in ("==", "!=") else self.present_or_report(node, found)

    def _apply(self, node: ast.Binary, left: Type, hint: Type | None) -> Type:
        op, right_node = node.op, node.right
        if op in ("&&", "||"):
            self._truth(node.left, left)
            facts = self.narrowing.facts(node.left)
            self.under(facts.true if op == "&&" else facts.false, lambda: self.expect(right_node, BOOL))
            return BOOL
        if op == "in":
            right = self._operand(right_node, op, list_of(left) if base(left).kind == "enum" else None)
            item = right.args[0] if right.kind in ("list", "map") and right.args else None
            if item is not None and base(item).kind == "enum":
                left = self.infer(node.left, item)
            return self._overload(node, left, right)
        if left.name == "state" and isinstance(right_node, ast.Ident):
            return self._of_state(right_node)
        taken = left if op in ("==", "!=", "<", "<=", ">", ">=") or base(left).kind in ("list", "decimal") else hint
        if op in ("*", "/") and base(left).kind in ("decimal", "money"):
            taken = DECIMAL
        right = self._operand(right_node, op, taken)
        if isinstance(node.left, ast.Lit) and base(right).kind in ("decimal", "enum", "money") and left != right:
            left = self.infer(node.left, DECIMAL if base(right).kind == "money" and op == "*" else right)
        elif isinstance(node.left, ast.Ident) and left.kind == "error" and base(right).kind == "enum":
            left = right
        return self._overload(node, left, right)

    def _of_state(self, node: ast.Ident) -> Type:
        """`state == NAME`: one of the agent's states."""
        if node.name in self.scope.states or self.lookup(node.name) is not None:
            self.expect(node, STATE)
        else:
            help = self.report.meant(node.name, self.scope.states)
            self.problem("JAM101", node, f"there is no state `{node.name}`", help=help)
        return BOOL

    def _truth(self, node: ast.Expr, found: Type) -> None:
        if found.kind not in ("bool", "error") and isinstance(node, ast.Binary):
            self.problem("JAM401", node, f"{_a(found)} where bool is expected")

    def _overload(self, node: ast.Binary, left: Type, right: Type) -> Type:
        if "error" in (left.kind, right.kind):
            return BOOL if node.op in _RELATIONS else ERROR
        if node.op in ("==", "!="):
            if not comparable(left, right):
                return self._cannot(node, left, right)
            self._widen_sides(node, plain(base(left)), plain(base(right)))
            return BOOL
        chosen = operator_overload(node.op, left, right)
        if chosen is None:
            return self._cannot(node, left, right)
        for side, found, param in zip((node.left, node.right), (left, right), chosen.params, strict=True):
            self._widen(side, found, param)
        return plain(chosen.result) if chosen.result.kind != "list" else chosen.result._replace(low=None, high=None)

    def _widen_sides(self, node: ast.Binary, left: Type, right: Type) -> None:
        self._widen(node.left, left, right)
        self._widen(node.right, right, left)

    def _cannot(self, node: ast.Binary, left: Type, right: Type) -> Type:
        a, b = show(left), show(right)
        if base(left).kind == "money" and base(right).kind == "money":
            help = "amounts of two currencies cannot be added or compared"
            if node.op in "*%":
                help = "an amount is multiplied by a number"
        elif {base(left).kind, base(right).kind} == {"float", "decimal"}:
            help = "convert one of them: `decimal(x)`, `float(x)`"
        else:
            sides = sorted(
                ((node.right, right, left), (node.left, left, right)), key=lambda s: not isinstance(s[0], ast.Lit)
            )
            help = next(filter(None, (_other_side(*side) for side in sides)), "")
            help = help or "it takes " + ", ".join(s.split(" ", 1)[1] for s in signatures_of(node.op)[:6])
        result = BOOL if node.op in _RELATIONS else ERROR
        self.problem("JAM401", node, f"`{node.op}` between {a} and {b}", help=help)
        return result


_FOREIGN = {"True": "true", "False": "false", "None": "null", "nil": "null", "undefined": "null", "TRUE": "true",
            "FALSE": "false", "NULL": "null", "Null": "null"}  # fmt: skip
"""What the words that stand for values are called elsewhere."""
_RELATIONS = frozenset({"==", "!=", "<", "<=", ">", ">=", "in"})


def _renumbered(found: Type, expected: Type) -> bool:
    """Whether numbers would change their kind: inside a list or record nothing is converted."""
    if found.args and len(found.args) == len(expected.args):
        return any(map(_renumbered, found.args, expected.args))
    a, b = base(found).kind, base(expected).kind
    return a != b and {a, b} <= NUMERIC


_KINDS = {
    "tool": "a tool",
    "record": "a record",
    "enum": "an enum",
    "fn": "a function",
    "model": "a model",
    "agent": "an agent",
}


def _other_side(node: ast.Expr, found: Type, other: Type) -> str:
    """How one side of an operator is written so that it goes with the other; empty where that is not clear."""
    mine, theirs = base(found).kind, base(other).kind
    text = node.span.text if len(node.span.text) <= 40 else "…"
    literal = isinstance(node, ast.Lit)
    if theirs == "money" and mine in ("int", "decimal", "float"):
        return f"write an amount: `${text}`" if literal else "compare amounts with amounts"
    if theirs == "duration" and mine == "int":
        return f"write a duration: `{text}s`" if literal else "give it a unit: `duration(…)`"
    if literal and mine == "string" and theirs in ("int", "decimal", "float", "bool"):
        inner = text.strip("\"'")
        return f"write `{inner}`, without quotes" if _reads_as(inner, theirs) else ""
    if theirs == "string" and mine in ("int", "uint", "float", "decimal", "bool", "money", "timestamp", "duration"):
        return f"convert it: `string({text})`"
    if theirs == "enum" and mine == "string":
        return f"write a member of `{show(other)}`, without quotes"
    return ""


def _reads_as(text: str, kind: str) -> bool:
    return text in ("true", "false") if kind == "bool" else text.replace(".", "", 1).isdecimal()


def _a(t: Type) -> str:
    """A type in a sentence."""
    return "nothing" if t.kind == "null" else "`" + show(t) + "`"


def _as_bool(node: ast.Expr, found: Type) -> str:
    text = node.span.text
    match found.kind:
        case "optional":
            return f"ask whether it is there: `has({text})`"
        case "list" | "map" | "string":
            return f"ask for its size: `size({text}) > 0`"
        case "int" | "uint" | "decimal" | "float":
            return f"compare it: `{text} != 0`"
        case _:
            return "compare it with something"
