"""The command blocks of a page, run as a reader would type them, and their output compared with what the page shows.

A block ```` ```sh ```` is run if `<!-- run -->` stands on the line before it. The ```` ```text ```` block that follows
it, if one does, must appear in what the commands print: each of its lines, in order, at the start of a line; `…` stands
for anything.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]

_BLOCK = re.compile(r"^<!-- run -->\n```sh\n(?P<sh>.*?)^```\n(?:```text\n(?P<text>.*?)^```\n)?", re.M | re.S)


class Block(NamedTuple):
    """Commands, and the lines that they must print."""

    commands: str
    expected: list[str]


def blocks(page: Path) -> list[Block]:
    """The marked blocks of a page."""
    found = _BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [Block(m["sh"], [line for line in (m["text"] or "").splitlines() if line.strip()]) for m in found]


def checkout(folder: Path) -> Path:
    """A stand-in for a checkout: copies of the examples, and a `./dev` that skips the set-up and uses this
    interpreter."""
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("*.db*", "__pycache__"))
    dev = folder / "dev"
    dev.write_text(f'#!/bin/sh\nshift\nexec "{sys.executable}" -m jamjet_dsl.cli "$@"\n')
    dev.chmod(0o755)
    return folder


def run_blocks(page: Path, folder: Path, *, before: str = "", timeout: float = 240, **env: str) -> None:
    """Run the blocks of a page one after the other in one shell in `folder`; fail where the output differs."""
    found = blocks(page)
    assert found, f"{page.name} has no block to run"
    mark = "=====8<====="
    script = before + "".join(f"{block.commands}\necho '{mark}'\n" for block in found)
    python = Path(sys.executable).parent
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("JAM_", "BANK", "SHOP", "OPENAI_", "FORCE_COLOR"))}
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={**keep, "PATH": f"{python}{os.pathsep}{keep['PATH']}", "PYTHONPATH": str(ROOT), "COLUMNS": "120", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    printed = done.stdout.split(mark + "\n")
    assert len(printed) == len(found) + 1, done.stdout
    for block, output in zip(found, printed, strict=False):
        assert "Traceback" not in output, output
        rest = output.splitlines()
        for line in block.expected:
            pattern = re.compile(".*".join(re.escape(part) for part in line.split("…")))
            at = next((n for n, printed_line in enumerate(rest) if pattern.match(printed_line)), None)
            assert at is not None, f"after\n{block.commands}\nthis line is missing:\n{line}\nin\n{output}"
            rest = rest[at + 1 :]
