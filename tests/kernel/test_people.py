"""Who is the same person: names that people read alike are one, wherever it matters that they are two."""

from __future__ import annotations

import pytest

from jamjet_dsl.definition import Definition
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel import inputs
from jamjet_dsl.kernel.people import one_name
from jamjet_dsl.kernel.policy import Fence
from tests.kernel.driver import Driver
from tests.kernel.source import compiled

ALIKE = ["Ann", "ann ", " ANN", "\u00a0ann", "ａｎｎ", "a\u200bnn", "\ufeffann", "ann\n"]


def program(rules: str) -> Definition:
    return compiled(f"""
tool pay(n: int) -> string {{ effect writes  timeout 5s }}
agent a version 1 {{
  policy {{ allow pay  {rules} }}
  on error any -> bad
  on denied -> no
  on in_doubt -> bad
  start state s {{ ask role "boss" to pay(5) "Pay?" options yes approves, no  on yes -> go  on no -> no }}
  state go {{ call approved pay  -> done }}
  final done {{}}  failed no {{}}  failed bad {{}}
}}""")


TWO = 'require approval by 2 of "boss" before pay'
OTHER = 'require approval by 1 of "boss" not principal before pay'


@pytest.mark.parametrize("name", ALIKE)
def test_names_that_look_alike_are_one(name: str) -> None:
    assert one_name(name) == one_name("ann") == "ann"


@pytest.mark.parametrize(("one", "other"), [("ann", "anna"), ("ann lee", "annlee"), ("Ann", "Änn"), ("a.b", "a-b")])
def test_names_that_differ_are_not(one: str, other: str) -> None:
    assert one_name(one) != one_name(other)


def test_words_may_stand_further_apart_and_letters_may_be_written_otherwise() -> None:
    assert one_name("Ann  Lee") == one_name("ann lee")
    assert one_name("Strauß") == one_name("STRAUSS")
    assert one_name("Zoe\u0308") == one_name("Zoë")


@pytest.mark.parametrize("name", ALIKE)
def test_nobody_approves_twice_by_writing_the_name_otherwise(name: str) -> None:
    run = Driver(program(TWO)).start({}).run().answer("yes", by="ann")
    with pytest.raises(JamError) as caught:
        run.answer("yes", by=name)
    assert caught.value.code == "JAMR409"
    given = [{"by": by, "roles": ["boss"]} for by in ("ann", name)]
    assert Fence(program(TWO)).decide("pay", {"n": 5}, approvals=given).verdict == "needs_approval"
    given[1]["by"] = "bob"
    assert Fence(program(TWO)).decide("pay", {"n": 5}, approvals=given).verdict == "allowed"


@pytest.mark.parametrize("name", ALIKE)
def test_whoever_started_a_run_is_not_another_person_by_another_spelling(name: str) -> None:
    run = Driver(program(OTHER), {"pay": "paid"}).start({}, {"id": name, "roles": []}).run()
    with pytest.raises(JamError) as caught:
        run.answer("yes", by="ann")
    assert caught.value.code == "JAMR409"
    assert run.answer("yes", by="bob").path[-1] == "done"
    guard = Fence(program(OTHER), principal={"id": name})
    assert guard.decide("pay", {"n": 5}, approvals=[{"by": "ann", "roles": ["boss"]}]).verdict == "needs_approval"
    assert guard.decide("pay", {"n": 5}, approvals=[{"by": "bob", "roles": ["boss"]}]).verdict == "allowed"


@pytest.mark.parametrize("name", ["", " ", "\u200b", "\n\t"])
def test_a_name_of_which_nothing_can_be_seen_is_none(name: str) -> None:
    run = Driver(program(OTHER)).start({}, {"id": "ann", "roles": []}).run()
    with pytest.raises(JamError):
        run.answer("yes", by=name)


def test_an_answer_says_whether_the_role_was_checked() -> None:
    run = Driver(program(""), {"pay": "paid"}).start({}).run()
    question = next(iter(run.state.questions))
    for roles, checked in ((None, False), (["boss"], True)):
        _, body = inputs.answered(run.program, run.state, question, "yes", None, "ann", roles)
        assert (body["checked"], body["roles"]) == (checked, ["boss"])
