"""Puts changed code into functions that are loaded already, so that a mutant costs a fork and no import."""

from __future__ import annotations

import functools
import gc
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType

Place = tuple[str, str, int]
"""File, qualified name and first line of a function."""


def loaded(folder: Path) -> dict[Place, list[FunctionType]]:
    """The functions that came from a folder, however they are wrapped and wherever they are kept."""
    found: dict[Place, list[FunctionType]] = {}
    for thing in gc.get_objects():
        if type(thing) is FunctionType and thing.__code__.co_filename.startswith(str(folder)):
            found.setdefault(_place(thing.__code__), []).append(thing)
    return found


def put(module: CodeType, functions: dict[Place, list[FunctionType]]) -> bool:
    """Give the loaded functions of a module the code they have in `module`. False if none of them differs."""
    differs = False
    for code in _codes(module):
        for function in functions.get(_place(code), ()):
            if function.__code__ != code:
                function.__code__, differs = code, True
    return differs


def caches(*packages: str) -> list[Callable[[], None]]:
    """Empties what remembers something in these packages: results of functions, and what a module keeps of late."""
    results = [
        thing.cache_clear
        for thing in gc.get_objects()
        if isinstance(thing, functools._lru_cache_wrapper) and str(thing.__module__).startswith(packages)
    ]
    modules = [module for name, module in sys.modules.items() if name.startswith(packages)]
    kept = [thing.clear for module in modules for thing in vars(module).values() if isinstance(thing, deque)]
    return [*results, *kept]


def _place(code: CodeType) -> Place:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)
