"""A dozen places of the sweep; `python -m tests.crash.sweep [N]` takes as many as one likes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.sweep import sweep, tracer

_MISSING = tracer()


@pytest.mark.skipif(_MISSING is not None, reason=f"the sweep kills at system calls: {_MISSING}")
def test_a_process_killed_at_any_write_is_resumed_with_one_payment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BANK", "ok")
    monkeypatch.setenv("BANK_LEDGER", str(tmp_path / "ledger.db"))
    passed, failures = sweep(12, tmp_path.resolve())
    assert failures == []
    assert passed == 12
