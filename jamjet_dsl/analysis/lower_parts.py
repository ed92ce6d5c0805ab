"""What lowering shares: constants, types, and the parts of the program that a definition has come to need."""

from __future__ import annotations

import os.path
from collections.abc import Iterable
from decimal import Decimal

from jamjet_dsl import definition as d
from jamjet_dsl.analysis.flow import effect_of
from jamjet_dsl.analysis.lower_expr import lower_expr
from jamjet_dsl.analysis.model import Analysis, Type
from jamjet_dsl.money import money_text
from jamjet_dsl.source import Span
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node

_SCALARS = frozenset(
    {"bool", "int", "uint", "float", "string", "bytes", "decimal", "duration", "timestamp", "any", "null"}
)


class Parts:
    """Collects what a definition names, each once: tools, models, records, enums, functions and child agents.

    Only what is used gets in, so a declaration that nothing uses does not change the digest.
    """

    def __init__(self, analysis: Analysis) -> None:
        self.analysis = analysis
        self.currency = "USD"
        """The currency of the agent that is being lowered, for the sum of no money at all."""
        self.lowered: list[tuple[d.ExprJson, Span]] = []
        """Every expression that was lowered, with its place; bodies of functions are parts of what calls them."""
        self.tools: dict[str, d.Tool | None] = {}
        self.models: dict[str, d.ModelDef] = {}
        self.records: dict[str, d.Record] = {}
        self.enums: dict[str, d.Enum] = {}
        self.fns: dict[str, d.Fn | None] = {}
        self.agents: list[ast.AgentDecl] = []
        self.spans: dict[str, d.SpanJson] = {}
        self.docs: dict[str, str] = {}
        self._fn_decls = {
            s.name: s.node
            for file in analysis.files
            for s in file.names.values()
            if s.kind == "fn" and isinstance(s.node, ast.FnDecl)
        }
        self._root = os.path.dirname(analysis.files[0].program.source.name)

    # ---- places and documentation

    def file(self, name: str) -> str:
        """The name of a file relative to the main program."""
        if name.startswith("<"):
            return name
        return os.path.relpath(name, self._root or ".").replace(os.sep, "/")

    def place(self, span: Span) -> d.SpanJson:
        """A span as stored beside the definition."""
        line, column = span.source.line_column(span.start)
        end_line, end_column = span.source.line_column(span.end)
        return d.SpanJson(file=self.file(span.file), line=line, column=column, end_line=end_line, end_column=end_column)

    def note(self, key: str, span: Span, doc: str | None = None) -> None:
        """Remembers where a part of the definition stands and what its doc comment says."""
        self.spans[key] = self.place(span)
        if doc:
            self.docs[key] = doc

    # ---- constants

    def literal(self, node: ast.Expr) -> ast.Lit:
        """The literal that a checked expression is, or that its const is."""
        while isinstance(node, ast.Ident):
            decl = self.analysis.symbols[node].node
            assert isinstance(decl, ast.ConstDecl)
            node = decl.value
        assert isinstance(node, ast.Lit)
        return node

    def integer(self, node: ast.Expr) -> int:
        """A whole number."""
        value = self.literal(node).value
        assert isinstance(value, int)
        return value

    def ms(self, node: ast.Expr | None) -> int | None:
        """A duration in milliseconds."""
        return None if node is None else self.integer(node)

    def money(self, node: ast.Expr) -> str:
        """Money as its canonical text."""
        value = self.literal(node).value
        assert isinstance(value, tuple)
        return money_text(Decimal(value[0]), value[1])

    def number_text(self, node: ast.Expr) -> str:
        """A number that is not money as exact text."""
        return str(self.literal(node).value)

    # ---- types

    def type(self, t: Type) -> d.Type:
        """A type; what it names gets into the definition."""
        match t.kind:
            case "money":
                return d.MoneyType(currency=t.currency, low=_text(t.low), high=_text(t.high))
            case "list":
                assert t.low is None or isinstance(t.low, int)
                assert t.high is None or isinstance(t.high, int)
                return d.ListType(item=self.type(t.args[0]), low=t.low, high=t.high)
            case "map":
                return d.MapType(key=self.type(t.args[0]), value=self.type(t.args[1]))
            case "record":
                return d.RecordType(name=self.record(t.name or ""))
            case "enum":
                return d.EnumType(name=self.enum(t.name or ""))
            case "optional":
                return d.OptionalType(item=self.type(t.args[0]))
            case "secret":
                return d.SecretType(item=self.type(t.args[0]))
            case "object":
                return d.ObjectType(fields={name: self.type(f) for name, f in t.fields})
            case "Move" | "ToolCall" | "conversation" | "file":
                return d.BuiltinType.model_validate({"kind": t.kind})
            case kind:
                assert kind in _SCALARS, kind
                return d.Scalar.model_validate({"kind": kind, "low": t.low, "high": t.high})

    def written(self, node: ast.TypeExpr) -> d.Type:
        """The type that a type expression denotes."""
        return self.type(self.analysis.types[node])

    def fields(self, params: Iterable[ast.Param], docs: bool = False) -> tuple[d.FieldDef, ...]:
        """Parameters or fields; with their doc comments where a model sees them."""
        return tuple(
            d.FieldDef(name=p.name.text, type=self.written(p.type), doc=(p.doc or None) if docs else None)
            for p in params
        )

    def record(self, name: str) -> str:
        """A record by its unique name."""
        if name not in self.records:
            decl = self.analysis.records[name]
            self.records[name] = d.Record(fields=())  # so that a record in a list of itself ends
            self.records[name] = d.Record(fields=self.fields(decl.fields, docs=True), doc=decl.doc or None)
            self.note(f"record/{name}", decl.span, decl.doc)
        return name

    def enum(self, name: str) -> str:
        """An enum by its unique name."""
        if name not in self.enums:
            decl = self.analysis.enums[name]
            self.enums[name] = d.Enum(members=tuple(m.text for m in decl.members), doc=decl.doc or None)
        return name

    # ---- expressions

    def expr(self, node: ast.Expr) -> d.ExprJson:
        """An expression; the functions, records and enums in it get into the definition."""
        lowered = self._expr(node)
        self.lowered.append((lowered, node.span))
        return lowered

    def _expr(self, node: ast.Expr) -> d.ExprJson:
        lowered = lower_expr(node, self.analysis, currency=self.currency)
        self.need(lowered)
        return lowered

    def need(self, lowered: d.ExprJson) -> None:
        """Takes in what a lowered expression names."""
        todo: list[object] = [lowered]
        while todo:
            item = todo.pop()
            if isinstance(item, dict):
                todo.extend(item.values())
            elif isinstance(item, list) and item:
                match item[0]:
                    case "fn":
                        self._fn(item[1])
                    case "record" if item[1] in self.analysis.records:
                        self.record(item[1])
                    case "enum" if item[1] in self.analysis.enums:
                        self.enum(item[1])
                    case _:
                        pass
                todo.extend(item)

    def _fn(self, name: str) -> None:
        if name in self.fns:
            return
        self.fns[name] = None
        decl = self._fn_decls[name]
        self.fns[name] = d.Fn(
            params=self.fields(decl.params), result=self.written(decl.result), body=self._expr(decl.body)
        )

    # ---- tools and models

    def tool(self, node: ast.Name | ast.ToolDecl) -> str:
        """A tool by its unique name; its `confirm` and `undo` come with it."""
        if isinstance(node, ast.ToolDecl):
            symbol = next(s for f in self.analysis.files for s in f.names.values() if s.node is node)
        else:
            symbol = self.analysis.symbols[node]
        decl = symbol.node
        assert isinstance(decl, ast.ToolDecl)
        if symbol.name not in self.tools:
            self.tools[symbol.name] = None
            self.tools[symbol.name] = self._tool(decl)
            self.note(f"tool/{symbol.name}", decl.span, decl.doc)
        return symbol.name

    def _tool(self, decl: ast.ToolDecl) -> d.Tool:
        parts: dict[str, object] = {}
        for clause in decl.clauses:
            match clause:
                case ast.Via():
                    parts["via"] = self.via(clause)
                case ast.KeyClause(value=value):
                    parts["key"] = self.expr(value)
                case ast.ConfirmClause(call=call):
                    parts["confirm"] = self.call(call)
                case ast.UndoClause(call=call):
                    parts["undo"] = self.call(call)
                case ast.CostClause(amount=amount):
                    parts["cost"] = self.money(amount)
                case ast.TimeoutClause(duration=duration):
                    parts["timeout_ms"] = self.ms(duration)
                case _:
                    pass
        return d.Tool.model_validate(
            {
                "params": self.fields(decl.params, docs=True),
                "result": self.written(decl.result) if decl.result is not None else None,
                "untrusted": decl.untrusted,
                "effect": effect_of(decl),
                "retry": self.retries(decl.clauses),
                "limits": tuple(self._rate(c) for c in ast.clauses(decl.clauses, ast.RateClause)),
                "raises": tuple(n.text for c in ast.clauses(decl.clauses, ast.RaisesClause) for n in c.errors),
                "doc": decl.doc or None,
                **parts,
            }
        )

    def _rate(self, clause: ast.RateClause) -> d.Rate:
        from jamjet_dsl.analysis.typecheck_policy import WINDOWS

        return d.Rate(calls=self.integer(clause.count), per_ms=WINDOWS[clause.unit.text])

    def via(self, clause: ast.Via) -> d.Via:
        """Where a tool or a model is found."""
        target: str | tuple[str, ...]
        if isinstance(clause.value, ast.ListLit):
            target = tuple(str(self.literal(item).value) for item in clause.value.items)
        else:
            target = str(self.literal(clause.value).value)
        qualifier = clause.qualifier.text if clause.qualifier is not None else None
        return d.Via(kind=clause.kind.text, qualifier=qualifier, target=target)

    def retries(self, clauses: tuple[Node, ...]) -> tuple[d.Retry, ...]:
        """The `retry` clauses among some clauses or options."""
        found = []
        for clause in ast.clauses(clauses, ast.RetryClause):
            found.append(
                d.Retry.model_validate(
                    {
                        "errors": ("any",) if clause.any else tuple(n.text for n in clause.errors),
                        "times": self.integer(clause.times),
                        "backoff_ms": self.ms(clause.backoff) or 0,
                        "factor": self.number_text(clause.factor) if clause.factor is not None else "1",
                        "max_ms": self.ms(clause.max_delay),
                        "jitter": clause.jitter.text if clause.jitter is not None else "none",
                    }
                )
            )
        return tuple(found)

    def call(self, call: ast.ToolCall) -> d.ToolCallDef:
        """A call of a tool with its arguments by parameter."""
        return d.ToolCallDef(tool=self.tool(call.tool), args=self.args(call))

    def args(self, call: ast.ToolCall) -> dict[str, d.ExprJson]:
        """The arguments of a checked call by parameter, in the order they are given."""
        decl = self.analysis.symbols[call.tool].node
        if isinstance(decl, ast.AgentDecl):
            params = [p for m in ast.clauses(decl.members, ast.InputDecl) for p in m.params]
        else:
            assert isinstance(decl, ast.ToolDecl | ast.EmitsDecl)
            params = list(decl.params)
        order = iter(params)
        found: dict[str, d.ExprJson] = {}
        for arg in call.args:
            name = arg.name.text if arg.name is not None else next(order).name.text
            found[name] = self.expr(arg.value)
        return found

    def model(self, name: ast.Name) -> str:
        """A model by name; one that the program does not declare is bound by the deployment."""
        symbol = self.analysis.symbols[name]
        if symbol.name not in self.models:
            if not isinstance(symbol.node, ast.ModelDecl):
                self.models[symbol.name] = d.ModelDef()
                return symbol.name
            clauses = symbol.node.clauses
            via, price = ast.clause(clauses, ast.Via), ast.clause(clauses, ast.PriceClause)
            self.models[symbol.name] = d.ModelDef(
                via=self.via(via) if via is not None else None,
                price_in=self.money(price.input) if price is not None else None,
                price_out=self.money(price.output) if price is not None else None,
                per_tokens=self.integer(price.per) if price is not None else None,
            )
            self.note(f"model/{symbol.name}", symbol.node.span, symbol.node.doc)
        return symbol.name

    def agent(self, name: ast.Name) -> str:
        """A child agent by its unique name; it is lowered later."""
        symbol = self.analysis.symbols[name]
        assert isinstance(symbol.node, ast.AgentDecl)
        if symbol.node not in self.agents:
            self.agents.append(symbol.node)
        return symbol.name


def _text(value: object) -> str | None:
    return None if value is None else str(value)
