"""`jam policy test`: recorded calls, decided without running anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jamjet_dsl.compiler import compile_text
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.evaluate.traces import Judge
from tests.cli.conftest import Jam

DESK = """
record Order { status: string  total: decimal }
tool get_order(id: string) -> Order { effect reads  timeout 5s }
tool page(url: string) -> string untrusted { effect reads  timeout 5s }
tool refund(id: string, amount: decimal) { effect irreversible  timeout 5s }
agent desk version 1 {
  input  reason: string
  policy {
    fact order = get_order(id = args.id) for refund
    allow get_order, page
    allow refund when principal.id == "ann"
    require get_order(id = args.id) as seen before refund when seen.result.total >= args.amount
    forbid refund when order.status != "open" || now > timestamp("2026-01-02T00:00:00Z")
    forbid refund when reason == "" || !attested(reason)
    forbid refund when args.amount > 100 && !attested(args.amount)
    require approval by 2 of "boss" not principal before refund when args.amount > 500
    limit page 1 call per turn, refund 1 call per hour
  }
  on denied -> no
  start state s { call page("x") as text  -> t }
  state t { call get_order("1") as order_1  -> no }
  final  no {}
}
"""
READ = {"tool": "get_order", "args": {"id": "o"}, "result": {"status": "open", "total": 900.10}}
FACTS = {"order": {"status": "open", "total": 900.10}}
REFUND: dict[str, Any] = {
    "tool": "refund",
    "args": {"id": "o", "amount": 20.10},
    "confirm": 1,
    "facts": FACTS,
    "attested": {"reason": "broken"},
    "at": "2026-01-01T00:00:00Z",
}


@pytest.fixture
def desk(tmp_path: Path) -> str:
    (tmp_path / "desk.jam").write_text(DESK)
    return "desk.jam"


def line(*calls: dict[str, Any], **more: Any) -> str:
    return json.dumps({"id": "t", "principal": "ann", "calls": list(calls), **more}) + "\n"


def last(jam: Jam, *calls: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The decision on the last call of one trace."""
    said = jam("policy", "test", "desk.jam", "-", "--format", "json", given=line(*calls, **more))
    assert (said.code, said.err) == (0, "")
    (trace,) = said.lines
    assert trace["id"] == "t"
    assert [d["call"] for d in trace["decisions"]] == list(range(len(calls)))
    found: dict[str, Any] = trace["decisions"][-1]
    assert set(found) == {"call", "tool", "decision", "rules", "reason"}
    return found


def verdict(jam: Jam, *calls: dict[str, Any], **more: Any) -> str:
    found: str = last(jam, *calls, **more)["decision"]
    return found


def test_a_call_is_decided_by_what_its_trace_tells(jam: Jam, desk: str) -> None:
    assert verdict(jam, READ, REFUND) == "allowed"
    assert last(jam, REFUND)["rules"] == ["desk.jam:12"]
    assert last(jam, REFUND)["reason"] == "`get_order` has to be read first, with the same values"
    assert verdict(jam, {**READ, "ok": False}, REFUND) == "denied"
    assert verdict(jam, {**READ, "ok": 0}, REFUND) == "denied"
    assert verdict(jam, {**READ, "result": {"status": "open", "total": 20}}, REFUND) == "denied"
    assert verdict(jam, READ, {**REFUND, "args": {"id": "p", "amount": 1}}) == "denied"
    assert verdict(jam, READ, REFUND, principal="bob") == "denied"
    assert verdict(jam, READ, REFUND, principal={"id": "ann"}) == "allowed"
    assert verdict(jam, READ, {**REFUND, "facts": {"order": {"status": "sent", "total": 1}}}) == "denied"
    assert verdict(jam, READ, REFUND, REFUND) == "denied"
    later = {**REFUND, "at": "2026-01-01T01:00:00.001Z"}
    assert verdict(jam, READ, REFUND, later) == "allowed"


def test_what_is_not_told_denies(jam: Jam, desk: str) -> None:
    assert verdict(jam, READ, {**REFUND, "facts": {}}) == "denied"
    assert verdict(jam, READ, {**REFUND, "attested": {}}, variables={"reason": "broken"}) == "denied"
    assert verdict(jam, READ, {**REFUND, "attested": {}}) == "denied"
    assert verdict(jam, READ, {**REFUND, "facts": {"order": {"status": "open"}}}) == "denied"
    partial = last(jam, READ, {**REFUND, "facts": {"order": {"status": "open"}}})
    assert "; the fact order.total: missing: expected a decimal" in partial["reason"]
    assert verdict(jam, {"tool": "nonsense", "args": {}}) == "denied"
    assert last(jam, {"tool": "nonsense"})["reason"] == "the program declares no tool `nonsense`"
    assert verdict(jam, {"tool": "page", "args": {"uri": "x"}}) == "denied"
    assert verdict(jam, {"tool": "page"}) == "denied"


@pytest.mark.parametrize(
    ("told", "decision"),
    [
        ({}, "denied"),
        ({"result": {"status": "open", "total": 1}}, "allowed"),
        ({"result": {"status": "gone", "total": 1}}, "denied"),
        ({"result": {"status": "gone", "total": 1}, "facts": FACTS}, "allowed"),
        ({"ok": 0}, "allowed"),
        ({"ok": 0, "fact_errors": {"order": "Timeout"}}, "denied"),
        ({"fact_errors": {"order": "NotFound"}}, "allowed"),
    ],
)
def test_where_the_call_is_the_read_of_a_fact_it_says_it(
    jam: Jam, desk: str, told: dict[str, Any], decision: str
) -> None:
    text = (
        Path(desk)
        .read_text()
        .replace("for refund", "for refund, get_order")
        .replace(
            "  policy {",
            """  policy {
    forbid get_order when has(order) && order.status != "open\"""",
        )
    )
    Path(desk).write_text(text.replace("timeout 5s }", "timeout 5s  raises NotFound }", 1))
    assert verdict(jam, {"tool": "get_order", "args": {"id": "o"}, **told}) == decision


def test_an_approval_is_for_what_it_says(jam: Jam, desk: str) -> None:
    assert last(jam, READ, {**REFUND, "confirm": 0})["decision"] == "needs_approval"
    assert verdict(jam, READ, {k: v for k, v in REFUND.items() if k != "confirm"}) == "needs_approval"
    large = {**REFUND, "args": {"id": "o", "amount": 600}, "attested": {"reason": "broken", "amount": 600}}
    people = [{"by": "eva", "roles": ["boss"]}, {"by": "kim", "roles": ["boss"]}, {"by": "ann", "roles": ["boss"]}]
    assert verdict(jam, READ, {**large, "confirm": people[:2]}) == "allowed"
    assert verdict(jam, READ, {**large, "confirm": people[1:]}) == "needs_approval"
    assert verdict(jam, READ, {**large, "confirm": True}) == "allowed"


def test_only_the_value_that_a_person_gave_is_attested(jam: Jam, desk: str) -> None:
    large = {**REFUND, "args": {"id": "o", "amount": 200}}
    given = {"reason": "broken"}
    assert verdict(jam, READ, {**large, "attested": {**given, "amount": 200}}) == "allowed"
    assert verdict(jam, READ, {**large, "attested": {**given, "amount": 20}}) == "denied"
    assert verdict(jam, READ, {**large, "attested": {**given, "amount": True}}) == "denied"
    assert verdict(jam, READ, {**large, "attested": given}) == "denied"
    known = {"variables": {"reason": "broken"}}
    assert verdict(jam, READ, {**large, "attested": ["broken", 200]}, **known) == "allowed"
    assert verdict(jam, READ, {**large, "attested": ["reason", "amount"]}, **known) == "allowed"
    assert verdict(jam, READ, {**large, "attested": ["broken", 201]}, **known) == "denied"
    assert verdict(jam, READ, {**large, "attested": [200]}, **known) == "denied"
    assert verdict(jam, READ, {**large, "attested": ["broken", 200]}) == "denied"


def test_numbers_are_exact(jam: Jam, desk: str) -> None:
    """As binary floats the amount and the total would be equal."""
    read = {**READ, "result": {"status": "open", "total": 0.3}}
    data = line(read, {**REFUND, "args": {"id": "o", "amount": "AMOUNT"}})
    for amount, wanted in (("0.30000000000000001", "denied"), ("0.30", "allowed")):
        said = jam("policy", "test", "desk.jam", "-", "--format", "json", given=data.replace('"AMOUNT"', amount))
        assert said.lines[0]["decisions"][1]["decision"] == wanted


def test_a_trace_without_an_id_has_that_of_its_line(jam: Jam, desk: str) -> None:
    said = jam("policy", "test", "desk.jam", "-", "--format", "json", given='\n{"calls": []}\n{"id": 7, "calls": []}')
    assert said.lines == [{"id": "line 2", "decisions": []}, {"id": "7", "decisions": []}]


def test_time_is_that_of_the_call_else_that_of_the_command(jam: Jam, desk: str) -> None:
    timeless = {k: v for k, v in REFUND.items() if k != "at"}
    data = line(READ, timeless)
    for now, wanted in (("2026-01-01T00:00:00Z", "allowed"), ("2026-02-01T00:00:00+01:00", "denied")):
        said = jam("policy", "test", "desk.jam", "-", "--now", now, "--format", "json", given=data)
        assert said.lines[0]["decisions"][1]["decision"] == wanted
    assert jam("policy", "test", "desk.jam", "-", "--now", "1767225600000", given=data).code == 0
    for bad in ("tomorrow", "2026-01-01T00:00:00", "-5", "99999999999999999"):
        said = jam("policy", "test", "desk.jam", "-", "--now", bad, given=data)
        assert (said.code, said.out) == (2, "")
        assert "JAMR006" in said.err


def test_a_turn_is_a_call_unless_it_says_more(jam: Jam, desk: str) -> None:
    page = {"tool": "page", "args": {"url": "x"}}
    assert verdict(jam, page, page) == "allowed"
    assert verdict(jam, page, {**page, "parallel": 1}) == "denied"
    assert verdict(jam, {**page, "turn": 1}, {**page, "turn": 1}) == "denied"
    assert verdict(jam, {**page, "turn": 1}, {**page, "turn": 2}) == "allowed"
    assert verdict(jam, {**page, "turn": 1}, page) == "allowed"


def test_short_names_mean_the_same(jam: Jam, desk: str) -> None:
    short = [
        {"t": c["tool"], "a": c["args"], **{k: v for k, v in c.items() if k not in ("tool", "args")}}
        for c in (READ, REFUND)
    ]
    short[0]["out"] = short[0].pop("result")
    said = jam("policy", "test", "desk.jam", "-", "--format", "json", given=json.dumps({"user": "ann", "calls": short}))
    assert [d["decision"] for d in said.lines[0]["decisions"]] == ["allowed", "allowed"]


def test_the_table_says_what_every_rule_did(jam: Jam, desk: str) -> None:
    data = line(READ, REFUND) + line(REFUND) + line(READ, {**REFUND, "confirm": 0}) + line({"tool": "x\x1b[2J"})
    said = jam("policy", "test", desk, "-", given=data)
    assert said.code == 0
    assert "\x1b" not in said.out
    assert said.out.splitlines()[0] == (
        "denied t call 0 refund: `get_order` has to be read first, with the same values  desk.jam:12"
    )
    rows = {row.split()[0]: row.split()[1:4] for row in said.out.splitlines() if row.startswith("desk.jam:")}
    assert rows["desk.jam:12"] == ["·", "·", "1"]
    assert rows["desk.jam:11"] == ["1", "1", "·"]
    assert "desk.jam:9" not in rows  # a fact decides nothing
    assert said.out.splitlines()[-1] == "4 traces, 6 calls: 3 allowed, 1 need approval, 2 denied"
    assert "limit page 1 call per turn" in said.out


def test_traces_of_one_principal_share_a_limit(jam: Jam, desk: str, tmp_path: Path) -> None:
    """In the order in which they stand, and as long as the window reaches."""
    (tmp_path / "wide.jam").write_text(DESK.replace("refund 1 call per hour", "refund 1 call per principal per hour"))
    later = {**REFUND, "at": "2026-01-01T01:00:00Z"}
    whose = [("ann", REFUND), ("bo", REFUND), ("ann", REFUND), ("ann", later)]
    data = "".join(line(READ, call, principal={"id": who, "roles": []}) for who, call in whose)
    said = jam("policy", "test", "wide.jam", "-", "--format", "json", given=data)
    found = [trace["decisions"][1] for trace in said.lines]
    assert [one["decision"] for one in found] == ["allowed", "denied", "denied", "allowed"]
    assert "used up by all runs of the principal" in found[2]["reason"]
    assert "all runs" not in found[1]["reason"]  # only ann may do it at all


BAD = {
    "no JSON": b"{",
    "no object": b"[]",
    "no calls": b"{}",
    "calls are no list": b'{"calls": {}}',
    "a call is no object": b'{"calls": [1]}',
    "an id that is none": b'{"id": {}, "calls": []}',
    "no tool": b'{"calls": [{}]}',
    "args are no object": b'{"calls": [{"tool": "page", "args": []}]}',
    "two names for one": b'{"calls": [{"tool": "page", "t": "page"}]}',
    "ok is neither": b'{"calls": [{"tool": "page", "ok": "no"}]}',
    "confirm is neither": b'{"calls": [{"tool": "page", "confirm": 2}]}',
    "an approval of nobody": b'{"calls": [{"tool": "page", "confirm": [{}]}]}',
    "facts are no object": b'{"calls": [{"tool": "page", "facts": []}]}',
    "errors of facts are no names": b'{"calls": [{"tool": "page", "fact_errors": {"order": 1}}]}',
    "attested is neither": b'{"calls": [{"tool": "page", "attested": "url"}]}',
    "untrusted is no list": b'{"calls": [{"tool": "page", "untrusted": {"url": 1}}]}',
    "no time": b'{"calls": [{"tool": "page", "at": "noon"}]}',
    "a time without a zone": b'{"calls": [{"tool": "page", "at": "2026-01-01T00:00:00"}]}',
    "a time below zero": b'{"calls": [{"tool": "page", "at": -1}]}',
    "a principal that is none": b'{"principal": 7, "calls": []}',
    "roles that are none": b'{"principal": {"id": "a", "roles": "boss"}, "calls": []}',
    "variables that are none": b'{"variables": [], "calls": []}',
    "a variable of another type": b'{"variables": {"reason": 7}, "calls": []}',
    "an attested variable of another type": b'{"calls": [{"tool": "page", "attested": {"reason": 7}}]}',
    "a key twice": b'{"calls": [], "calls": []}',
    "no number": b'{"calls": [NaN]}',
    "half a pair": b'{"calls": [{"tool": "\\ud800"}]}',
    "no UTF-8": b'{"calls": [{"tool": "\xff"}]}',
    "too deep": b'{"calls": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_line_is_named_and_the_others_are_decided(jam: Jam, desk: str, tmp_path: Path, what: str) -> None:
    good = line({"tool": "page", "args": {"url": "x"}}).encode()
    (tmp_path / "t.jsonl").write_bytes(good + b"\n" + BAD[what] + b"\n" + good.rstrip())
    said = jam("policy", "test", desk, "t.jsonl", "--format", "json")
    assert said.code == 2
    assert [trace["decisions"][0]["decision"] for trace in said.lines] == ["allowed", "allowed"]
    assert said.err.startswith("error[JAMR")
    assert "t.jsonl:3: " in said.err.splitlines()[0]
    assert "2 traces, 2 calls: 2 allowed" in jam("policy", "test", desk, "t.jsonl").out


def test_a_line_that_is_too_long_is_named(jam: Jam, desk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import jamjet_dsl.cli.policy as policy

    monkeypatch.setattr(policy, "MAX_LINE", 100)
    good = b'{"calls": [{"tool": "page", "args": {"url": "x"}}]}'
    (tmp_path / "t.jsonl").write_bytes(good.ljust(100) + b"\n" + b" " * 250 + good + b"\n" + good)
    said = jam("policy", "test", desk, "t.jsonl", "--format", "json")
    assert "error[JAMR003]: t.jsonl:2: " in said.err
    assert [trace["id"] for trace in said.lines] == ["line 1", "line 3"]


def test_what_cannot_be_asked_is_said(jam: Jam, desk: str, tmp_path: Path) -> None:
    assert "JAMR001" in jam("policy", "test", desk, "missing.jsonl").err
    assert jam("policy", "test", desk, "missing.jsonl").code == 2
    assert "JAMR001" in jam("policy", "test", "missing.jam", "-").err
    assert jam("policy", "test", "-", "-").code == 2
    said = jam("policy", "test", desk, "-", given="")
    assert (said.code, said.out.splitlines()[-1]) == (0, "0 traces, 0 calls: 0 allowed, 0 need approval, 0 denied")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
CALL = st.fixed_dictionaries(
    {"tool": st.sampled_from(["page", "refund", "get_order", "other"])},
    optional={
        "args": st.fixed_dictionaries({}, optional={"id": JSON, "amount": JSON, "url": JSON}),
        "result": JSON,
        "ok": JSON,
        "confirm": JSON,
        "facts": JSON | st.fixed_dictionaries({"order": JSON}),
        "attested": JSON | st.fixed_dictionaries({"reason": JSON, "amount": JSON}),
        "untrusted": JSON,
        "at": JSON | st.integers(0, 2**42),
        "turn": JSON,
        "parallel": JSON,
    },
)
TRACE = st.fixed_dictionaries(
    {"calls": st.lists(CALL, max_size=3) | JSON},
    optional={"id": JSON, "principal": JSON, "variables": JSON | st.fixed_dictionaries({"reason": JSON})},
)
JUDGE = Judge(compile_text(DESK, "desk.jam").model_copy(), 0)


@settings(max_examples=300, deadline=None)
@given(TRACE | JSON)
def test_whatever_a_trace_holds_it_is_decided_or_refused_with_a_code(trace: Any) -> None:
    before, refusal, judged = dict(JUDGE.verdicts), None, None
    try:
        judged = JUDGE.judge(trace, "x")
    except JamError as error:
        refusal = error.code
    decided = sum(JUDGE.verdicts.values()) - sum(before.values())
    assert refusal in (None, "JAMR301")
    assert decided == (len(judged.decisions) if judged is not None else 0)
    if judged is not None:
        assert len(judged.decisions) == len(trace["calls"])
        assert json.dumps(judged.as_json())
