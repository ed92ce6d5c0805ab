"""The loan example against its bank: every outcome, everything the bank can do, crashes, and an edited program."""

import asyncio
import shutil
from pathlib import Path

import pytest

from jamjet_dsl import Engine, JamError, compile_file
from jamjet_dsl.compiler import check_file
from jamjet_dsl.engine.testing import run_tests
from tests.models.openai_server import OpenAIServer, says

from .loan import ADA, GRACE, MALLORY, NOBODY, Office
from .pages import ROOT

PROGRAM = ROOT / "examples" / "loan_underwriting" / "loan_underwriting.jam"


def test_the_program_is_clean_and_its_own_tests_pass() -> None:
    found = [str(d.message) for d in check_file(str(PROGRAM)).diagnostics]
    assert found == []
    results = run_tests(compile_file(str(PROGRAM)))
    assert [(r.title, r.failures) for r in results if not r.passed] == []
    assert {"approved", "referred", "declined", "rejected", "needs_review"} <= {
        str((r.output or {}).get("outcome")) for r in results
    }


async def test_an_approved_loan_is_paid_once_under_the_runs_id(office: Office) -> None:
    view = await office.apply(ADA, ["approve"])
    assert (view.status, view.state) == ("completed", "paid")
    assert view.output == {"outcome": "approved", "receipt": {"id": "p1", "paid": "9000.00 USD"}}
    assert office.payments() == [("r", "9000.00 USD")]
    assert office.calls("pay") == office.calls("report") == office.calls("history") == 1


async def test_a_thin_application_is_worded_by_the_model_and_referred(office: Office) -> None:
    waiting = await office.apply(GRACE)
    assert waiting.state == "officer_review"
    assert "guarantor" in waiting.vars["summary"]
    async with Engine(store=office.store) as jam:
        await jam.answer("r", "refer", by="olivia")
        view = await jam.run("r").wait()
    assert view.output == {"outcome": "referred"}
    assert office.calls("pay") == 0


async def test_fraud_is_declined_and_nobody_is_asked(office: Office) -> None:
    view = await office.apply(MALLORY)
    assert (view.status, view.state) == ("completed", "declined")
    assert "asked" not in [kind for kind, _ in office.journal()]


async def test_an_officer_declines(office: Office) -> None:
    view = await office.apply(ADA, ["decline"])
    assert view.output == {"outcome": "declined"}
    assert office.payments() == []


async def test_a_bank_that_refuses_makes_it_rejected(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANK", "refuse")
    view = await office.apply(ADA, ["approve"])
    assert (view.status, view.output) == ("completed", {"outcome": "rejected"})
    assert office.calls("pay") == 1
    assert office.calls("payment") == 0  # a declared error says that nothing happened: there is nothing to confirm


async def test_the_third_recheck_is_escalated(office: Office) -> None:
    view = await office.apply(NOBODY, ["recheck", "recheck", "recheck"])
    assert (view.status, view.state, view.output) == ("failed", "escalated", {"outcome": "needs_review"})
    assert office.calls("report") == 3


async def test_more_than_the_policy_allows_is_escalated_before_anybody_is_asked(office: Office) -> None:
    view = await office.apply({**ADA, "amount": "50000.01 USD"})
    assert (view.status, view.state) == ("failed", "escalated")
    kinds = [kind for kind, _ in office.journal()]
    assert "denied" in kinds
    assert "asked" not in kinds


async def test_an_application_that_does_not_fit_its_type_starts_nothing(office: Office) -> None:
    with pytest.raises(JamError) as caught:
        await office.apply({**ADA, "amount": "lots", "income": None})
    assert caught.value.code == "JAMR301"
    assert len(caught.value.details) == 2
    assert office.calls("report") == 0


# ---- what the bank can do


async def test_an_answer_that_is_lost_is_found_again_by_asking(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANK", "lose")
    view = await office.apply(ADA, ["approve"])
    assert view.state == "paid"
    assert office.payments() == [("r", "9000.00 USD")]
    assert (office.calls("pay"), office.calls("payment")) == (1, 1)


@pytest.mark.parametrize("bank", ["fail", "hang"])
async def test_a_payment_that_did_not_happen_is_escalated_once_the_bank_says_so(
    office: Office, bank: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BANK", bank)
    monkeypatch.setenv("BANK_DELAY", "3")
    office.edit("timeout 60s", "timeout 1s")
    view = await office.apply(ADA, ["approve"])
    assert (view.status, view.state) == ("failed", "escalated")
    assert office.payments() == []
    assert (office.calls("pay"), office.calls("payment")) == (1, 1)


async def test_a_slow_answer_comes_too_late_and_the_payment_is_confirmed(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BANK", "slow")
    monkeypatch.setenv("BANK_DELAY", "3")
    office.edit("timeout 60s", "timeout 1s")
    view = await office.apply(ADA, ["approve"])
    assert view.state == "paid"
    assert office.payments() == [("r", "9000.00 USD")]


async def test_a_bureau_that_does_not_answer_twice_is_asked_a_third_time(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BANK", "flaky")
    office.edit("backoff 2s x 2 max 30s", "backoff 20ms x 2 max 30s")
    view = await office.apply(ADA, ["approve"])
    assert view.state == "paid"
    assert office.calls("report") == 3
    assert view.spent["steps"] == 4  # further attempts are no further steps
    assert view.spent["cost"] == "1.20 USD"  # but each of them is paid for


# ---- crashes: SIGKILL, in the middle of the payment


async def test_killed_after_the_bank_has_paid_it_is_not_paid_again(office: Office) -> None:
    await office.apply(ADA)
    office.kill_while_paying("slow", until="payment")
    view = await office.go_on()
    assert (view.status, view.state) == ("completed", "paid")
    assert office.payments() == [("r", "9000.00 USD")]
    assert (office.calls("pay"), office.calls("payment")) == (1, 1)
    assert office.calls("report") == office.calls("history") == 1


async def test_killed_before_the_bank_has_paid_it_is_paid_once(office: Office) -> None:
    await office.apply(ADA)
    office.kill_while_paying("hang")
    assert office.payments() == []
    view = await office.go_on()
    assert view.state == "paid"
    assert office.payments() == [("r", "9000.00 USD")]
    assert office.calls("pay") == 2


async def test_with_a_key_but_nothing_to_confirm_with_the_bank_is_asked_again_under_the_same_key(
    office: Office,
) -> None:
    office.edit("  confirm lookup_payment(run.id)\n", "")
    await office.apply(ADA)
    office.kill_while_paying("slow", until="payment")
    view = await office.go_on()
    assert (view.state, office.calls("pay")) == ("paid", 2)
    assert office.payments() == [("r", "9000.00 USD")]


def without_promises(office: Office) -> None:
    """The program as it would be for a bank without idempotency keys and without a way to look."""
    lines = office.program.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [ln for ln in lines if not ln.startswith(("  key ", "  confirm ")) and "on in_doubt" not in ln]
    assert len(kept) == len(lines) - 3
    office.program.write_text("".join(kept), encoding="utf-8")


async def test_without_any_promise_a_payment_in_flight_is_not_repeated_but_parked(office: Office) -> None:
    without_promises(office)
    await office.apply(ADA)
    office.kill_while_paying("ignore-keys", until="payment")
    for _ in range(2):  # resuming again changes nothing
        view = await office.go_on()
        assert (view.status, view.state) == ("parked", "pay")
    assert (len(office.payments()), office.calls("pay")) == (1, 1)
    async with Engine(store=office.store) as jam:
        await jam.settle("r", True, {"id": "p1", "paid": "9000.00 USD"}, by="max", note="it is in the ledger")
        view = await jam.run("r").wait()
    assert view.output == {"outcome": "approved", "receipt": {"id": "p1", "paid": "9000.00 USD"}}
    assert (len(office.payments()), office.calls("pay")) == (1, 1)
    settled = [body for kind, body in office.journal() if kind == "settled"]
    assert [(body["by"], body["note"]) for body in settled] == [("max", "it is in the ledger")]


async def test_a_person_who_says_that_nothing_happened_has_it_paid_after_all(office: Office) -> None:
    without_promises(office)
    await office.apply(ADA)
    office.kill_while_paying("hang")
    assert (await office.go_on()).status == "parked"
    async with Engine(store=office.store) as jam:
        await jam.settle("r", False, by="max", note="the ledger is empty")
        view = await jam.run("r").wait()
    assert view.state == "paid"
    assert len(office.payments()) == 1


# ---- the file changes while a run waits


async def test_a_run_finishes_on_the_definition_it_started_with(office: Office) -> None:
    before = await office.apply(ADA)
    office.edit("outcome = approved", "outcome = referred")
    async with Engine(store=office.store) as jam:
        await jam.answer("r", "approve", by="olivia")
        view = await jam.run("r").wait()
    assert view.output is not None
    assert view.output["outcome"] == "approved"
    assert view.definition == before.definition != compile_file(str(office.program)).definition.digest
    edited = await office.apply(ADA, ["approve"], run_id="s")
    assert edited.output is not None
    assert edited.output["outcome"] == "referred"


async def test_a_run_finishes_though_its_file_is_gone(office: Office) -> None:
    await office.apply(ADA)
    office.program.unlink()
    async with Engine(store=office.store) as jam:
        await jam.answer("r", "approve", by="olivia")
        assert (await jam.run("r").wait()).state == "paid"


# ---- what an approval is


async def test_of_two_officers_at_once_one_is_told_that_the_other_was_first(office: Office) -> None:
    await office.apply(ADA)
    async with Engine(store=office.store) as jam:
        answers = await asyncio.gather(
            jam.answer("r", "approve", by="olivia"), jam.answer("r", "decline", by="max"), return_exceptions=True
        )
        view = await jam.run("r").wait()
    refused = [a for a in answers if isinstance(a, JamError)]
    assert len(refused) == 1
    assert view.state in ("paid", "declined")
    assert len(office.payments()) == (1 if view.state == "paid" else 0)


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("<= $10_000 -> officer_review", "<= $10_000 -> pay", "JAM602"),
        ("on error NotFound -> officer_review", "on error NotFound -> pay", "JAM602"),
        ("on refer   -> referred", "on refer   -> pay", "JAM602"),
        ("    allow credit_report, account_history, lookup_payment, disburse\n",
         "    allow credit_report, account_history, lookup_payment\n", "JAM608"),
        ("otherwise                                 -> explain", "", "JAM505"),
        ("app.amount > $50_000", "app.amount > 50_000 EUR", "JAM401"),
    ],
)  # fmt: skip
def test_an_edit_that_takes_a_safeguard_away_is_refused(office: Office, old: str, new: str, code: str) -> None:
    office.edit(old, new)
    codes = [d.code for d in check_file(str(office.program)).diagnostics if d.severity == "error"]
    assert any(c.startswith(code) for c in codes), codes


def test_the_example_is_complete_without_anything_beside_it(tmp_path: Path) -> None:
    copy = tmp_path / "loan"
    shutil.copytree(PROGRAM.parent, copy, ignore=shutil.ignore_patterns("*.db*", "__pycache__"))
    assert sorted(p.name for p in copy.iterdir()) == [
        "README.md",
        "answers.json",
        "application.json",
        "bank.py",
        "loan_tools.py",
        "loan_underwriting.jam",
        "thin_application.json",
    ]


# ---- a real client, by one environment variable


async def test_one_environment_variable_asks_a_server_instead_of_the_script(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pydantic_ai", reason="pydantic-ai-slim is not installed: pip install jamjet-dsl[models]")
    server = OpenAIServer([says("The account is young. Ask for a guarantor. Medium risk.")])
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("JAM_MODEL", "openai:gpt-4.1-mini")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    try:
        view = await office.apply(GRACE)
    finally:
        server.close()
    assert view.vars["summary"] == "The account is young. Ask for a guarantor. Medium risk."
    assert view.spent["tokens"] == 18
    (sent,) = server.requests
    assert sent["model"] == "gpt-4.1-mini"
    assert "222-22-2222" not in str(sent)
