"""Starting and stopping a peer's server on the loopback interface."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 60.0
"""Seconds in which a server must be up."""
HOST = "127.0.0.1"
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(command: list[str], log: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server as a child process, without proxies and without telemetry; stopped in the end."""
    clean = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    with open(log, "wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**clean, "DO_NOT_TRACK": "1", **env})
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    """Until the address answers 200. Raises SystemExit if it never does."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            with OPENER.open(url, timeout=1) as answer:
                if answer.status == 200:
                    return
        except OSError:
            pass
        if process.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"the server does not answer at {url}")
        time.sleep(0.02)


def resident_mib(process: subprocess.Popen[bytes]) -> float:
    """What a server has resident now, in MiB."""
    with open(f"/proc/{process.pid}/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))
