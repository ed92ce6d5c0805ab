"""The evidence that is tampered with: made once, copied for whoever changes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.audit import evidence
from tests.audit.evidence import Evidence


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """Two finished runs and their signed heads. Nobody changes these files."""
    return evidence.make(tmp_path_factory.mktemp("evidence"))


@pytest.fixture
def found(pristine: Evidence, tmp_path: Path) -> Evidence:
    """A copy of them."""
    return pristine.copy(tmp_path)
