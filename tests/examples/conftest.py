"""A copy of the loan example with a bank of its own, in a folder that the test may change."""

import shutil
from pathlib import Path

import pytest

from .loan import Office
from .pages import ROOT


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Office:
    for name in ("JAM_MODEL", "JAM_DB", "BANK", "BANK_DELAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BANK_LEDGER", str(tmp_path / "ledger.db"))
    for path in (ROOT / "examples" / "loan_underwriting").iterdir():
        if path.suffix in (".jam", ".py", ".json"):
            shutil.copy(path, tmp_path)
    return Office(tmp_path)
