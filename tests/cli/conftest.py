"""`jam` in this process: what it prints and the code it ends with, as a user would see them."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from jamjet_dsl.cli import main
from tests.cli import programs


class Said(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output as one JSON value."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """Its output as JSON values, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


Jam = Callable[..., Said]


@pytest.fixture
def jam(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Jam:
    """Calls `jam ARGS` in an empty folder; `given` is its stdin (text, or bytes). No exception may leave it."""
    monkeypatch.chdir(tmp_path)
    # The folder of a program whose tools were imported stays on the path for as long as the process lives: what is
    # missing in the folder of the next test would be found in that of an earlier one.
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("JAM_DB", "NO_COLOR", "COLUMNS", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)

    def call(*args: object, given: str | bytes = b"") -> Said:
        data = given.encode() if isinstance(given, str) else given
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(a) for a in args])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        assert "JAMR901" not in err, err
        return Said(left.value.code if isinstance(left.value.code, int) else 0, out, err)

    return call


@pytest.fixture
def pay(tmp_path: Path) -> Path:
    """A program that asks an officer and then pays, with its tools."""
    return programs.write_pay(tmp_path)
