"""Builder functions for names, literals, expressions and types: what the parser calls on each reduction.

A function has the name of its rule (or alternative) in `grammar/jam.lark` and takes the rule's children in order
(tokens, nodes, None for an absent optional part), and the first and last code point of what it covers.
"""

from __future__ import annotations

from typing import Any

from jamjet_dsl.diagnostics.model import Diagnostic
from jamjet_dsl.source import SourceFile, Span
from jamjet_dsl.syntax import literals
from jamjet_dsl.syntax.ast import (
    Arg,
    Binary,
    Cond,
    ErrorExpr,
    Expr,
    FnCall,
    Ident,
    Index,
    ListLit,
    Lit,
    MapEntry,
    MapLit,
    MethodCall,
    Name,
    Param,
    Path,
    Placeholder,
    RangeExpr,
    Select,
    Text,
    TypeExpr,
    Unary,
)
from jamjet_dsl.syntax.lexer import MAX_DEPTH, Token

_MIN_INT_DIGITS = 2**63  # a literal only after a minus
_WORDS: dict[str, object] = {"true": True, "false": False, "null": None}
Kids = list[Any]


class ExprBuilder:
    """Builds names, literals, expressions and types of one source, and collects what is wrong in them."""

    def __init__(self, source: SourceFile, docs: dict[int, str]) -> None:
        self.source = source
        self.docs = docs
        self.used_docs: set[int] = set()
        self.diagnostics: list[Diagnostic] = []
        self.unfolded: dict[int, Lit] = {}  # 9223372036854775808 by place, until its minus is found
        self.orphans: list[tuple[str, int, int]] = []  # parts of a retry without a retry: word, start, end
        self._deep_reported = False
        self._depth: dict[int, int] = {}  # of compound expressions and types, by id; leaves have none

    def restart(self, known: int) -> None:
        """Forget all but the first `known` findings: the source is parsed once more."""
        del self.diagnostics[known:]
        self.used_docs.clear()
        self.unfolded.clear()
        self.orphans.clear()

    # ---- helpers

    def name(self, token: Token) -> Name:
        """The name a word token stands for, without backticks."""
        _, text, start, end = token
        if text in _WORDS:
            self.error(
                "JAM103", f"`{text}` is a value and cannot be a name", start, end, f"write `` `{text}` `` or rename"
            )
        return Name(Span(self.source, start, end), text.strip("`") if text[:1] == "`" else text)

    def doc(self, start: int) -> str | None:
        """The doc comment directly before `start`."""
        if start in self.docs:
            self.used_docs.add(start)
            return self.docs[start]
        return None

    def error(self, code: str, message: str, start: int, end: int, help: str = "", why: str = "") -> None:
        """Report a finding at a place in the source."""
        self.diagnostics.append(Diagnostic(code, message, Span(self.source, start, end), why=why, help=help))

    def _nested(self, node: Any, start: int, end: int, *inner: Any) -> Any:
        """`node`, noted to stand one level above its deepest part; an ErrorExpr in its place beyond `MAX_DEPTH`."""
        depths = self._depth
        depth = 1
        for part in inner:
            below = depths.get(id(part), 0)
            if below >= depth:
                depth = below + 1
        if depth > MAX_DEPTH:
            self.too_deep(start, end)
            return ErrorExpr(Span(self.source, start, end))
        depths[id(node)] = depth
        return node

    def too_deep(self, start: int, end: int) -> None:
        """Report nesting beyond the limit, the first time."""
        if not self._deep_reported:
            self._deep_reported = True
            help = "name parts of it with a variable or a `fn`"
            self.error("JAM001", f"nested more than {MAX_DEPTH} levels deep", start, end, help)

    # ---- names and literals

    def names(self, k: Kids, s: int, e: int) -> tuple[Name, ...]:
        return tuple(map(self.name, k))

    def path(self, k: Kids, s: int, e: int) -> Path:
        return Path(Span(self.source, s, e), tuple(map(self.name, k)))

    def lit(self, k: Kids, s: int, e: int) -> Expr:
        token: Token = k[0]
        if token.kind == "BADNUM":
            return ErrorExpr(Span(self.source, s, e))
        try:
            return Lit(Span(self.source, s, e), *self._value(token))
        except literals.BadLiteral as bad:
            self.error("JAM004", bad.message, s + bad.start, s + bad.end, bad.help)
            kind = token.kind.lower()
            neutral: dict[str, object] = {"string": "", "bytes": b"", "float": 0.0, "money": ("0", "USD")}
            return Lit(Span(self.source, s, e), kind, neutral.get(kind, 0))

    def _value(self, token: Token) -> tuple[str, object]:
        kind, text, start, end = token
        if kind == "INT":
            value = literals.integer(text)
            if value == _MIN_INT_DIGITS:
                self.unfolded[start] = Lit(Span(self.source, start, end), "int", value)
            elif value > literals.INT_MAX:
                raise literals.BadLiteral(
                    "this number does not fit into 64 bits", f"the largest int is {literals.INT_MAX}", 0, len(text)
                )
            return "int", value
        match kind:
            case "STRING":
                return "string", literals.string(text)
            case "MONEY":
                return "money", literals.money(text)
            case "DURATION":
                return "duration", literals.duration(text)
            case "FLOAT":
                return "float", literals.floating(text)
            case "QUANTITY":
                return "quantity", literals.quantity(text)
            case "UINT":
                return "uint", literals.unsigned(text)
            case _:
                return "bytes", literals.bytes_(text)

    def word_lit(self, k: Kids, s: int, e: int) -> Lit:
        word = k[0].text
        return Lit(Span(self.source, s, e), "null" if word == "null" else "bool", _WORDS[word])

    def string_lit(self, token: Token) -> Lit:
        """The literal of a string token that stands outside of expressions."""
        made = self.lit([token], token.start, token.end)
        assert isinstance(made, Lit)
        return made

    # ---- expressions

    def expression(self, k: Kids, s: int, e: int) -> Expr:
        expr: Expr = k[0]
        return expr

    def ident(self, k: Kids, s: int, e: int) -> Expr:
        kind, text, *_ = k[0]
        if kind == "BADNUM" or not text:
            return ErrorExpr(Span(self.source, s, e))
        return Ident(Span(self.source, s, e), text.strip("`") if text[:1] == "`" else text)

    def root_ident(self, k: Kids, s: int, e: int) -> Ident:
        return Ident(Span(self.source, s, e), "." + k[0].text.strip("`"))

    def error_expr(self, k: Kids, s: int, e: int) -> ErrorExpr:
        return ErrorExpr(Span(self.source, s, e))

    def select(self, k: Kids, s: int, e: int) -> Expr:
        operand, field = k
        made: Expr = self._nested(Select(Span(self.source, s, e), operand, self.name(field)), s, e, operand)
        return made

    def index(self, k: Kids, s: int, e: int) -> Expr:
        made: Expr = self._nested(Index(Span(self.source, s, e), *k), s, e, *k)
        return made

    def arg(self, k: Kids, s: int, e: int) -> Arg:
        value = k[0]
        return Arg(value.span, None, value)

    def named_arg(self, k: Kids, s: int, e: int) -> Arg:
        return Arg(Span(self.source, s, e), self.name(k[0]), k[1])

    def args(self, k: Kids, s: int, e: int) -> tuple[Arg, ...]:
        return tuple(k)

    def fn_call(self, k: Kids, s: int, e: int) -> Expr:
        args = k[1] or ()
        node = FnCall(Span(self.source, s, e), self.name(k[0]), args)
        made: Expr = self._nested(node, s, e, *(arg.value for arg in args))
        return made

    def method(self, k: Kids, s: int, e: int) -> Expr:
        operand, method, *args = k
        node = MethodCall(Span(self.source, s, e), operand, self.name(method), tuple(args))
        made: Expr = self._nested(node, s, e, operand, *args)
        return made

    def not_(self, k: Kids, s: int, e: int) -> Expr:
        made: Expr = self._nested(Unary(Span(self.source, s, e), "!", k[0]), s, e, k[0])
        return made

    def neg(self, k: Kids, s: int, e: int) -> Expr:
        operand = k[0]
        span = Span(self.source, s, e)
        # Folded only into a bare literal: `-(5)` is an operation, and so is the first minus of `--5`.
        if type(operand) is Lit and operand.span.end == e and self.source.text[operand.span.start] != "-":
            match operand.value:
                case (str(amount), str(currency)) if operand.kind == "money":
                    return Lit(span, "money", ("-" + amount, currency))
                case int(value) if operand.kind in ("int", "duration", "quantity"):
                    self.unfolded.pop(operand.span.start, None)
                    return Lit(span, operand.kind, -value)
                case float(value):
                    return Lit(span, "float", -value)
        made: Expr = self._nested(Unary(span, "-", operand), s, e, operand)
        return made

    def binary(self, k: Kids, s: int, e: int) -> Expr:
        left, op, right = k
        made: Expr = self._nested(Binary(Span(self.source, s, e), op.text, left, right), s, e, left, right)
        return made

    def cond(self, k: Kids, s: int, e: int) -> Expr:
        made: Expr = self._nested(Cond(Span(self.source, s, e), *k), s, e, *k)
        return made

    def list_(self, k: Kids, s: int, e: int) -> Expr:
        made: Expr = self._nested(ListLit(Span(self.source, s, e), tuple(k)), s, e, *k)
        return made

    def map_(self, k: Kids, s: int, e: int) -> Expr:
        node = MapLit(Span(self.source, s, e), tuple(k))
        made: Expr = self._nested(node, s, e, *(entry.key for entry in k), *(entry.value for entry in k))
        return made

    def pair(self, k: Kids, s: int, e: int) -> MapEntry:
        key, value = k
        span = Span(self.source, s, e)
        # A bare name is a field name; `(name): 1` has the name's value as its key.
        if type(key) is Ident and key.span.start == s and key.name[0] != ".":
            return MapEntry(span, Lit(key.span, "string", key.name), value, Name(key.span, key.name))
        return MapEntry(span, key, value, None)

    # ---- texts

    def text(self, k: Kids, s: int, e: int) -> Text:
        token: Token = k[0]
        value = self.string_lit(token).value
        assert isinstance(value, str)
        span = Span(self.source, s, e)
        if "{" not in value:
            return Text(span, value, (value,) if value else ())
        return Text(span, value, self._parts(token))

    def _parts(self, token: Token) -> tuple[str | Placeholder, ...]:
        """The pieces of a text, found in the source so that each placeholder has its exact place. No escape
        contains a brace, except one that *is* a brace (`\\x7b`), and that one is literal."""
        import re

        start, end, raw, _ = literals.body_of(token.text)
        opening = re.compile(r"\{\{|\{([^{}\n]*)\}?" if raw else r"\\[\s\S]|\{\{|\{([^{}\n\\]*)\}?")
        parts: list[str | Placeholder] = []
        literal: list[str] = []
        at = start
        for match in opening.finditer(token.text, start, end):
            found = match.group()
            if found[0] == "\\":
                continue
            literal.append(self._piece(token, at, match.start(), raw))
            at = match.end()
            place = None if found == "{{" else self._placeholder(match, token.start)
            if place is None:
                literal.append("{" if found == "{{" else found)
                continue
            if "".join(literal):
                parts.append("".join(literal))
            literal = []
            parts.append(place)
        literal.append(self._piece(token, at, end, raw))
        if "".join(literal):
            parts.append("".join(literal))
        return tuple(parts)

    def _piece(self, token: Token, start: int, end: int, raw: bool) -> str:
        quote = '"""' if '"""' not in token.text[start:end] else "'''"
        try:
            return literals.string(("r" if raw else "") + quote + token.text[start:end] + quote)
        except literals.BadLiteral:
            return ""  # reported when the whole literal was read

    def _placeholder(self, match: Any, offset: int) -> Placeholder | None:
        inside: str = match.group(1)
        start, end = offset + match.start(), offset + match.end()
        words = inside.split(".")
        bare = [word.strip() for word in words]
        if match.group()[-1] != "}" or not all(word.isidentifier() and word.isascii() for word in bare):
            self.error(
                "JAM004",
                "a placeholder is the path of a value, like `{app.amount}`",
                start,
                end,
                "write `{{` for a brace that belongs to the text",
            )
            return None
        names = []
        at = start + 1
        for word, name in zip(words, bare, strict=True):
            first = at + len(word) - len(word.lstrip())
            names.append(Name(Span(self.source, first, first + len(name)), name))
            at += len(word) + 1
        path = Path(Span(self.source, names[0].span.start, names[-1].span.end), tuple(names))
        return Placeholder(Span(self.source, start, end), path)

    # ---- types

    def type(self, k: Kids, s: int, e: int) -> TypeExpr:
        secret, name, args, optional, bounds = k
        args = args or ()
        node = TypeExpr(
            Span(self.source, s, e), self.name(name), args, optional is not None, secret is not None, bounds
        )
        if args and self._nested(node, s, e, *args) is not node:
            return TypeExpr(node.span, node.name)
        return node

    def targs(self, k: Kids, s: int, e: int) -> tuple[TypeExpr, ...]:
        return tuple(k)

    def range(self, k: Kids, s: int, e: int) -> RangeExpr:
        return RangeExpr(Span(self.source, s, e), *k)

    def param(self, k: Kids, s: int, e: int) -> Param:
        return Param(Span(self.source, s, e), self.name(k[0]), k[1], self.doc(s))

    def field(self, k: Kids, s: int, e: int) -> Param:
        return Param(Span(self.source, s, e), self.name(k[0]), k[1], self.doc(s))

    def params(self, k: Kids, s: int, e: int) -> tuple[Param, ...]:
        return tuple(k)
