"""Everything fails closed: each way in which a decision can go wrong, by its name."""

from __future__ import annotations

from typing import Any

import pytest

from jamjet_dsl.compiler import compile_text
from jamjet_dsl.definition import Definition
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel import inputs
from jamjet_dsl.kernel.errors import ToolError
from jamjet_dsl.kernel.machine import apply
from jamjet_dsl.kernel.model import Event
from jamjet_dsl.kernel.policy import Fence
from jamjet_dsl.kernel.program import Program
from tests.kernel.driver import Crash, Driver, Fails
from tests.kernel.source import begun, compiled, only

TOOLS = """
record Order { status: string  total: int }
record Held { status: string  hold: bool? }
tool held(id: string) -> Held { effect reads  timeout 5s  raises NotFound, Timeout }
tool order(id: string) -> Order { effect reads  timeout 5s }
tool look(id: string) -> string { effect reads  timeout 5s }
tool ship(id: string, n: int) -> string { effect writes  timeout 5s }
tool pay(id: string, n: int) -> string { effect irreversible  timeout 5s }
"""


def program(rules: str, body: str = "start state s { -> done }", more: str = "") -> Definition:
    return compiled(f"""{TOOLS} agent a version 1 {{
      input n: int
      policy {{ {rules} }}
      {more}
      {body}
      final done {{}}  failed no {{}}  failed bad {{}}
    }}""")


def fence(rules: str, **more: Any) -> Fence:
    return Fence(program(rules), **more)


SHIP = {"id": "o1", "n": 5}

# ---- what is asked


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"id": "o1"},
        {"id": 5, "n": 5},
        {"id": "o1", "n": "5"},
        {"id": "o1", "n": 5, "more": 1},
        {"id": None, "n": 5},
    ],
)
def test_malformed_arguments_are_denied(args: dict[str, Any]) -> None:
    decision = fence("allow ship").decide("ship", args)
    assert (decision.verdict, decision.rules) == ("denied", ())


def test_an_unknown_tool_is_refused_by_name() -> None:
    with pytest.raises(JamError) as caught:
        fence("allow any").decide("drop_table", {})
    assert caught.value.code == "JAMR006"


PROPOSED = f"""{TOOLS} model m {{ via openai "x" }}
agent a version 1 {{
  policy {{ allow ship }}
  on error any -> bad
  on denied -> no
  on in_doubt -> bad
  start state t {{ think "?" model m max prompt 1k max tokens 100 tools ship as move  -> s }}
  state s {{ call proposed move  -> done }}
  final done {{}}  failed no {{}}  failed bad {{}}
}}"""


@pytest.mark.parametrize(
    "call",
    [
        {"tool": "pay", "args": SHIP},
        {"tool": "drop_table", "args": {}},
        {"tool": "ship", "args": {"id": "o1"}},
        {"tool": "ship", "args": {"id": "o1", "n": "five"}},
    ],
)
def test_what_a_model_makes_up_is_never_called(call: dict[str, Any]) -> None:
    move = {"text": None, "call": call}
    run = Driver(compiled(PROPOSED), {"t": move, "ship": "ok", "pay": "ok"}).start({}).run()
    assert run.path[-1] == "bad"
    assert not run.calls("ship")
    assert not run.calls("pay")


# ---- rules without a value

RAISES = [
    "allow ship when 10 / (args.n - 5) > 0",
    "allow ship  forbid ship when 10 / (args.n - 5) < 0",
    "allow ship  forbid ship when !(10 / (args.n - 5) > 0)",
    'allow ship  require approval by 1 of "boss" before ship when !(10 / (args.n - 5) > 0)',
    "allow ship  require order(id = args.id) before ship when 10 / (args.n - 5) > 0",
    "allow ship, look  never ship after look when 10 / (args.n - 5) > 0",
    "allow ship  limit ship total 10 / (args.n - 5) <= 100",
    "allow ship  allow any writes when 10 / (args.n - 5) > 0",
]


@pytest.mark.parametrize("rules", RAISES)
def test_a_rule_that_raises_denies(rules: str) -> None:
    guard = fence(rules)
    assert guard.decide("ship", SHIP, approved=True).verdict == "denied"
    if "order(" not in rules:
        assert guard.decide("ship", {"id": "o1", "n": 6}, approved=True).verdict == "allowed"


FACT = 'allow ship  fact o = order(id = args.id) within 10m  forbid ship when o.status == "gone"'
OPEN = {"status": "open", "total": 1}


@pytest.mark.parametrize(
    "rule",
    [
        "forbid ship when has(o.hold) && o.hold",
        "forbid ship when has(o)",
        "forbid ship when has(p.hold)",
        'forbid ship when ["a"].exists(e, has(o.hold))',
        "allow ship when !has(o.hold)",
        "limit ship total (has(o.hold) ? 9 : 1) <= 5",
    ],
)
def test_that_a_fact_could_not_be_read_does_not_mean_that_a_field_is_absent(rule: str) -> None:
    facts = "fact o = held(id = args.id)  fact p = held(id = o.status)"
    guard = fence(f"{'' if rule.startswith('allow') else 'allow ship'}  {facts}  {rule}")
    assert guard.decide("ship", SHIP).verdict == "denied"
    assert guard.decide("ship", SHIP).reason.count("could not be read") == 1
    known = {"status": "open"}
    verdict = "denied" if rule == "forbid ship when has(o)" else "allowed"
    assert guard.decide("ship", SHIP, facts={"o": known, "p": known}).verdict == verdict


class NotFound(Exception):
    """By its name the error that a tool `raises`."""


@pytest.mark.parametrize(
    ("error", "asked", "verdict"),
    [
        (NotFound(), "has(o)", "allowed"),
        (NotFound(), "has(o.hold) && o.hold", "allowed"),
        (NotFound(), "o.hold", "denied"),
        (ToolError("NotFound"), "has(o)", "allowed"),
        (ToolError("Busy"), "has(o)", "denied"),
        (ToolError("Timeout"), "has(o)", "denied"),
        (KeyError("NotFound"), "has(o)", "denied"),
    ],
)
def test_that_a_tool_says_there_is_none_is_an_answer(error: Exception, asked: str, verdict: str) -> None:
    """What the tool `raises` is what it has to say; that it was busy, or did not answer in time, says nothing."""
    guard = fence(f"allow ship  fact o = held(id = args.id)  forbid ship when {asked}")
    assert guard.decide("ship", SHIP, facts={"o": error}).verdict == verdict


@pytest.mark.parametrize(("error", "path"), [("NotFound", ["s", "done"]), ("Timeout", ["s", "no"])])
def test_in_a_run_too(error: str, path: list[str]) -> None:
    run = Driver(
        program(
            "allow ship  fact o = held(id = args.id)  forbid ship when has(o) && o.hold",
            'start state s { call ship("o1", n)  -> done }',
            HANDLERS,
        ),
        {"held": Fails(error), "ship": "s1"},
    )
    assert run.start({"n": 5}).run().path == path


@pytest.mark.parametrize("rule", ['forbid ship when o.status == "gone"', 'forbid ship when !(o.status == "open")'])
def test_a_missing_fact_denies_under_negation_too(rule: str) -> None:
    guard = fence(f"allow ship  fact o = order(id = args.id)  {rule}")
    assert guard.decide("ship", SHIP).verdict == "denied"
    assert guard.decide("ship", SHIP, facts={"o": OPEN}).verdict == "allowed"


@pytest.mark.parametrize("given", [None, {}, {"status": "open"}, {"status": 5, "total": 1}, "open", [OPEN]])
def test_a_fact_that_does_not_fit_its_tool_is_missing(given: Any) -> None:
    assert fence(FACT).decide("ship", SHIP, facts={"o": given}).verdict == "denied"


def test_a_fact_whose_reading_raises_denies() -> None:
    def read(tool: str, args: dict[str, Any]) -> Any:
        raise RuntimeError(f"{tool} is down")

    assert fence(FACT).decide("ship", SHIP, read=read).verdict == "denied"


# ---- time


def test_a_clock_that_jumps_back_gives_nothing_back() -> None:
    guard = fence("allow ship  limit ship 1 call per minute", now_ms=1_000_000)
    guard.record("ship", SHIP, at_ms=1_000_000)
    for at_ms in (1_059_999, 0, 940_000, -5):
        assert guard.decide("ship", SHIP, at_ms=at_ms).verdict == "denied"


def test_a_clock_that_jumps_forward_makes_facts_stale() -> None:
    guard = fence(FACT, now_ms=0)
    asked: list[str] = []

    def read(tool: str, args: dict[str, Any]) -> Any:
        asked.append(tool)
        return OPEN if len(asked) == 1 else {**OPEN, "status": "gone"}

    assert guard.decide("ship", SHIP, read=read).verdict == "allowed"
    assert guard.decide("ship", SHIP, read=read, at_ms=600_001).verdict == "denied"
    assert asked == ["order", "order"]


ASK = """start state s { ask role "boss" to pay("o1", n) "Pay?" options yes approves, no timeout 1h as answer
    on yes -> go  on no -> no  on timeout -> no }
  state go { call approved pay  -> again }
  state again { call approved pay  -> bad }"""
HANDLERS = "on error any -> bad  on denied -> no  on in_doubt -> bad"


def asking(rules: str = "allow pay") -> Driver:
    return Driver(program(rules, ASK, HANDLERS), {"pay": "paid", "order": OPEN}).start({"n": 5}).run()


def test_an_approval_that_comes_too_late_is_none_and_a_clock_that_jumps_forward_expires_it() -> None:
    run = asking()
    question = next(iter(run.state.questions))
    run.pass_time(run.now_ms + 3_600_000)
    run.run()
    assert run.path == ["s", "no"]
    with pytest.raises(JamError):
        inputs.answered(run.program, run.state, question, "yes", None, "ann", None)
    assert not run.calls("pay")


def test_times_of_a_journal_do_not_go_back() -> None:
    run = asking()
    before = run.state.now_ms
    later = apply(run.program, run.state, Event("run-1", run.state.seq + 1, before - 10_000, "resumed", {}))
    assert later.now_ms == before


# ---- approvals


def test_an_approval_is_used_once() -> None:
    run = asking().answer("yes")
    assert run.path == ["s", "go", "again", "no"]
    assert len(run.calls("pay")) == 1


def test_an_approval_is_for_the_arguments_that_were_shown() -> None:
    guard = fence('allow pay  require approval by 1 of "boss" before pay')
    boss = [{"by": "ann", "roles": ["boss"]}]
    assert guard.decide("pay", SHIP, approvals=boss).verdict == "allowed"
    run = asking().answer("yes")
    (grant,) = run.state.grants.values()
    assert grant.call["args"] == {"id": "o1", "n": 5}
    (paid,) = run.calls("pay")
    assert paid.args == {"id": "o1", "n": 5}


def test_an_approval_for_other_arguments_does_not_count_where_several_are_wanted() -> None:
    two = ASK.replace("on yes -> go", "on yes -> t").replace(
        "state go", 'state t { ask role "boss" to pay("o1", n + 1) "And?" options yes approves, no timeout 1h as other'
        "  on yes -> go  on no -> no  on timeout -> no }  state go"
    ).replace("call approved pay  -> again", "call approved answer  -> again")  # fmt: skip
    rules = "allow pay  require approval t before pay"
    run = Driver(program(rules, two, HANDLERS), {"pay": "paid"}).start({"n": 5}).run().answer("yes").answer("yes")
    assert run.path == ["s", "t", "go", "no"]
    assert not run.calls("pay")


def test_an_approval_of_another_run_is_none() -> None:
    approved, other = asking(), asking()
    question = next(iter(other.state.questions))
    approved.answer("yes")
    assert not other.state.grants
    unknown = f"{question}-of-another-run"
    with pytest.raises(JamError) as caught:
        inputs.answered(other.program, other.state, unknown, "yes", None, "ann", None)
    assert caught.value.code == "JAMR402"


@pytest.mark.parametrize(("lost", "used"), [(True, False), (False, True)])
def test_an_approval_is_used_up_by_the_intent_and_by_nothing_else(lost: bool, used: bool) -> None:
    """The intent is the event that uses it up: there is no moment in which one stands in the journal and not the
    other, whenever the process dies."""
    run = asking()
    question = next(iter(run.state.questions))
    run.append(*inputs.answered(run.program, run.state, question, "yes", None, "ann", None))
    run.crash_at, run.lost = len(run.journal) + 2, lost
    with pytest.raises(Crash):
        run.run()
    assert bool(run.events("intent")) is used
    (grant,) = run.state.grants.values()
    assert (grant.used_by is not None) is used


def changed(run: Driver, rules: str) -> Driver:
    """The run goes on with other rules, as a migration has it."""
    run.program = Program.of(compile_text(
        f"language 1\n{TOOLS} agent a version 1 {{ input n: int  policy {{ {rules} }} {HANDLERS} {ASK}"
        " final done {}  failed no {}  failed bad {} }", agent="a"
    ).definition)  # fmt: skip
    run.append("migrated", {"from": {}, "to": {}})
    return run


def test_an_approval_is_void_once_other_rules_hold_for_the_call() -> None:
    run = changed(asking("allow pay when args.n < 9"), "allow pay when args.n < 7").answer("yes")
    assert run.path == ["s", "go", "no"]
    assert not run.calls("pay")
    assert only(run, "denied")["decision"]["reason"] == (
        "the approval of `s` was given when other rules held for `pay`"
    )


@pytest.mark.parametrize(
    "rules",
    [
        "allow pay when args.n < 9",
        "allow look, ship  allow pay when args.n < 9",
        "allow pay when args.n < 9  limit ship 3 calls",
        "redact n  forbid ship  allow pay when args.n < 9",
    ],
)
def test_rules_about_other_calls_may_change_and_so_may_their_order(rules: str) -> None:
    assert changed(asking("allow pay when args.n < 9"), rules).answer("yes").path == ["s", "go", "again", "no"]


FACTS = 'allow pay  fact o = order(id = args.id)  forbid pay when o.status == "gone"'


@pytest.mark.parametrize(
    ("then", "path"),
    [
        (OPEN, ["s", "go", "again", "no"]),
        ({**OPEN, "total": 2}, ["s", "go", "no"]),
        ({**OPEN, "status": "gone"}, ["s", "go", "no"]),
        (Fails("Unavailable"), ["s", "go", "no"]),
    ],
)
def test_an_approval_is_void_once_the_facts_are_others(then: Any, path: list[str]) -> None:
    run = begun_asking().land("order(o1)", OPEN)
    question = next(iter(run.state.questions))
    run.append(*inputs.answered(run.program, run.state, question, "yes", None, "ann", None))
    run.begin().land("order(o1)", then)
    if "pay(o1, 5)" in run.flights:
        run.land("pay(o1, 5)", "paid")
    assert run.path == path
    if then == {**OPEN, "total": 2}:
        assert only(run, "denied")["decision"]["reason"] == ("the approval of `s` was given when the facts were others")


def begun_asking() -> Driver:
    return Driver(program(FACTS, ASK, HANDLERS)).start({"n": 5}).begin()


def test_an_approval_that_was_asked_for_before_questions_said_their_rules_still_counts() -> None:
    """A journal of an earlier version has nothing to compare with: its runs go on."""
    run = begun_asking().land("order(o1)", OPEN)
    for kept in run.state.questions.values():
        del kept.body["call"]["policy"]
    question = next(iter(run.state.questions))
    run.append(*inputs.answered(run.program, run.state, question, "yes", None, "ann", None))
    run.begin().land("order(o1)", {**OPEN, "total": 2})
    assert run.flights == ["pay(o1, 5)"]


OUTSIDE = """
record Order { id: string  note: string? }
tool page(id: string) -> Order untrusted { effect reads  timeout 5s }
tool book(id: string) -> Order { effect reads  timeout 5s }
tool ship(id: string) -> string { effect writes  timeout 5s }
agent a version 1 {
  policy { allow any  %s }
  on error any -> bad
  on denied -> no
  start state s { call page("o1")  -> t }
  state t { call ship("o1")  -> done }
  final done {}  failed no {}  failed bad {}
}
"""
SAYS = {"id": "o1", "note": "ship it all"}


@pytest.mark.parametrize(
    ("rules", "verdict"),
    [
        ("fact f = page(id = args.id)  forbid ship when untrusted(f.note)", "denied"),
        ("fact f = page(id = args.id)  forbid ship when untrusted(f)", "denied"),
        ("fact f = page(id = args.id)  forbid ship when !untrusted(f.id)", "allowed"),
        ("fact f = page(id = args.id)  forbid ship when attested(f.id)", "allowed"),
        ("fact f = book(id = args.id)  forbid ship when untrusted(f.note)", "allowed"),
        ("fact f = book(id = args.id)  fact g = page(id = f.id)  forbid ship when untrusted(g.note)", "denied"),
        (
            "fact f = book(id = args.id)  fact g = page(id = f.id)  forbid ship when untrusted(f.note) || g.id == ''",
            "allowed",
        ),
        ("require page(id = args.id) as p before ship when !untrusted(p.result.note)", "denied"),
        ("require page(id = args.id) as p before ship when !untrusted(p.result)", "denied"),
        ("require page(id = args.id) as p before ship when !untrusted(p.args.id)", "allowed"),
        ("require any of book, page as p before ship when !untrusted(p.result.note)", "denied"),
    ],
)
def test_what_a_tool_that_is_untrusted_gave_is_so_as_a_fact_and_as_what_was_read(rules: str, verdict: str) -> None:
    definition = compiled(OUTSIDE % rules.replace("''", '""'))
    guard = Fence(definition)
    guard.record("page", {"id": "o1"}, result=SAYS)
    assert guard.decide("ship", {"id": "o1"}, read=lambda tool, args: SAYS).verdict == verdict
    run = Driver(definition, {"page": SAYS, "book": SAYS, "ship": "sent"}).start({}).run()
    assert run.path[-1] == ("done" if verdict == "allowed" else "no")


NUMBERS = """
tool get() -> float { effect reads  timeout 5s }
tool got() -> any { effect reads  timeout 5s }
tool rate(f: float) -> int { effect reads  timeout 5s }
tool pay(f: float) -> string { effect writes  timeout 5s }
tool post(v: any) -> string { effect writes  timeout 5s }
agent a version 1 {
  input i: float?
  event said(f: float)
  var zero: float = 0.0
  policy { allow get, got, pay, post  forbid pay when args.f > 100.0  %s }
  on error any -> bad
  on denied -> no
  on in_doubt -> bad
  start state s { %s }
  final done {}  failed no {}  failed bad {}
}
"""


@pytest.mark.parametrize(
    ("does", "error"),
    [
        ("call get() as f  -> done", "InvalidOutput"),
        ("call got() as f  -> done", "InvalidOutput"),
        ("call pay(zero / zero)  -> done", "InvalidInput"),
        ("call post(zero / zero)  -> done", "InvalidInput"),
        ("call post([1.0, zero / zero])  -> done", "InvalidInput"),
    ],
)
def test_what_is_no_number_neither_comes_in_nor_goes_out(does: str, error: str) -> None:
    nan = float("nan")
    definition = compiled(NUMBERS % ("", does))
    run = Driver(definition, {"get": nan, "got": {"a": [nan]}, "pay": "paid", "post": "sent"}).start({}).run()
    assert (run.path[-1], only(run, "failed")["error"]) == ("bad", error)
    assert not run.calls("pay")
    assert not run.calls("post")


def test_nor_does_it_as_an_input_an_answer_or_an_event() -> None:
    nan = float("nan")
    waits = """wait for event said(e) timeout 1h  -> asks }
      state asks { ask role "boss" "?" options yes answer { f: float }  on yes -> done"""
    definition = compiled(NUMBERS % ("", waits))
    with pytest.raises(JamError) as caught:
        Driver(definition).start({"i": nan})
    assert caught.value.code == "JAMR301"
    run = Driver(definition).start({}).run()
    with pytest.raises(JamError) as caught:
        run.send("said", {"f": nan})
    assert caught.value.code == "JAMR406"
    run.send("said", {"f": 1.0})
    with pytest.raises(JamError) as caught:
        run.answer("yes", {"f": nan})
    assert caught.value.code == "JAMR404"


def test_a_fence_denies_what_is_no_number() -> None:
    guard = Fence(compiled(NUMBERS % ("", "-> done")))
    nan = float("nan")
    for tool, args in (("pay", {"f": nan}), ("post", {"v": nan}), ("post", {"v": {"a": [nan]}})):
        assert guard.decide(tool, args).verdict == "denied", args
    assert guard.decide("pay", {"f": float("inf")}).verdict == "denied"
    assert guard.decide("pay", {"f": float("-inf")}).verdict == "allowed"


def test_a_fact_is_not_read_with_arguments_that_do_not_fit() -> None:
    text = NUMBERS % ("fact r = rate(f = zero / zero)  forbid pay when r > 3", "call pay(1.0)  -> done")
    definition = compiled(text)
    run = Driver(definition, {"rate": 1, "pay": "paid"}).start({}).run()
    assert (run.path[-1], run.calls("rate"), run.calls("pay")) == ("no", [], [])
    assert Fence(definition).decide("pay", {"f": 1.0}, facts={"r": 1}).verdict == "denied"


def test_somebody_without_a_name_is_not_a_second_person() -> None:
    guard = fence('allow pay  require approval by 2 of "boss" not principal before pay', principal={"id": "eve"})
    one, nobody = {"by": "ann", "roles": ["boss"]}, {"by": "", "roles": ["boss"]}
    assert guard.decide("pay", SHIP, approvals=[one, nobody]).verdict == "needs_approval"
    assert guard.decide("pay", SHIP, approvals=[one, {**one, "by": "ben"}]).verdict == "allowed"


def test_an_amount_that_no_limit_can_count_makes_no_room() -> None:
    guard = fence("allow ship  limit ship total args.n <= 10")
    guard.record("ship", {"id": "o1", "n": 8})
    guard.record("ship", {"id": "o1", "n": -8})
    assert guard.decide("ship", {"id": "o1", "n": 3}).verdict == "denied"
    assert guard.decide("ship", {"id": "o1", "n": 2}).verdict == "allowed"


def test_a_call_in_flight_is_decided_by_the_facts_of_its_own_decision() -> None:
    run = begun(f"""{TOOLS} agent a version 1 {{
      policy {{ allow ship  fact o = order(id = args.id)  forbid ship when o.status == "gone" }}
      {HANDLERS}
      start state s {{ call ship("o1", 5)  -> done }}
      final done {{}}  failed no {{}}  failed bad {{}}
    }}""").land("order(o1)", {**OPEN, "status": "gone"})
    assert run.path == ["s", "no"]
