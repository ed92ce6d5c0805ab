"""The shop's policy over recorded calls: a sample of the data, and the runner itself."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from jamjet_dsl.compiler import compile_file
from tests.conformance import tau

EVERY = 7
"""One trace in so many is decided here; `./dev conformance tau` decides all."""


@pytest.fixture(scope="module")
def shop() -> tau.Shop:
    return tau.Shop(compile_file(tau.PROGRAM))


@pytest.fixture
def folder() -> Path:
    found = tau.default_folder()
    if not all((found / name).is_file() for name in tau.FILES):
        pytest.skip("no recorded calls: set JAM_SHARED_DATA")
    return found


def test_every_rule_of_the_shop_is_in_the_policy(shop: tau.Shop) -> None:
    wanted = {"G1", "G2", "G3", *(f"R{n}" for n in range(1, 17))}
    rules = {shop.tags[f"{span.file}:{span.line}"] for key, span in shop.compiled.spans.items() if "/rules/" in key}
    assert rules - {""} == wanted


def test_what_breaks_no_rule_is_allowed_and_what_breaks_one_is_not(shop: tau.Shop, folder: Path) -> None:
    tally = tau.compare(shop, islice(tau.traces(folder / "tau_gt.jsonl"), 0, None, EVERY))
    assert (tally.unflagged, tally.unknown, tally.unstopped, tally.words) == (0, 0, 0, [])
    assert tally.calls > 400
    assert tally.both.total() > 5


def test_every_mutant_is_stopped_by_the_rule_it_breaks(shop: tau.Shop, folder: Path) -> None:
    tally = tau.mutants(shop, islice(tau.traces(folder / "tau_mutants.jsonl"), 0, None, EVERY))
    assert tally.words == []
    assert tally.by_its_rule.total() == tally.stopped == tally.total > 80


def test_the_real_runs_are_stopped_where_they_are_flagged(shop: tau.Shop, folder: Path) -> None:
    real = islice(tau.traces(folder / "tau_real.jsonl"), 0, None, 3)
    tally = tau.compare(shop, tau.completed(real, tau.owners_in(folder)))
    assert (tally.unflagged, tally.unstopped) == (0, 0)
    # No file says whose these orders are, so nobody can say that the customer may see them.
    unknown = [words for words in tally.words if "flagged none" in words]
    assert len(unknown) == tally.unknown == 5
    assert all("get_order_details: stopped by R2" in words for words in unknown)
    assert tally.calls > 200


# ---- the runner


FIND = {"t": "find_user_id_by_email", "a": {"email": "a@example.com"}, "ok": 1, "out": "ann"}
ORDER = {"order_id": "#1", "user_id": "ann", "status": "pending"}
READ = {"t": "get_order_details", "a": {"order_id": "#1"}, "ok": 1, "facts": {"order": ORDER}}
CANCEL = {
    "t": "cancel_pending_order",
    "a": {"order_id": "#1", "reason": "no longer needed"},
    "ok": 1,
    "confirm": 1,
    "facts": {"order": ORDER},
}


def run(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    truth: list[dict[str, Any]],
    flags: list[Any],
    mutant: list[dict[str, Any]],
    broken: str,
) -> tuple[int, str]:
    base = {"id": "t", "user": "ann"}
    files = {
        "tau_gt.jsonl": {**base, "calls": truth, "flags": flags},
        "tau_mutants.jsonl": {**base, "calls": mutant, "must_violate": broken, "tool_would_reject": False},
        "tau_real.jsonl": {**base, "calls": [{"t": "think", "a": {}, "ok": 1}], "flags": []},
    }
    for name, trace in files.items():
        (tmp_path / name).write_text(json.dumps(trace) + "\n", encoding="utf-8")
    code = tau.main([str(tmp_path)])
    return code, capsys.readouterr().out


def test_agreement_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unasked = {**CANCEL, "confirm": 0}
    code, out = run(tmp_path, capsys, [FIND, READ, CANCEL], [], [FIND, READ, unasked], "G2")
    assert code == 0
    assert "mutants: 1 of 1 stopped, 1 by the rule they break; the tools alone refuse 0" in out


@pytest.mark.parametrize(
    ("truth", "flags", "mutant", "broken", "words"),
    [
        ([READ], [], [CANCEL], "R1", "t call 0 get_order_details: stopped by R1, R2, flagged none"),
        ([FIND, READ], [[1, ["R4.order_status"], "would_execute"]], [CANCEL], "R1", "stopped by none, flagged R4"),
        ([FIND], [], [FIND, READ, CANCEL], "R4", "t: breaks R4, stopped by none"),
        ([FIND], [], [FIND, CANCEL], "R4", "t: breaks R4, stopped by R3"),
    ],
)
def test_disagreement_fails_and_is_told(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    truth: list[dict[str, Any]],
    flags: list[Any],
    mutant: list[dict[str, Any]],
    broken: str,
    words: str,
) -> None:
    code, out = run(tmp_path, capsys, truth, flags, mutant, broken)
    assert code == 1
    assert words in out


def test_a_missing_folder_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert tau.main(["nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().out


# ---- rules that the data does not break


EXCHANGE: dict[str, Any] = {
    "t": "exchange_delivered_order_items",
    "a": {"order_id": "#1", "item_ids": ["i", "i"], "new_item_ids": ["n", "m"], "payment_method_id": "gift"},
    "ok": 1,
    "confirm": 1,
    "facts": {
        "order": {
            **ORDER,
            "status": "delivered",
            "items": [
                {"item_id": "i", "product_id": "p", "price": 10},
                {"item_id": "i", "product_id": "p", "price": 10},
            ],
            "payment_history": [{"transaction_type": "payment", "amount": 20, "payment_method_id": "card"}],
        },
        "user": {"user_id": "ann", "payment_methods": {"gift": {"source": "gift_card", "balance": 5}}},
        "variants": {name: {"product_id": "p", "price": 12, "available": True} for name in ("n", "m", "z")},
    },
}


def stopped(shop: tau.Shop, *calls: dict[str, Any]) -> set[str]:
    last = shop.decisions({"user": "ann", "calls": [FIND, READ, *calls]})[-1]
    return set() if last.decision == "allowed" else shop.rules(last)


def changed(**args: Any) -> dict[str, Any]:
    return {**EXCHANGE, "a": {**EXCHANGE["a"], **args}}


def facts(**more: Any) -> dict[str, Any]:
    return {**EXCHANGE, "facts": {**EXCHANGE["facts"], **more}}


def test_the_exchange_of_two_of_a_kind_is_counted_as_two(shop: tau.Shop) -> None:
    assert stopped(shop, EXCHANGE) == set()
    poor = {"user_id": "ann", "payment_methods": {"gift": {"source": "gift_card", "balance": 3}}}
    assert stopped(shop, facts(user=poor)) == {"R8"}
    assert stopped(shop, changed(item_ids=["i"] * 3, new_item_ids=["n", "m", "z"])) == {"R9", "R8"}


def test_what_the_shop_does_not_know_is_not_exchanged_for(shop: tau.Shop) -> None:
    assert "R11" in stopped(shop, changed(new_item_ids=["n", "nothing"]))


def test_what_the_shop_refused_may_be_tried_again_and_what_it_did_may_not(shop: tau.Shop) -> None:
    assert stopped(shop, {**EXCHANGE, "ok": 0}, EXCHANGE) == set()
    assert stopped(shop, {**EXCHANGE, "ok": 0}, EXCHANGE, EXCHANGE) == {"R15"}


@pytest.mark.parametrize("missing", ["order", "user", "variants"])
def test_a_fact_that_is_not_there_stops_a_change(shop: tau.Shop, missing: str) -> None:
    known = {name: fact for name, fact in EXCHANGE["facts"].items() if name != missing}
    assert stopped(shop, {**EXCHANGE, "facts": known})


@pytest.mark.parametrize("missing", ["items", "payment_history"])
def test_a_record_with_a_part_missing_allows_no_more(shop: tau.Shop, missing: str) -> None:
    order = {name: part for name, part in EXCHANGE["facts"]["order"].items() if name != missing}
    returned = {
        **EXCHANGE,
        "t": "return_delivered_order_items",
        "a": {"order_id": "#1", "item_ids": ["i"], "payment_method_id": "card"},
    }
    card = {"user_id": "ann", "payment_methods": {"card": {"source": "credit_card"}}}
    whole = {**returned, "facts": {**EXCHANGE["facts"], "user": card}}
    assert stopped(shop, whole) == set()
    assert stopped(shop, {**whole, "facts": {**whole["facts"], "order": order}}) in ({"R9"}, {"R6"})
