"""The demonstration of the loan example's page, as it stands there: refused edit, two crashes, an edited file."""

import shutil
from pathlib import Path

import pytest

from .pages import ROOT, checkout, run_blocks

PAGE = ROOT / "examples" / "loan_underwriting" / "README.md"

# A busy machine may take more than three seconds to come to the payment: instead of sleeping, wait for the nth one.
WAIT_FOR_THE_PAYMENT = """
nth=0
sleep() {
  nth=$((nth + 1))
  for _ in $(seq 300); do
    [ "$(python3 build/loan/bank.py | grep -c '^payment')" -ge $nth ] && return
    command sleep 0.1
  done
  echo "no payment was made"
}
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="the page is written for bash")
def test_every_command_of_the_demonstration_does_what_the_page_says(tmp_path: Path) -> None:
    folder = checkout(tmp_path)
    run_blocks(PAGE, folder, before=WAIT_FOR_THE_PAYMENT, BANK_DELAY="60")
    picture = (folder / "build" / "loan" / "refused.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
