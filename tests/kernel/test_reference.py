"""Random programs, all of the language: the kernel comes to the same end as the reference interpreter, by the same way;
its journals prove themselves; and a crash makes no difference where tools are idempotent."""

from __future__ import annotations

import re
from dataclasses import replace

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from jamjet_dsl.compiler import compile_text
from jamjet_dsl.kernel.machine import apply, decide, initial
from jamjet_dsl.kernel.model import Event, Record
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.state_json import decode, encode
from tests.reference.__main__ import differences
from tests.reference.engine import Played, play, seen
from tests.reference.programs import program, world

DECIDED = {
    *("moved", "finished", "denied", "exceeded", "parked", "faulted", "in_doubt", "overrun", "spent", "emitted"),
    *("opened", "begun", "closed", "joined", "consumed", "expired"),
}
seeds = st.integers(0, 5_000)
few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@few
@given(seeds, seeds, st.booleans())
def test_the_kernel_does_what_the_reference_does(seed: int, other: int, crash: bool) -> None:
    text = program(seed)
    wrong, _ = differences(text, world(other, crash))
    assert not wrong, "\n".join([text, *wrong])


@few
@given(seeds, seeds)
def test_a_journal_proves_its_own_transitions(seed: int, other: int) -> None:
    played = play(compile_text(program(seed)).definition, world(other))
    kernel = Program.of(played.program.defn)
    state = initial("run-1")
    for number, draft in enumerate(played.journal, 1):
        if draft.kind in DECIDED:
            (record,) = [c for c in decide(kernel, state) if isinstance(c, Record)]
            assert (record.kind, record.body) == (draft.kind, draft.body)
        before = encode(state)
        after = apply(kernel, state, Event("run-1", number, draft.at_ms, draft.kind, draft.body))
        assert encode(state) == before
        assert decode(encode(after)) == after
        state = after
    assert state == played.state


def idempotent(text: str) -> str:
    """The program with tools that cost nothing and do everything once under a key, and without budgets of cost."""
    text = re.sub(r"reserve \{[^}]*\}", "", text)
    text = re.sub(r"cost \$[\d.]+|(?<!max )tokens \d+|confirm look\(x\)", "", text)
    return re.sub(r"(tool (?:wr|sure)\(x: int\) -> int \{ effect writes)", r"\1  key run.id + string(x)", text)


def doubts(played: Played) -> int:
    return sum(draft.kind == "in_doubt" for draft in played.journal)


@few
@given(seeds, seeds, st.integers(1, 150_000))
def test_a_crash_at_any_time_comes_to_the_same_end_where_tools_are_idempotent(
    seed: int, other: int, at_ms: int
) -> None:
    definition = compile_text(idempotent(program(seed))).definition
    # That a write was not let in is no answer: after a crash it would leave open what became of the attempt before.
    calm = replace(world(other), errors=("Timeout", "Crashed", "Mine"), operator=())
    once, killed = play(definition, calm), play(definition, replace(calm, crash_at=at_ms))
    # A write that is being cancelled when the process dies is not made again: then, and only then, it is in doubt.
    assume(doubts(once) == doubts(killed))
    whole, crashed = seen(once), seen(killed)
    # What an attempt opens is called after it (`@2.2`), so the world beyond a recovered attempt is another one.
    assume(not any(re.search(r"@\d+\.\d", path) for path in set(crashed["path"]) - set(whole["path"])))
    for name in ("status", "path", "variables", "output", "steps", "denied", "emitted", "performed"):
        assert crashed[name] == whole[name], name
