"""Trials under faults: what is drawn fits, a seed tells the same story twice, and what is found is so."""

from __future__ import annotations

import random
from typing import Any

import pytest

from jamjet_dsl.compiler import compile_text
from jamjet_dsl.definition import Compiled
from jamjet_dsl.engine import trial as trials
from jamjet_dsl.engine.samples import Samples
from jamjet_dsl.engine.survival import Survey, survey, told, typical_of
from jamjet_dsl.engine.trial import Trial
from jamjet_dsl.kernel.convert import from_public
from jamjet_dsl.kernel.program import Program
from tests.reference import programs

NAIVE = """
tool charge(order: string, amount: money) -> string { effect writes }
tool send_mail(to: string) { effect writes  key run.id + "/mail"  retry any 3 times backoff 1s  timeout 10s }
tool rate(order: string) -> int 0..100 { effect reads  raises Unknown }
agent shop version 1 {
  input order: string, amount: money
  output receipt: string?
  budget { steps 20  exceeded -> over }
  policy { allow any }
  start state look { call rate(order) as r  when r > 50 -> pay  otherwise -> over }
  state pay { call charge(order, amount) as receipt  -> mail }
  state mail { call send_mail("x")  on in_doubt -> done  on error any -> done  -> done }
  final done { receipt = receipt }
  failed over {}
}
"""
CAREFUL = (
    NAIVE.replace("{ effect writes }", "{ effect writes  confirm charged(order)  timeout 30s }")
    .replace(
        "raises Unknown }",
        "raises Unknown  timeout 10s }\ntool charged(order: string) -> string? { effect reads  timeout 5s }",
    )
    .replace("policy { allow any }", "policy { allow any }\n  on error any -> over\n  on in_doubt -> over")
)


def found_in(text: str, seeds: int = 300, **more: Any) -> Survey:
    return survey(compile_text(text), range(seeds), **more)


def test_what_a_program_does_not_survive_is_found_and_how_to_mend_it() -> None:
    found = found_in(NAIVE)
    by = {(finding.kind, finding.state): finding for finding in found.findings}
    assert set(by) == {("parked", "look"), ("parked", "pay"), ("doubt", "pay"), ("waiting", "look"), ("waiting", "pay")}
    assert set(by["parked", "look"].errors) == {
        "Disconnected",
        "InvalidOutput",
        "RateLimited",
        "Unavailable",
        "Unknown",
    }
    assert "timeout" in by["waiting", "look"].help
    assert "on in_doubt" in by["doubt", "pay"].help
    assert not found.survived
    assert sum(found.ends.values()) == found.trials == 300


def test_each_finding_is_there_again_under_its_seed() -> None:
    compiled = compile_text(NAIVE)
    program = Program.of(compiled.definition)
    for finding in survey(compiled, range(300)).findings:
        ended = Trial(program, finding.seed).run()
        assert (ended.status, ended.where, ended.why) == (finding.kind, finding.state, finding.message)


def test_a_program_that_handles_all_of_it_survives() -> None:
    found = found_in(CAREFUL)
    assert found.survived, found.findings
    assert {status for status, _ in found.ends} == {"completed", "failed"}
    assert min(found.faults[fault] for fault in trials.FAULTS) > 10, "each fault was put in"


def test_a_call_under_a_key_may_be_made_twice_and_is_told() -> None:
    (mail,) = found_in(CAREFUL).repeated
    assert (mail.tool, mail.keyed) == ("send_mail", True)
    assert mail.most > 1
    trial = Trial(Program.of(compile_text(CAREFUL).definition), mail.seed)
    trial.run()
    assert [done.tool for done in trial.repeated()] == ["send_mail"]


def test_what_confirm_says_is_what_happened() -> None:
    """A charge whose answer was lost is found out about, and never made again."""
    program, asked = Program.of(compile_text(CAREFUL).definition), 0
    for seed in range(300):
        trial = Trial(program, seed)
        trial.run()
        probes = [draft.body for draft in trial.journal if draft.kind == "probed"]
        charges = [done for (tool, _), done in trial.done.items() if tool == "charge"]
        assert all(done.times == 1 for done in charges)
        for probe in probes:
            # None: the question was lost itself.
            assert probe["happened"] in (None, bool(charges))
        asked += sum(probe["happened"] is not None for probe in probes)
    assert asked > 10, "so few were asked about that nothing is shown"


def test_without_faults_nothing_is_found() -> None:
    found = found_in(NAIVE, faults=(), crashes=False)
    assert (found.survived, found.faults.total(), found.crashes, found.repeated) == (True, 0, 0, [])


def test_processes_die_after_every_commit() -> None:
    """Of a short run, between any two of its transitions."""
    found = survey(compile_text(CAREFUL), range(600), (), True)
    assert found.crashed_at >= set(range(2, 5))
    assert found.survived


def test_a_seed_tells_the_same_story_twice() -> None:
    program = Program.of(compile_text(NAIVE).definition)
    for seed in range(40):
        one, other = Trial(program, seed), Trial(program, seed)
        assert one.run() == other.run()
        assert one.journal == other.journal
        assert one.tried == other.tried


def test_an_engine_that_made_a_call_twice_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger itself is tried: a recovery that makes a call again which has no key does not get through."""
    real = trials.recover

    def careless(program: Program, state: Any) -> list[Any]:
        records = real(program, state)
        for record in records:
            if record.kind == "in_doubt":
                record.kind = "recovered"
                record.body = {"cmd": record.body["cmd"], "how": "again", "usage": {"tokens": 0, "cost": "0 USD"}}
        return records

    monkeypatch.setattr(trials, "recover", careless)
    found = found_in(NAIVE)
    assert [one.tool for one in found.repeated if not one.keyed] == ["charge"]
    assert not found.survived


@pytest.mark.parametrize("seed", range(30))
def test_of_any_program_a_trial_ends_and_nothing_is_done_twice_without_a_key(seed: int) -> None:
    program = Program.of(compile_text(programs.program(seed)).definition)
    for number in range(4):
        trial = Trial(program, number)
        ended = trial.run()
        assert ended.status in ("completed", "failed", "cancelled", "parked", "doubt", "waiting")
        assert all(done.key is not None for done in trial.repeated())
        assert ended.status != "waiting" or ended.tool, ended


# ---- values

TYPES = """
record Item { name: string  price: money $0.01..$9.99  more: list<Item> }
enum Kind { small  large }
agent a version 1 {
  input b: bool, i: int, r: int -3..4, u: uint, f: float, g: float 0.5..0.75, d: decimal, e: decimal 0.001..0.002
  input s: string, y: bytes, w: duration, t: timestamp, a: any, m: money, n: money $1..$2, l: list<int>
  input k: list<Kind> 1..2, p: map<string, int>, o: Item?, x: Item
  output out: int
  budget { steps 2  exceeded -> over }
  start state begin { wait 1s  -> done }
  final done { out = i }
  final over { out = 0 }
}
"""


def test_what_is_drawn_fits_its_type_and_rubbish_does_not() -> None:
    definition = compile_text(TYPES).definition
    fields = definition.agent.inputs
    samples, kinds = Samples(definition, random.Random(0)), set[str]()
    for _ in range(300):
        for field in fields:
            problems: list[str] = []
            value = samples.value(field.type)
            from_public(value, field.type, definition, field.name, problems)
            assert problems == [], (field.name, value)
            kinds.add(field.name)
            rubbish = samples.misfit(field.type)
            if rubbish is not None:
                from_public(rubbish, field.type, definition, field.name, problems)
                assert problems, (field.name, rubbish)
    assert len(kinds) == len(fields) == 20


def test_the_tests_of_a_program_say_what_is_typical() -> None:
    compiled = compile_text(
        CAREFUL
        + """
test "paid" for shop {
  input order = "o-1"  input amount = $5
  mock rate returns 77
  mock charge returns "r-1"
  expect path look, pay, mail, done
}
"""
    )
    typical = typical_of(compiled)
    assert typical.inputs == ({"order": "o-1", "amount": "5.00 USD"},)
    assert typical.results == {"rate": (77,), "charge": ("r-1",)}
    found = survey(compiled, range(200), (), False)
    assert found.ends["completed", "done"] > 100, "what the mocks give leads where the test goes"
    assert typical_of(compiled, {"order": "x", "amount": "1 USD"}).inputs == ({"order": "x", "amount": "1 USD"},)


def test_secrets_are_not_told() -> None:
    text = NAIVE.replace("input order: string", "input order: secret string").replace(
        "(order: string", "(order: secret string"
    )
    compiled: Compiled = compile_text(text)
    typical = typical_of(compiled, {"order": "canary-4711", "amount": "1 USD"})
    for seed in range(30):
        trial = Trial(Program.of(compiled.definition), seed, typical=typical)
        trial.run()
        assert "canary-4711" in str(trial.journal)
        assert "canary-4711" not in str(told(trial))
