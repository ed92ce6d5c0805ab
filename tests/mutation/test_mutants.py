"""The mutants themselves: what is changed, what is left alone, and that a change reaches what is loaded already."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from tests.mutation import patch
from tests.mutation.mutants import mutants

ROOT = Path(__file__).resolve().parents[2]
SOURCE = '''
LIMIT = 3

class Tank:
    """Words."""

    def __init__(self) -> None:
        self.held = 0

    def fits(self, more: int = 1) -> bool:
        """Words with 1 number and a b == c."""
        message = "1 + 1" + str(1)
        if self.held + more > LIMIT:
            return False
        return True

    def fill(self, more: int) -> None:
        if not self.fits(more):
            raise ValueError(1 + 1, "too much")
        self.held += more
'''


def load(folder: Path) -> tuple[Path, ModuleType]:
    path = folder / "tank.py"
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("tank", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return path, module


def test_what_runs_is_changed_and_words_are_not(tmp_path: Path) -> None:
    path, _ = load(tmp_path)
    assert [mutant.key for mutant in mutants(path)] == [
        "tank.Tank.__init__: without `self.held = 0`",
        "tank.Tank.__init__: `0` becomes `1`",
        "tank.Tank.fits: `if self.held + more > LIMIT:` becomes `if True:`",
        "tank.Tank.fits: `if self.held + more > LIMIT:` becomes `if False:`",
        "tank.Tank.fits: `self.held + more > LIMIT` becomes `self.held + more >= LIMIT`",
        "tank.Tank.fits: `self.held + more` becomes `self.held - more`",
        "tank.Tank.fits: `False` becomes `True`",
        "tank.Tank.fits: `True` becomes `False`",
        "tank.Tank.fill: without `self.held += more`",
        "tank.Tank.fill: `if not self.fits(more):` becomes `if True:`",
        "tank.Tank.fill: `if not self.fits(more):` becomes `if False:`",
        "tank.Tank.fill: `not self.fits(more)` becomes `not not self.fits(more)`",
        "tank.Tank.fill: `self.held += more` becomes `self.held -= more`",
    ]


LOOKS_UP = """
def a(tools, name):
    return tools.get(name) if name else None

def b(tools, name):
    return tools.get(name) if name is not None else None

def c(tools, name):
    return tools.get(name) if tools else None

def d(tools, name):
    known = tools.get(name)
    if known is None:
        known = tools[name] = len(name)
    return known

def e(tools, name):
    known = tools.get(name)
    if known is None:
        found = tools[name] = len(name)
    return known
"""


def test_a_look_into_a_table_that_is_spared_is_no_behaviour(tmp_path: Path) -> None:
    path = tmp_path / "table.py"
    path.write_text(LOOKS_UP)
    always = {m.key.partition(":")[0] for m in mutants(path) if "if True" in m.key.partition("becomes")[2]}
    never = {m.key.partition(":")[0] for m in mutants(path) if "if False" in m.key.partition("becomes")[2]}
    assert always == {"table.c", "table.e"}
    assert never == {f"table.{name}" for name in "abcde"}


def test_a_mutant_reaches_objects_that_are_there_already(tmp_path: Path) -> None:
    path, module = load(tmp_path)
    tank = module.Tank()
    mutant = next(m for m in mutants(path) if m.key.endswith("becomes `self.held + more >= LIMIT`"))
    assert tank.fits(3)
    assert patch.put(mutant.code(), patch.loaded(tmp_path))
    assert not tank.fits(3)
    assert tank.fits(2)


def test_a_mutant_names_the_lines_that_a_check_must_pass_to_notice_it(tmp_path: Path) -> None:
    path, _ = load(tmp_path)
    lines = SOURCE.splitlines()
    for mutant in mutants(path):
        if mutant.key.endswith("becomes `if True:`"):
            assert mutant.first == mutant.last
            assert lines[mutant.first - 1].lstrip().startswith("if ")


NOTICED = """
budget.tool_reserve: `0` becomes `1`
budget.spares: `frame.parent is not None` becomes `frame.parent is None`
leave._retry: `frame.call is None` becomes `frame.call is not None`
leave.is_indefinite: `return call is not None and call['effect'] in WRITES` becomes `return None`
fold._recovered: `if intent is None:` becomes `if True:`
recovery._recovered: `body['key'] is not None` becomes `body['key'] is None`
"""
MEET = """
import os, sys
from tests.mutation import patch
from tests.mutation.__main__ import KERNEL
from tests.mutation.mutants import mutants
from tests.reference import programs
from tests.reference.__main__ import compare

def meets(mutant):
    # In a process of its own: 0 if nothing was noticed, 3 if nothing was changed.
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    noticed = 1
    try:
        if mutant is not None and not patch.put(mutant.code(), patch.loaded(KERNEL)):
            os._exit(3)
        noticed = int(bool(compare(range(4), programs.ALL).wrong))
    finally:
        os._exit(noticed)

compare(range(2), programs.ALL)
known = {m.key: m for path in sorted(KERNEL.glob("*.py")) for m in mutants(path)}
print(meets(None), *(meets(known[key]) for key in sys.argv[1:]))
"""


def test_some_mutants_of_the_kernel_are_noticed_by_a_few_runs_of_the_reference() -> None:
    """A smoke run of the campaign: the kernel as it is passes, and each of these does not."""
    keys = NOTICED.strip().splitlines()
    done = subprocess.run(
        [sys.executable, "-c", MEET, *keys], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.split() == ["0", *["1"] * len(keys)], done.stdout + done.stderr
