"""The page about tests: its commands do what it says."""

import shutil
from pathlib import Path

import pytest

from tests.examples.pages import ROOT, run_blocks

PAGE = ROOT / "docs" / "testing.md"


@pytest.mark.skipif(shutil.which("bash") is None, reason="the page is written for bash")
def test_every_marked_command_does_what_the_page_says(tmp_path: Path) -> None:
    shell = 'jam() { python -m jamjet_dsl.cli "$@"; }\npytest() { python -m pytest "$@"; }\n'
    plugin = "-p no:jam -p jamjet_dsl.cli.pytest_plugin -p no:cacheprovider"
    run_blocks(PAGE, tmp_path, before=shell, timeout=150, PYTEST_ADDOPTS=plugin)
    assert (tmp_path / "refund.svg").exists()
