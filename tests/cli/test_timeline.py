"""The lines of `jam history`."""

from __future__ import annotations

from jamjet_dsl.cli.timeline import Timeline
from jamjet_dsl.compiler import compile_text
from jamjet_dsl.kernel.model import Event

PROGRAM = "agent a version 1 { input n: int  output m: int  start state s { wait 1s  -> done }  final done { m = n } }"


def test_an_attempt_that_was_never_begun_is_told_by_the_call_it_was_to_make() -> None:
    timeline = Timeline(compile_text(PROGRAM).definition)
    intent = {"cmd": "#1.1", "tool": "pay", "args": {"n": 1}, "key": "k", "effect": "writes", "decision": {"rules": []}}
    events = [
        ("intent", intent),
        ("recovered", {"cmd": "#1.1", "how": "key", "usage": {"tokens": 0, "cost": "0 USD"}}),
        ("in_doubt", {"cmd": "#1.2", "why": "the run was to be stopped"}),
    ]
    lines = [timeline.line(Event("r", seq, 0, kind, body, "", "")) for seq, (kind, body) in enumerate(events, 1)]
    assert "pay is in doubt: the run was to be stopped" in lines[-1]
