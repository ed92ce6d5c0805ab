"""Who drives a run: a name that another process on this machine can tell to be dead, and that says what the commits of
that process are worth."""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path

_FULL = "full"


def this_owner(durability: str = _FULL) -> str:
    """`PLACE/PID/START/NONCE`: unique to an engine. START tells a reused process id from the old process. Where its
    commits are worth less than `full`, `-DURABILITY` follows: that is a matter of a process, and no database says it.
    """
    pid = os.getpid()
    level = "" if durability == _FULL else f"-{durability}"
    return f"{_place()}/{pid}/{_started(pid)}/{secrets.token_hex(4)}{level}"


def durability_of(owner: str) -> str | None:
    """What the commits of an owner are worth; None for nobody."""
    return (owner.rpartition("/")[2].partition("-")[2] or _FULL) if owner else None


def is_dead(owner: str) -> bool:
    """Whether the owner was a process of this machine and is gone. False if that cannot be known."""
    parts = owner.split("/")
    if os.name != "posix" or len(parts) != 4 or parts[0] != _place() or not parts[1].isdigit():
        return False
    pid = int(parts[1])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return parts[2] != _started(pid) or _is_zombie(pid)


def _place() -> str:
    """Where a process id means something: the host, and on Linux the space of process ids in it. Two containers of
    one name may share a database and cannot see each other's processes."""
    try:
        space = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return socket.gethostname()
    return f"{socket.gethostname()}:{space}"


def _stat(pid: int) -> list[str]:
    """The fields of the process after its name, on systems that have /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _started(pid: int) -> str:
    fields = _stat(pid)
    return fields[19] if len(fields) > 19 else "0"


def _is_zombie(pid: int) -> bool:
    fields = _stat(pid)
    return bool(fields) and fields[0] in "ZX"
