"""Real `jam` processes without the price of starting Python: a server that has everything imported forks them.

Each child is a process of its own that runs `jamjet_dsl.cli.main` and is killed, refused or left alone like any other;
only the imports were made before. A child that is to be traced waits at a gate until its tracer is attached.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

SECONDS = 60.0
"""What no command of the campaign takes, even under strace on a busy machine."""


class Exit(NamedTuple):
    """How a process ended: `code` is negative for a signal, None if it had to be stopped because it hung."""

    code: int | None
    out: str
    err: str


class Zygote:
    """A server process and the line to it. One command at a time."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._pid = os.fork()
        if self._pid == 0:
            ours.close()
            _serve(theirs)
        theirs.close()
        self._line = ours.makefile("rw")

    def _ask(self, **question: Any) -> Any:
        self._line.write(json.dumps(question) + "\n")
        self._line.flush()
        return json.loads(self._line.readline())

    def start(self, argv: list[str], folder: Path, *, plain: bool = False) -> int:
        """Fork `jam ARGV` in a folder, held at its gate. Gives the process id. A `plain` one is refused what the modes
        of files refuse, even if it is root's."""
        return int(self._ask(do="fork", argv=argv, folder=str(folder), plain=plain))

    def go(self, pid: int) -> None:
        """Open the gate."""
        self._ask(do="go", pid=pid)

    def wait(self, pid: int, seconds: float = SECONDS) -> Exit:
        """Until it ends. One that does not is killed."""
        return Exit(*self._ask(do="wait", pid=pid, seconds=seconds))

    def jam(self, argv: list[str], folder: Path, *, plain: bool = False, seconds: float = SECONDS) -> Exit:
        """Run `jam ARGV` to its end."""
        pid = self.start(argv, folder, plain=plain)
        self.go(pid)
        return self.wait(pid, seconds)

    def close(self) -> None:
        """End the server."""
        self._line.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


def surroundings(folder: Path) -> dict[str, str]:
    """What the tools of the loan example want to know: a bank without whims, and where its book lies."""
    return {"BANK": "ok", "BANK_LEDGER": str(folder / "ledger.db")}


def _serve(line: socket.socket) -> None:
    """The server: never returns."""
    _import_everything()
    children: dict[int, tuple[int, int, int]] = {}
    code = 0
    try:
        with line.makefile("rw") as talk:
            for text in talk:
                asked = json.loads(text)
                answer: Any = None
                if asked["do"] == "fork":
                    pid, gate, out, err = _fork(asked, line, [fd for held in children.values() for fd in held])
                    children[pid] = (gate, out, err)
                    answer = pid
                elif asked["do"] == "go":
                    os.write(children[asked["pid"]][0], b"g")
                else:
                    answer = _wait(asked["pid"], asked["seconds"], *children.pop(asked["pid"]))
                talk.write(json.dumps(answer) + "\n")
                talk.flush()
    except BaseException as error:
        sys.stderr.write(f"zygote: {error!r}\n")
        code = 1
    os._exit(code)


def _import_everything() -> None:
    from importlib import import_module

    import jamjet_dsl.cli as cli

    for module, _ in cli.COMMANDS.values():
        import_module(f"jamjet_dsl.cli.{module}")
    for name in ("compiler", "engine.engine", "engine.testing", "store.sqlite", "models.scripted", "evaluate"):
        with contextlib.suppress(ImportError):
            import_module(f"jamjet_dsl.{name}")
    compile_text = import_module("jamjet_dsl").compile_text
    # The tables of the parser are read when the first program is.
    compile_text("agent a { budget { steps 1  exceeded -> x } start state s { -> x } failed x {} }")
    gc.freeze()


def _fork(asked: dict[str, Any], line: socket.socket, others: list[int]) -> tuple[int, int, int, int]:
    inside, gate = os.pipe()
    out, err = os.memfd_create("out"), os.memfd_create("err")
    pid = os.fork()
    if pid:
        os.close(inside)
        return pid, gate, out, err
    code = 70
    try:
        line.close()
        for descriptor in (gate, *others):
            os.close(descriptor)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for number, descriptor in enumerate((nothing, out, err)):
            os.dup2(descriptor, number)
            os.close(descriptor)
        # Whoever started the campaign may have put something of its own in place of these two.
        sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
        os.chdir(asked["folder"])
        os.environ.update(surroundings(Path(asked["folder"])))
        if asked["plain"]:
            _drop_privileges()
        os.read(inside, 1)
        os.close(inside)
        code = _main(asked["argv"])
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _drop_privileges() -> None:
    """Give up every capability: root without them is the owner of its files and no more."""
    version, everything = 0x20080522, (0,) * 6
    header = (ctypes.c_uint32 * 2)(version, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset(header, (ctypes.c_uint32 * 6)(*everything)) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def _main(argv: list[str]) -> int:
    from jamjet_dsl.cli import main

    try:
        main(argv)
    except SystemExit as ended:
        return int(ended.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
        return 1
    return 0


def _wait(pid: int, seconds: float, gate: int, out: int, err: int) -> tuple[int | None, str, str]:
    handle = os.pidfd_open(pid)
    ended, _, _ = select.select([handle], [], [], seconds)
    os.close(handle)
    if not ended:
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(gate)
    return code if ended else None, _text(out), _text(err)


def _text(descriptor: int) -> str:
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0)
        return file.read().decode(errors="replace")


def until(condition: Callable[[], bool], seconds: float = SECONDS) -> bool:
    """Wait for something that another process does. False if it did not come in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True
