"""Tools that are Python functions: `via python "module:function"`, and those given to the Engine.

A module is looked for in the program's folder first, under a name that no other program's module can have;
then among installed packages. It is imported when a run needs it, never by `jam check`.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from jamjet_dsl.definition import Definition, Tool
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel.errors import STANDARD_ERRORS, named_error
from jamjet_dsl.kernel.model import Call
from jamjet_dsl.kernel.values import Duration, Timestamp, of_key
from jamjet_dsl.ports import ToolContext, ToolError
from jamjet_dsl.tools.threads import Threads

Function = Callable[..., Any]
_PLAIN = frozenset({str, int, float, bool, type(None)})
"""What Python code gets as it is."""


def by_name(tools: Mapping[str, Function] | Iterable[Function]) -> dict[str, Function]:
    """Functions under the names of the tools they implement. Raises JamError JAMR303 for what has no name."""
    if isinstance(tools, Mapping):
        return dict(tools)
    found: dict[str, Function] = {}
    for function in tools:
        name = getattr(function, "__name__", None)
        if not callable(function) or name is None or name == "<lambda>":
            raise JamError("JAMR303", f"{function!r} has no name", 'give it as tools={"name": function}')
        if name in found:
            raise JamError("JAMR303", f"two functions are called {name}", 'give them as tools={"name": function}')
        found[name] = function
    return found


def load(target: str, folder: Path | None) -> Function:
    """The function that `module:function` names. Raises JamError JAMR304 with the module and the reason."""
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise JamError("JAMR304", f'"{target}" does not name a function', 'write via python "module:function"')
    module = _module(module_name, folder)
    function: Any = module
    for part in name.split("."):
        function = getattr(function, part, None)
    if not callable(function):
        raise JamError("JAMR304", f"the module {module_name} has no function {name}")
    return function  # type: ignore[no-any-return]


def _module(name: str, folder: Path | None) -> ModuleType:
    path = None if folder is None else _file(name, folder)
    try:
        return importlib.import_module(name) if path is None else _import_file(name, path, folder)
    except JamError:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        where = f"{path}" if path is not None else f"the module {name}"
        reason = str(error) or type(error).__name__
        help = "" if path is not None or folder is None else f"put {name}.py into {folder}, or install it"
        raise JamError("JAMR304", f"{where} cannot be imported: {type(error).__name__}: {reason}", help) from error


def _file(name: str, folder: Path) -> Path | None:
    """The module's file inside the folder, or None. A name cannot climb out of it."""
    if not all(part.isidentifier() for part in name.split(".")):
        raise JamError("JAMR304", f"{name!r} is no name of a module")
    base = folder.joinpath(*name.split("."))
    for path in (base.with_name(base.name + ".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _import_file(name: str, path: Path, folder: Path | None) -> ModuleType:
    """Import under a name made of the path, so that two programs may each have a `tools.py`.

    While the module is imported its folder is first on the path, for its own imports; afterwards it stays there as
    the last one, for imports that its functions make when they are called.

    Only the module that a program names is kept apart in this way. What it imports itself from its folder
    (`import helpers`) goes by its plain name, as everywhere in Python: two programs in one process whose tools import
    different modules of one name get the one that was imported first. Give such helpers names of their own, or make
    them a package.
    """
    real = path.resolve()
    unique = f"_jam_{hashlib.sha256(str(real).encode()).hexdigest()[:16]}_{name.replace('.', '_')}"
    if unique in sys.modules:
        return sys.modules[unique]
    spec = importlib.util.spec_from_file_location(unique, real)
    if spec is None or spec.loader is None:
        raise ImportError(f"{real} is no Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[unique] = module
    sys.path.insert(0, str(folder))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[unique]
        raise
    finally:
        sys.path.remove(str(folder))
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    return module


class PythonTools:
    """The tools of one definition, as functions."""

    def __init__(
        self, definition: Definition, given: Mapping[str, Function], folder: Path | None, threads: Threads
    ) -> None:
        self._definition = definition
        self._given = given
        self._threads = threads
        self._bound = _Bindings(definition, given, folder)

    def missing(self, tools: Iterable[str]) -> list[str]:
        """What is wrong with the bindings of these tools, one sentence each.

        Raises JamError JAMR304 for a module that cannot be imported.
        """
        found = []
        for name in tools:
            via = self._definition.tools[name].via
            if name in self._given or (via is not None and via.kind == "python"):
                problem = self._bound[name].problem()
                if problem is not None:
                    found.append(f"tool {name}: {problem}")
            elif via is None:
                found.append(
                    f'tool {name}: no implementation; add via python "module:function", or pass it to the Engine'
                )
            else:
                found.append(
                    f"tool {name}: via {via.kind} comes with a later version; use via python, or pass a function"
                )
        return found

    async def call(
        self, call: Call, context: Callable[[], ToolContext], wanted: Callable[[], bool] | None = None
    ) -> Any:
        """Perform a call. Raises ToolError for whatever the function raised.

        Where it waits for a free thread, it begins only if it is still `wanted` then; else it is cancelled.
        """
        bound = self._bound[call.tool]
        given = {name: v if type(v) in _PLAIN else to_python(v) for name, v in call.args.items()}
        if bound.context is not None:
            given[bound.context] = context()
        try:
            if bound.is_async:
                return await bound.function(**given)
            result = await self._threads.run(lambda: bound.function(**given), wanted)
            return await result if inspect.isawaitable(result) else result
        except asyncio.CancelledError:
            raise
        except Exception as error:
            raise as_tool_error(error, self._definition.tools[call.tool]) from error

    def blocking(self, tool: str) -> bool:
        """Whether the tool runs on a thread, which cannot be stopped."""
        return not self._bound[tool].is_async


@dataclass(frozen=True, slots=True)
class _Bound:
    """A function that implements a tool. `context` is the parameter that wants a ToolContext."""

    function: Function
    tool: Tool
    signature: inspect.Signature | None
    context: str | None
    is_async: bool

    @classmethod
    def of(cls, function: Function, tool: Tool) -> _Bound:
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            signature = None
        names = {p.name for p in tool.params}
        context = None
        if signature is not None:
            for name, parameter in signature.parameters.items():
                annotated = getattr(parameter.annotation, "__name__", parameter.annotation)
                if str(annotated).rpartition(".")[2] == "ToolContext" or (name == "ctx" and name not in names):
                    context = name
        target = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
        return cls(function, tool, signature, context, inspect.iscoroutinefunction(target))

    def problem(self) -> str | None:
        """Why the declared parameters do not fit the function, or None."""
        if self.signature is None:
            return None
        given: dict[str, object] = {p.name: None for p in self.tool.params}
        if self.context is not None:
            given[self.context] = None
        try:
            self.signature.bind(**given)
        except TypeError as error:
            name = getattr(self.function, "__qualname__", repr(self.function))
            return f"{name}{self.signature} does not take its parameters: {error}"
        return None


class _Bindings(dict[str, _Bound]):
    """The functions of a definition's tools, each found and loaded when it is first asked for."""

    def __init__(self, definition: Definition, given: Mapping[str, Function], folder: Path | None) -> None:
        super().__init__()
        self._definition = definition
        self._given = given
        self._folder = folder

    def __missing__(self, name: str) -> _Bound:
        function = self._given.get(name)
        tool = self._definition.tools[name]
        if function is None:
            assert tool.via is not None
            assert isinstance(tool.via.target, str)
            function = load(tool.via.target, self._folder)
        bound = self[name] = _Bound.of(function, tool)
        return bound


def to_python(value: Any) -> Any:
    """A run-time value as Python code expects it: durations as timedelta, timestamps as aware datetime (both to the
    microsecond), money as `jamjet_dsl.Money`, decimals as Decimal, records as dicts. Nothing is shared with the run."""
    match value:
        case list():
            return [item if type(item) in _PLAIN else to_python(item) for item in value]
        case dict():
            return {of_key(k): item if type(item) in _PLAIN else to_python(item) for k, item in value.items()}
        case Duration():
            return datetime.timedelta(microseconds=value.ns // 1000)
        case Timestamp():
            epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
            return epoch + datetime.timedelta(microseconds=value.ns // 1000)
    return value


def as_tool_error(error: Exception, tool: Tool) -> ToolError:
    """The error that the program sees for an exception.

    A declared error is matched by the name of the exception's class or one it derives from. A refused connection
    certainly sent nothing; of any other failure nobody knows how far it came.
    """
    known = STANDARD_ERRORS | set(tool.raises)
    text = str(error) or type(error).__name__
    if isinstance(error, ToolError):
        if error.name in known:
            return error
        return ToolError(
            "Crashed", f"{error.name} is not declared with raises: {error.message}", definite=error.definite
        )
    if (name := named_error(error, tool.raises)) is not None:
        return ToolError(name, text)
    match error:
        case TimeoutError():
            return ToolError("Timeout", text)
        case ConnectionRefusedError():
            return ToolError("Unavailable", text, definite=True)
        case ConnectionError():
            return ToolError("Disconnected", text)
    return ToolError("Crashed", f"{type(error).__name__}: {text}")
