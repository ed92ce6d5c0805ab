"""Standard output and standard error as a command needs them: what cannot be printed is an error with a code.

Python raises a bare OSError where a disk is full or a descriptor is closed, wherever something is printed, and
complains once more when it flushes what is left at exit. Here the lowest layer of the stream says what happened: a
reader that has gone is `Unheard`, everything else JAMR001. What cannot be said on standard error is lost: there is no
other place for it.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from jamjet_dsl.diagnostics.errors import JamError


class Unheard(Exception):
    """Whoever read our output has gone. A BrokenPipeError would be taken for one of the program's own, and click would
    make an exit of its own of it."""


class _Raw(io.FileIO):
    """A descriptor whose failures to write are told apart."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.descriptor = descriptor

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except BrokenPipeError:
            raise Unheard from None
        except OSError as error:
            if self.descriptor == 2:
                return len(memoryview(data))  # type: ignore[arg-type]
            help = "what was printed is not all of it; what was committed is not lost"
            raise JamError("JAMR001", f"standard output cannot be written: {error.strerror}", help) from None


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """Within it `sys.stdout` and `sys.stderr` are such streams, if they were those of the process; and a sign that a
    terminal cannot show is a question mark instead of a reason to fail."""
    _occupy()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _told(sys.stdout, 1), _told(sys.stderr, 2)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            _leave(stream)
        sys.stdout, sys.stderr = before


def _leave(stream: TextIO) -> None:
    """What is left in a stream that cannot be written goes nowhere: it was told already."""
    try:
        stream.flush()
    except (Unheard, JamError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        stream.flush()


def _occupy() -> None:
    """A closed standard descriptor would be given to the next file that is opened, and printing would go into that one.
    What takes its place can be read and not written, so that printing still fails."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)


def _told(stream: TextIO | None, descriptor: int) -> TextIO:
    """A stream over the same descriptor; a stream that is not one of the process (a test's) is left as it is."""
    if stream is None:
        return io.TextIOWrapper(io.BufferedWriter(_Raw(descriptor)), encoding="utf-8", errors="replace")
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.reconfigure(errors="replace")
    raw = getattr(stream.buffer, "raw", stream.buffer)
    if type(raw) is not io.FileIO or raw.fileno() != descriptor:
        return stream
    lines = stream.line_buffering
    return io.TextIOWrapper(
        io.BufferedWriter(_Raw(descriptor)), encoding=stream.encoding, errors="replace", line_buffering=lines
    )
