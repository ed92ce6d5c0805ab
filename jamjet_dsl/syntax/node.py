"""`Node`: the base of frozen, slotted syntax classes that are cheap to define.

`dataclasses.dataclass(frozen=True, slots=True)` compiles six methods and makes every class twice:
half a millisecond each, which for the hundred node types of the language would be half of what a
whole `jam check` may take. A node needs one compiled method (its constructor) and shares the rest.
Type checkers see an ordinary frozen dataclass (PEP 681) whose first field is `span`.

Two nodes are equal only if they are the same object: side tables of the analysis are keyed by node.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, dataclass_transform

from jamjet_dsl.source import Span


class FrozenNodeError(AttributeError):
    """Somebody tried to change a node of the syntax tree."""


@dataclass_transform(frozen_default=True, eq_default=False)
class NodeType(type):
    """Turns annotated fields into slots and compiles one constructor that takes them in order."""

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> NodeType:
        own = tuple(f for f in namespace.get("__annotations__", {}) if not f.startswith("_"))
        inherited: tuple[str, ...] = getattr(bases[0], "__match_args__", ()) if bases else ()
        scope: dict[str, Any] = dict(getattr(bases[0], "_defaults", {})) if bases else {}
        for field in own:
            if field in namespace:
                scope[f"_default_{field}"] = namespace.pop(field)
        fields = inherited + own
        namespace["__slots__"] = own
        namespace["__match_args__"] = fields
        namespace["_defaults"] = scope
        made = super().__new__(mcls, name, bases, namespace)
        params = ", ".join(f"{f}=_default_{f}" if f"_default_{f}" in scope else f for f in fields)
        body = "; ".join(f"_set_{f}(self, {f})" for f in fields)
        setters = {f"_set_{f}": getattr(made, f).__set__ for f in fields}
        local = scope | setters
        exec(f"def __init__(self, {params}): {body}", local)  # constant text built from our own field names
        type.__setattr__(made, "__init__", local["__init__"])
        return made


class Node(metaclass=NodeType):
    """Base of everything in the syntax tree. `span` is where it stands in the source."""

    __match_args__: ClassVar[tuple[str, ...]]
    span: Span

    def __setattr__(self, name: str, value: object) -> None:
        raise FrozenNodeError(f"{type(self).__name__} is frozen; build a new node instead")

    def __delattr__(self, name: str) -> None:
        raise FrozenNodeError(f"{type(self).__name__} is frozen; build a new node instead")

    def __repr__(self) -> str:
        inner = ", ".join(f"{f}={getattr(self, f)!r}" for f in self.__match_args__ if f != "span")
        return f"{type(self).__name__}({inner})"


def children(node: Node) -> Iterator[Node]:
    """The nodes directly below `node`, in the order of its fields."""
    for field in node.__match_args__:
        value = getattr(node, field)
        if isinstance(value, Node):
            yield value
        elif field != "span" and type(value) is tuple:
            for item in value:
                if isinstance(item, Node):
                    yield item


def walk(node: Node) -> Iterator[Node]:
    """`node` and everything below it, parents first, without recursion."""
    todo = [node]
    while todo:
        node = todo.pop()
        yield node
        todo.extend(reversed(tuple(children(node))))
