"""Which types a model can be held to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jamjet_dsl.analysis.model import Type

if TYPE_CHECKING:
    from jamjet_dsl.analysis.typecheck_expr import Shapes

_REASONS = {
    "bytes": "JSON has no bytes",
    "any": "`any` says nothing about the answer",
    "conversation": "a conversation is kept by the run, not written by a model",
    "Move": "only `tools` give a `Move`",
    "ToolCall": "only `tools` give a call",
    "file": "a file is stored by the run, not written by a model",
    "secret": "what a model writes is no secret",
}


def unenforceable(t: Type, shapes: Shapes) -> str:
    """Why no provider's structured output can enforce a type; empty if one can."""
    seen: set[str] = set()
    todo = [t]
    while todo:
        t = todo.pop()
        if t.kind in _REASONS:
            return _REASONS[t.kind]
        if t.kind == "map" and t.args[0].kind not in ("string", "enum"):
            return "the keys of a JSON object are strings"
        if t.kind == "record" and t.name is not None:
            if t.name in seen:
                continue
            seen.add(t.name)
            todo.extend((shapes.fields(t) or {}).values())
        todo.extend(t.args)
    return ""
