"""`Node`: the base of frozen, slotted syntax classes that are cheap to define.

`dataclasses.dataclass(frozen=True, slots=True)` compiles six methods and makes every class twice: half a
millisecond each, which for the hundred node types of the language would be half of what a whole `jam check` may
take. A node has one method of its own, its constructor, and that is not compiled either: constructors of as many
fields differ in names only, so one is compiled for each number of fields and the names are exchanged in its code.
Type checkers see an ordinary frozen dataclass (PEP 681) whose first field is `span`.

Two nodes are equal only if they are the same object: side tables of the analysis are keyed by node.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any, ClassVar, dataclass_transform

from jamjet_dsl.source import Span

_TEMPLATES: dict[int, CodeType] = {}


class FrozenNodeError(AttributeError):
    """Somebody tried to change a node of the syntax tree."""


def constructor(fields: tuple[str, ...], defaults: tuple[Any, ...], setters: dict[str, Any]) -> FunctionType:
    """`__init__` for these fields, the last of which have the defaults; `setters` are `set_0`, `set_1`, … for them."""
    template = _TEMPLATES.get(len(fields))
    if template is None:
        params = "".join(f", a{n}" for n in range(len(fields)))
        body = "; ".join(f"set_{n}(self, a{n})" for n in range(len(fields))) or "pass"
        scope: dict[str, Any] = {}
        exec(f"def __init__(self{params}): {body}", scope)  # constant text: only the number of fields is in it
        template = _TEMPLATES[len(fields)] = scope["__init__"].__code__
    return FunctionType(template.replace(co_varnames=("self", *fields)), setters, "__init__", defaults)


@dataclass_transform(frozen_default=True, eq_default=False)
class NodeType(type):
    """Turns annotated fields into slots and gives the class a constructor that takes them in order."""

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> NodeType:
        own = tuple(f for f in namespace.get("__annotations__", {}) if not f.startswith("_"))
        inherited: tuple[str, ...] = getattr(bases[0], "__match_args__", ()) if bases else ()
        defaults: tuple[Any, ...] = getattr(bases[0], "_defaults", ()) if bases else ()
        for field in own:
            if field in namespace:
                defaults += (namespace.pop(field),)
            elif defaults:
                raise TypeError(f"{name}.{field} has no default, but a field before it has one")
        fields = inherited + own
        namespace["__slots__"] = own
        namespace["__match_args__"] = fields
        namespace["_defaults"] = defaults
        made = super().__new__(mcls, name, bases, namespace)
        setters = {f"set_{n}": getattr(made, field).__set__ for n, field in enumerate(fields)}
        type.__setattr__(made, "__init__", constructor(fields, defaults, setters))
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
