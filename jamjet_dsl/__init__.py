"""A small language for agents that survive. Checked before they run, checkpointed at every step.

    from jamjet_dsl import Engine, compile_file

Nothing is imported before it is used: `import jamjet_dsl` alone costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jamjet_dsl.compiler import compile_file, compile_text
    from jamjet_dsl.definition import Compiled, Definition
    from jamjet_dsl.diagnostics.errors import JamError
    from jamjet_dsl.engine.blocking import run_sync
    from jamjet_dsl.engine.clock import SimClock, SystemClock
    from jamjet_dsl.engine.engine import Engine
    from jamjet_dsl.engine.handle import Run
    from jamjet_dsl.kernel.policy import decide_call
    from jamjet_dsl.kernel.values import Duration, Money, Timestamp
    from jamjet_dsl.models.scripted import Scripted
    from jamjet_dsl.ports import ToolContext, ToolError

__version__ = "0.1.0"

_HOMES = {
    "Compiled": "definition",
    "Definition": "definition",
    "Duration": "kernel.values",
    "Engine": "engine.engine",
    "JamError": "diagnostics.errors",
    "Money": "kernel.values",
    "Run": "engine.handle",
    "Scripted": "models.scripted",
    "SimClock": "engine.clock",
    "SystemClock": "engine.clock",
    "Timestamp": "kernel.values",
    "ToolContext": "ports",
    "ToolError": "ports",
    "compile_file": "compiler",
    "compile_text": "compiler",
    "decide_call": "kernel.policy",
    "run_sync": "engine.blocking",
}

__all__ = [
    "Compiled",
    "Definition",
    "Duration",
    "Engine",
    "JamError",
    "Money",
    "Run",
    "Scripted",
    "SimClock",
    "SystemClock",
    "Timestamp",
    "ToolContext",
    "ToolError",
    "compile_file",
    "compile_text",
    "decide_call",
    "run_sync",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'jamjet_dsl' has no attribute {name!r}")
    from importlib import import_module

    if home in ("compiler", "definition"):
        # Whoever has a definition in a notebook sees its diagram; drawing is loaded when one is shown.
        definition = import_module("jamjet_dsl.definition").Definition
        definition.drawing = lambda shown: import_module("jamjet_dsl.render").picture(shown, "svg").decode()
    return getattr(import_module(f"jamjet_dsl.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
