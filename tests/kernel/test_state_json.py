"""The forms of a state. What a journal holds stays readable: `form3.json` is a journal that the code of commit 585eeac
wrote, which had form 3, with the state that a fork of it began with."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from jamjet_dsl.compiler import compile_text
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel.machine import apply, fold, initial
from jamjet_dsl.kernel.model import Account, Event, Frame, Grant, Intent, Question, Reserve, RunState
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.state_json import FORMAT, decode, encode, restore, upgraded

FORM_7 = {
    "": "agent cancelling counted diverted exceeded facts final_state format frames grants input intents monitors"
    " now_ms origin output overruns parked policy principal provenance questions queue run_id seq spent started_ms"
    " status timers undo undo_failed unresolved vars warned",
    "frames": "account agent attempt call counters ended entered_ms error event fault flags home idle key kind late"
    " monitors opened outcome parent path phase region retries scope state visit",
    "account": "active_ms caps cost diverted exceeded limits started_ms steps tokens warned",
    "intents": "at_ms body cmd reserve unsettled",
    "reserve": "cost tokens",
    "questions": "approvals body cmd expires_at_ms facts frame id state",
    "grants": "approvers at_ms bind by call facts frame home question seq state used_by",
    "spent": "active_ms cost steps tokens",
}
"""What a state of form 7 is made of."""


@pytest.fixture(scope="module")
def old() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(__file__).with_name("form3.json").read_text(encoding="utf-8"))
    return found


def program_of(old: dict[str, Any]) -> Program:
    return Program.of(compile_text(old["source"], agent="a").definition)


def forked(old: dict[str, Any], **changed: Any) -> Event:
    origin = {"run": "run-1", "seq": len(old["events"]), "hash": "00", "live": False}
    body = {"agent": "a", "origin": origin, "whole": {**old["whole"], **changed}, "by": ""}
    return Event("fork", 1, old["events"][-1][0], "forked", body)


def test_a_state_of_an_earlier_form_is_what_its_journal_folds_to(old: dict[str, Any]) -> None:
    assert old["whole"]["format"] == 3
    events = [Event("run-1", n, at_ms, kind, body) for n, (at_ms, kind, body) in enumerate(old["events"], 1)]
    assert restore(old["whole"]) == fold(program_of(old), "run-1", events)


def test_a_fork_that_began_with_an_earlier_form_goes_on(old: dict[str, Any]) -> None:
    program = program_of(old)
    state = apply(program, initial("fork"), forked(old))
    assert state.frames["both@2/left/do@1/kid"].state == "ask_it"
    assert decode(encode(state)) == state


def test_a_fork_that_began_with_a_later_form_says_that_it_is_newer(old: dict[str, Any]) -> None:
    with pytest.raises(JamError) as caught:
        apply(program_of(old), initial("fork"), forked(old, format=FORMAT + 1))
    assert caught.value.code == "JAMR104"


@pytest.mark.parametrize("form", [0, 2, None, "5", True])
def test_what_is_no_state_is_none(old: dict[str, Any], form: Any) -> None:
    with pytest.raises(ValueError, match="there is no form"):
        restore({**old["whole"], "format": form})


def test_a_snapshot_of_another_form_is_no_snapshot(old: dict[str, Any]) -> None:
    for tree in (old["whole"], {**old["whole"], "format": FORMAT + 1}):
        with pytest.raises(ValueError, match="another version"):
            decode(json.dumps(tree).encode())


def test_a_form_without_modes_of_policies_is_one_whose_policies_were_enforced(old: dict[str, Any]) -> None:
    form4 = upgraded(old["whole"])
    assert form4.pop("policy") == "enforce"
    form4["grants"] = {"g": {**dataclasses.asdict(Grant("q", "s", None, {}, "ann", 0))}}
    del form4["grants"]["g"]["facts"]
    found = restore({**form4, "format": 4})
    assert found.policy == "enforce"
    assert found.grants["g"].facts == {}


def test_a_state_of_form_5_had_no_shared_limits() -> None:
    form5 = json.loads(encode(RunState("r")))
    assert form5.pop("counted", "missing") is None
    assert restore({**form5, "format": 5}).counted is None


def test_restoring_leaves_what_it_restores_alone(old: dict[str, Any]) -> None:
    before = json.dumps(old["whole"])
    restore(old["whole"]).frames[""].visit = 99
    assert json.dumps(old["whole"]) == before


def test_in_a_state_of_form_6_limits_counted_equal_numbers_apart() -> None:
    def counted(count: int, total: str, *window: list[Any], **turn: int) -> dict[str, Any]:
        return {"count": count, "sum": total, "window": list(window), **turn}

    form6 = json.loads(encode(RunState("r")))
    form6["monitors"] = {
        "turn": 3,
        "calls\x1fattempted\x1fpay": 4,
        "limit\x1f1\x1f[1.0]": counted(1, "2.5", [20, "2.5"]),
        "limit\x1f1\x1f[1]": counted(2, "3", [10, "1"], [30, "2"]),
        "limit\x1f1\x1f[1.5]": counted(1, "1"),
        'limit\x1f1\x1f["1.0"]': counted(1, "1"),
        "limit\x1f2\x1f[-0.0]": counted(1, "0", turn=2),
        "limit\x1f2\x1f[0.0]": counted(2, "0", turn=3),
        "limit\x1f3\x1f‹redacted 1.5›": counted(1, "0"),
    }
    assert restore({**form6, "format": 6}).monitors == {
        "turn": 3,
        "calls\x1fattempted\x1fpay": 4,
        "limit\x1f1\x1f[1]": counted(3, "5.5", [10, "1"], [20, "2.5"], [30, "2"]),
        "limit\x1f1\x1f[1.5]": counted(1, "1"),
        'limit\x1f1\x1f["1.0"]': counted(1, "1"),
        "limit\x1f2\x1f[0]": counted(2, "0", turn=3),
        "limit\x1f3\x1f‹redacted 1.5›": counted(1, "0"),
    }


def test_the_form_has_the_number_that_it_had() -> None:
    """If this fails the form has changed. A journal may hold a state of the form that it had: raise `FORMAT`, add the
    step to `state_json._UPGRADES`, keep a journal of the old form beside this file, and only then change what is here.
    """
    account = Account({}, {})
    state = RunState(
        "r",
        frames={"f": Frame("f", "s", account=account)},
        intents={"i": Intent("i", {}, 0, Reserve())},
        questions={"q": Question("q", "c", "f", "s", {}, None)},
        grants={"g": Grant("q", "s", None, {}, "ann", 0)},
    )
    tree = json.loads(encode(state))
    parts = {name: tree[name].popitem()[1] for name in ("frames", "intents", "questions", "grants")}
    parts |= {"": tree, "account": parts["frames"]["account"], "reserve": parts["intents"]["reserve"]}
    parts["spent"] = tree["spent"]
    assert {name: " ".join(sorted(part)) for name, part in parts.items()} == FORM_7
    assert FORMAT == 7
