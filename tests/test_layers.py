"""What may import what, and what a plain `jam check` must not pay for."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {
    "pydantic", "pydantic_core", "networkx", "rich", "sqlite3", "sqlite_utils", "asyncio", "re2", "lark", "jsonschema",
    "graphviz", "graphviz_pure", "uuid_utils", "rfc8785", "pydantic_ai", "pygments", "http", "urllib", "email", "ssl",
    "socket", "subprocess", "concurrent", "multiprocessing", "logging", "tempfile", "json", "hashlib", "difflib",
}  # fmt: skip
KERNEL = sorted((ROOT / "jamjet_dsl" / "kernel").rglob("*.py"))
PROGRAM = "agent a version 1 {\n  input n: int\n  start state s { when n > 1 -> t  otherwise -> t }\n  final t {}\n}\n"


def imported(code: str, *args: str) -> set[str]:
    """The modules of this package, and the top level ones of others, that a fresh interpreter has after some code."""
    wrapped = f"import sys\nbefore = set(sys.modules)\n{code}\nprint('\\n#' + ' '.join(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", wrapped, *args], cwd=ROOT, capture_output=True, text=True, check=True)
    names = done.stdout.rpartition("#")[2].split()
    return {n if n.startswith("jamjet_dsl") else n.partition(".")[0] for n in names}


def test_importing_the_package_imports_nothing_heavy_and_none_of_its_parts() -> None:
    found = imported("import jamjet_dsl")
    assert not found & HEAVY
    assert {n for n in found if n.startswith("jamjet_dsl.")} == set()


@pytest.mark.parametrize("text", [PROGRAM, PROGRAM.replace("-> t", "-> nowhere")], ids=["sound", "with errors"])
def test_check_imports_neither_what_runs_nor_what_draws(tmp_path: Path, text: str) -> None:
    file = tmp_path / "p.jam"
    file.write_text(text)
    # Once before, so that the tables of the grammar are made and cached in a fresh checkout.
    code = "from jamjet_dsl.cli import main\ntry: main(['check', sys.argv[1]])\nexcept SystemExit: pass"
    imported(code, str(file))
    found = imported(code, str(file))
    assert not found & HEAVY
    parts = {n.split(".")[1] for n in found if n.startswith("jamjet_dsl.")}
    assert not parts & {"engine", "kernel", "store", "render", "tools", "models", "definition", "evaluate"}


def test_the_contracts_between_the_layers_hold() -> None:
    code = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "0 broken" in done.stdout


def test_every_part_of_the_package_has_its_place_in_the_layers() -> None:
    contract = (ROOT / "pyproject.toml").read_text().partition("layers = [")[2].partition("]")[0]
    placed = set(re.findall(r"\w+", contract))
    parts = {p.stem for p in (ROOT / "jamjet_dsl").iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()}
    assert parts - {"__init__"} == placed


@pytest.mark.parametrize("path", KERNEL, ids=lambda p: p.stem)
def test_the_kernel_asks_nobody_for_the_time(path: Path) -> None:
    assert not re.search(r"\b(?:now|utcnow|today|monotonic|perf_counter|time_ns)\(\)", path.read_text())
