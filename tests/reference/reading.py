"""How the reference reads a program: what stands in the syntax tree, and the values that the world gives."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from jamjet_dsl.syntax import ast
from tests.reference.expressions import Names, NoValue, Quantity, evaluate

FOREVER = 1 << 62


def clauses(nodes: Iterable[Any], kind: Any) -> list[Any]:
    """The clauses of a kind."""
    return [node for node in nodes if isinstance(node, kind)]


def clause(nodes: Iterable[Any], kind: Any, field: str = "", default: Any = None) -> Any:
    """The clause of a kind, or what it says in a field; else the default."""
    found = next((node for node in nodes if isinstance(node, kind)), None)
    return default if found is None else getattr(found, field) if field else found


def number(expr: Any, default: Any = None) -> Any:
    """A literal of a clause: a count, an amount or milliseconds."""
    return default if expr is None else plain(evaluate(expr, {}))


def plain(value: Any) -> Any:
    """The number of an amount."""
    return value.amount if isinstance(value, Quantity) else value


def timeout_of(nodes: Iterable[Any]) -> Any:
    """The first `timeout` in milliseconds."""
    return number(clause(nodes, ast.TimeoutClause, "duration"), FOREVER)


def parts(state: Any) -> tuple[Any, ...]:
    """The clauses of a state, or the members of a `parallel`."""
    return state.members if isinstance(state, ast.ParallelDecl) else getattr(state, "clauses", ())


def bind_of(action: Any) -> str | None:
    """The name after `as`, or that of an awaited event."""
    name = getattr(action, "bind", None) or clause(getattr(action, "options", ()), ast.BindOpt, "name")
    return name.text if name is not None else None


def params(decl: ast.AgentDecl, kind: type) -> dict[str, str]:
    """The inputs, or outputs, of an agent and their types."""
    return {p.name.text: type_text(p.type) for d in clauses(decl.members, kind) for p in d.params}


def effect(tool: ast.ToolDecl) -> str:
    """reads, writes or irreversible."""
    return str(clause(tool.clauses, ast.EffectClause, "effect").text)


def given(call: ast.ToolCall, params_: Any, names: Names) -> dict[str, Any]:
    """Arguments by parameter. Raises NoValue."""
    return {(a.name or params_[n].name).text: evaluate(a.value, names) for n, a in enumerate(call.args)}


def matches(on: Any, error: str) -> bool:
    """Whether an edge, a handler or a `retry` names the error."""
    return bool(on.any) or error in [name.text for name in on.errors]


def type_text(type_: ast.TypeExpr | None) -> str:
    """A type as it is written."""
    if type_ is None:
        return "null"
    args = f"<{', '.join(type_text(arg) for arg in type_.args)}>" if type_.args else ""
    return f"{type_.name.text}{args}{'?' if type_.optional else ''}"


def read(value: Any, type_: str) -> Any:
    """A value from the world. Raises NoValue if it is not of the type (§3.2)."""
    if type_ == "null" or (value is None and type_.endswith("?")):
        return None
    if type(value) is not {"int": int, "bool": bool, "string": str, "money": str}.get(type_.rstrip("?"), list):
        raise NoValue
    return Quantity(Decimal(value.split()[0]), value.split()[1]) if type_ == "money" else value


class Call(SimpleNamespace):
    """A call as it was frozen (§3.1), or a model call (no `tool`); `uses` are the approvals that it takes,
    `counts` is what limits count of it, `last` what is asked just before it would begin."""

    def __init__(self, tool: Any, args: dict[str, Any], type_: str, timeout: int, **more: Any) -> None:
        nodes = tool.clauses if tool is not None else ()
        super().__init__(tool=tool, args=args, type=type_, timeout=timeout, tokens=0, key=None, uses=[])
        self.counts, self.last = [], []
        self.name, self.cost = tool.name.text if tool else "think", number(clause(nodes, ast.CostClause, "amount"), 0)
        self.writes = tool is not None and effect(tool) != "reads"
        self.raises = {n.text for c in clauses(nodes, ast.RaisesClause) for n in c.errors}
        self.retries, self.confirm = clauses(nodes, ast.RetryClause), clause(nodes, ast.ConfirmClause, "call")
        self.undo, self.keyed = clause(nodes, ast.UndoClause, "call"), clause(nodes, ast.KeyClause, "value")
        self.__dict__.update(more)

    @staticmethod
    def of(tool: ast.ToolDecl, args: dict[str, Any], options: Iterable[Any] = ()) -> Call:
        """A call of a tool; its timeout is what the state says, else what the tool says."""
        return Call(tool, args, type_text(tool.result), timeout_of([*options, *tool.clauses]))


def total(prices: Iterable[Decimal], amounts: Iterable[int]) -> Any:
    return sum(price * amount for price, amount in zip(prices, amounts, strict=True))
