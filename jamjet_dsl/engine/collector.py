"""The garbage collector of a process that drives runs."""

from __future__ import annotations

import gc

YOUNG = 20_000
"""Objects made and not freed after which the young ones are looked at; CPython's own number is 700."""


def calm() -> None:
    """Let the garbage collector look seldom, and never again at what is loaded now.

    A step makes no circles: what it leaves is freed by counting references. With thousands of runs in memory each look
    at all of them finds nothing, and takes a sixth of the time of short steps. `jam` does this whenever it drives runs;
    a program with an engine in it decides for itself, since the collector belongs to the whole process.
    """
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 50)
