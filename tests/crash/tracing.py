"""strace: which system calls of a command write, and what to do to one of them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.crash.zygote import Exit, Zygote, surroundings, until

ROOT = Path(__file__).parents[2]
WRITES = ("pwrite64", "write", "fdatasync", "fsync", "ftruncate", "unlink", "rename")
READS = ("pread64",)
LOCKS = ("fcntl",)
OPENS = ("openat",)
DELAY_MS = 100
"""How long a command is held up where it takes a lock: time enough for somebody else to take it."""
INJECTED = {
    "kill": "signal=KILL",
    "twice": "signal=KILL",
    "eio": "error=EIO",
    "enospc": "error=ENOSPC",
    "readonly": "error=EROFS",
    "locked": f"delay_enter={DELAY_MS}000",
}
"""What happens at the system call."""


class Place(NamedTuple):
    """The Nth system call of this name on this file. Calls of several threads are counted one by one."""

    file: str
    call: str
    number: int


def missing() -> str | None:
    """Why system calls cannot be traced here, or None."""
    if shutil.which("strace") is None:
        return "strace is not installed (apt-get install strace)"
    if not hasattr(os, "pidfd_open") or not hasattr(os, "memfd_create"):
        return "this system has no pidfd_open or memfd_create"
    tried = subprocess.run(["strace", "-qq", "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"strace may not trace here: {tried.stderr.strip()}"


def options(place: Place, fault: str, folder: Path, log: str = os.devnull) -> list[str]:
    """What strace is told: a signal, or an error once (`eio`) or from there on (`eio+`)."""
    when = f"{place.number}+" if fault.endswith("+") else str(place.number)
    inject = f"inject={place.call}:{INJECTED[fault.rstrip('+')]}:when={when}"
    return ["-P", str(folder / place.file), "-e", f"trace={place.call}", "-e", inject, "-o", log]


def attach(zygote: Zygote, pid: int, strace: list[str]) -> subprocess.Popen[str]:
    """Attach strace to a process that waits at its gate, and let it go."""
    tracer = subprocess.Popen(["strace", "-f", "-qq", *strace, "-p", str(pid)], stderr=subprocess.PIPE, text=True)
    status = Path(f"/proc/{pid}/status")
    attached = until(lambda: "TracerPid:\t0\n" not in status.read_text() or tracer.poll() is not None)
    if not attached or tracer.poll() is not None:
        raise RuntimeError(f"strace did not attach: {tracer.stderr.read() if tracer.stderr else ''}")
    zygote.go(pid)
    return tracer


def held_up(pid: int) -> bool:
    """Whether a thread of the process has stood at one system call for a while."""

    def stopped() -> dict[str, str]:
        found = {}
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                if (task / "stat").read_text().rpartition(")")[2].split()[0] == "t":
                    found[task.name] = (task / "syscall").read_text()
        return found

    before = stopped()
    time.sleep(DELAY_MS / 5000)
    return any(before.get(task) == call for task, call in stopped().items())


def traced_from_the_shell(argv: list[str], folder: Path, strace: list[str]) -> Exit:
    """The same with a process that is started as people start it, all of Python under strace."""
    command = ["strace", "-f", "-qq", *strace, sys.executable, "-m", "jamjet_dsl.cli", *argv]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **surroundings(folder)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)
    code = done.returncode
    return Exit(128 - code if code > 128 else code, done.stdout, done.stderr)


def places(log: str, folder: Path, calls: tuple[str, ...]) -> list[Place]:
    """Every place in a trace of a command that was let alone: files of the folder, and how often each call was made.

    Of `fcntl` only those that take a lock: no process can refuse another to give one up.
    """
    # strace counts the calls of each thread on its own; several threads reach some of the numbers.
    counts: Counter[tuple[str, str, str]] = Counter()
    found: set[Place] = set()
    for line in log.splitlines():
        parts = re.match(r"(\d+) +(\w+)\((?:AT_FDCWD<[^>]*>, )?(?:\d+<([^>]*)>|\"([^\"]*)\")", line)
        if parts is None or parts[2] not in calls:
            continue
        path = Path(parts[3] or parts[4])
        if not path.is_relative_to(folder) or path == folder:
            continue
        file = str(path.relative_to(folder))
        counts[parts[1], parts[2], file] += 1
        if parts[2] != "fcntl" or "l_type=F_RDLCK" in line or "l_type=F_WRLCK" in line:
            found.add(Place(file, parts[2], counts[parts[1], parts[2], file]))
    return sorted(found)
