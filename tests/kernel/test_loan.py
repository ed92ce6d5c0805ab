"""The loan program of the design, run by hand: every way through it, and every place where it can die."""

from __future__ import annotations

from tests.kernel.build import APPLICATION, loan
from tests.kernel.driver import Driver, Fails

CLEAN = {"score": 760, "flags": []}


def paid_script() -> dict[str, object]:
    return {"credit_bureau": CLEAN, "disburse": {"id": "r1"}, "lookup_payment": None, "explain": "some risk"}


def test_a_clean_applicant_is_paid_once_after_approval() -> None:
    run = Driver(loan(), paid_script()).start(APPLICATION).run()
    assert run.state.status == "waiting"
    run.answer("approve")
    assert run.path == ["fetch_report", "triage", "officer_review", "pay", "paid"]
    assert run.state.status == "completed"
    assert run.state.output == {"outcome": "approved", "receipt": {"id": "r1"}}
    assert run.state.spent.cost == "0.40 USD"
    assert run.state.spent.steps == 3
    assert len(run.calls("disburse")) == 1


def test_fraud_is_declined_without_asking_anybody() -> None:
    run = Driver(loan(), {"credit_bureau": {"score": 800, "flags": ["fraud"]}}).start(APPLICATION).run()
    assert run.path == ["fetch_report", "triage", "declined"]
    assert "asked" not in run.kinds


def test_a_doubtful_applicant_is_explained_to_the_officer() -> None:
    script = {"credit_bureau": {"score": 650, "flags": []}, "explain": "thin file"}
    run = Driver(loan(), script).start(APPLICATION).run()
    assert run.path[-1] == "officer_review"
    question = run.events("asked")[0]
    assert question["text"] == "Lend 9000.00 USD?"
    assert [label for label, _ in question["show"]] == ["report", "summary"]


def test_rechecks_are_bounded() -> None:
    run = Driver(loan(), paid_script()).start(APPLICATION).run()
    run.answer("recheck").answer("recheck")
    assert run.state.status == "waiting"
    run.answer("recheck")
    assert run.path[-1] == "escalated"
    assert run.state.status == "failed"
    assert run.events("moved")[-1]["over"] is True


def test_an_officer_who_never_answers_escalates_the_run() -> None:
    run = Driver(loan(), paid_script()).start(APPLICATION).run()
    run.pass_time(run.now_ms + 172_800_000)
    run.run()
    assert run.kinds[-3:] == ["expired", "moved", "finished"]
    assert run.path[-1] == "escalated"


def test_an_amount_above_the_limit_is_refused_before_anybody_is_asked() -> None:
    app = {"app": {**APPLICATION["app"], "amount": "60000.00 USD"}}
    run = Driver(loan(), {**paid_script(), "credit_bureau": {"score": 600, "flags": []}}).start(app).run()
    assert run.state.status == "parked"
    assert "asked" not in run.kinds
    assert run.events("denied")[0]["decision"]["rules"] == [2]


def test_the_bureau_is_asked_again_with_growing_delays() -> None:
    script = {**paid_script(), "credit_bureau": [Fails("Timeout"), Fails("Unavailable"), CLEAN]}
    run = Driver(loan(), script).start(APPLICATION).run()
    assert [body["attempt"] for body in run.events("retry")] == [2, 3]
    delays = [e.body["at_ms"] - e.at_ms for e in run.journal if e.kind == "retry"]
    assert delays == [2000, 4000]
    assert run.path[-1] == "officer_review"
    assert run.state.spent.cost == "0.80 USD"  # the timeout may have cost; what was unavailable did not
