"""The mutants themselves: what is changed, what is left alone, and that a change reaches what is loaded already."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from tests.mutation import patch
from tests.mutation.mutants import mutants

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
