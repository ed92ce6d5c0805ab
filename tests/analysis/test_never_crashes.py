"""Whatever a file holds, the compiler answers with findings or with a definition."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from jamjet_dsl import compiler
from tests.analysis.helpers import DESIGN, agent

_TOKEN = re.compile(r'\s+|//[^\n]*|"[^"\n]*"|\w+|[^\w\s]')
_OWN = (
    "record Order { id: string  total: money  note: string?  tags: list<string> 0..9 }\nenum Kind { big  small }\n"
    "const most: int = 3\nfn fee(m: money) -> money = m * 0.02\n"
    "tool get(id: string) -> Order { effect reads  raises NotFound  cost $0.10  retry any most times backoff 1s x 2 }\n"
    "tool pay(id: string, amount: money) -> string { effect irreversible  "
    "key run.id  confirm was(id)  undo back(result) }\n"
    "tool was(id: string) -> string? { effect reads }\ntool back(id: string) { effect writes }\n"
) + agent(
    "input id: string, kind: Kind?\noutput text: string\nvar all: list<string> = []\nvar chat: conversation = []\n"
    "event said(text: string)\nemits told(text: string)\n"
    "budget { steps 20  cost $5  reserve { steps 2 }  exceeded -> gone }\n"
    "policy { fact o = get(id = args.id) within 5m for pay\nallow get, was, back, pay\n"
    "require approval sure before pay when args.amount > $1\nforbid pay when o.total > $100 || attempted(pay) > 2\n"
    "limit get 9 calls per args.id per day\nredact id }\n"
    "on error any -> gone\non cancel -> gone\nfinally { call back(id) }\n"
    "start state first { call get(id) as order\nset all = all + order.tags\non error NotFound -> gone\n"
    "when has(order.note) && order.note.size() > 3 -> sure\n"
    "when kind == big || order.total >= $50 -> sure\notherwise -> many }\n"
    'state sure { ask role "r" to pay(id, order.total) "Pay {order.total}?" show order, kind?\n'
    "options yes approves, no answer { why: string? } timeout 1h as answer\n"
    "on yes -> done_it\non no -> gone\non timeout -> first limit 2 else gone { set all = [] } }\n"
    "state done_it { call approved pay as receipt\non in_doubt -> gone\non denied -> gone\n-> told }\n"
    "state told { emit told(receipt)\n-> done }\n"
    "state many { each t in order.tags, 2 at once { call get(t) as one\non error any skip\nyields one.id } as ids\n"
    "when ids.exists(x, x == id) -> both\notherwise -> gone }\n"
    'parallel both { branch a as said_a or "none" { wait for event said(m) timeout 1h\n'
    "on timeout skip\nyields m.text }\n"
    'branch b as thought { think "Read {id}." given order, n = fee(order.total) model m max prompt 1k max tokens 1k }\n'
    "join 1 of 2 within 5m\non join -> done\non error any -> gone }\n"
    "final done { text = said_a }\nfailed gone { text = string(size(all)) }"
)


def programs() -> dict[str, str]:
    found = {path.name: path.read_text("utf-8") for path in sorted(DESIGN.glob("*.jam"))}
    return found | {"own.jam": _OWN}


PROGRAMS = programs()
WORDS = sorted({t for text in PROGRAMS.values() for t in _TOKEN.findall(text) if t.strip()})


def test_the_program_of_this_test_is_accepted_by_names_and_types() -> None:
    found = [d for d in compiler.check_text(_OWN) if d.severity == "error" and d.code[:4] in ("JAM0", "JAM1", "JAM4")]
    assert [f"{d.code} {d.span.line} {d.message}" for d in found if d.code not in ("JAM405", "JAM414")] == []


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(sorted(PROGRAMS)), st.data())
def test_a_program_with_some_words_changed_is_checked_or_compiled(name: str, data: st.DataObject) -> None:
    tokens = _TOKEN.findall(PROGRAMS[name])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(tokens) - 1))
        match data.draw(st.integers(0, 3)):
            case 0:
                tokens[at] = " "
            case 1:
                tokens[at] = data.draw(st.sampled_from(WORDS))
            case 2:
                tokens.insert(at, f" {data.draw(st.sampled_from(WORDS))} ")
            case _:
                other = data.draw(st.integers(0, len(tokens) - 1))
                tokens[at], tokens[other] = tokens[other], tokens[at]
    result = compiler.analyse_text("".join(tokens), name, files=PROGRAMS)
    for finding in result.diagnostics:
        assert finding.message[0] not in " ."
        assert 0 <= finding.span.start <= finding.span.end <= len(finding.span.source.text)
    if not result.has_errors:
        for info in result.analysis.main_agents():
            made = compiler.compile_text("".join(tokens), name, info.name, files=PROGRAMS)
            assert len(made.definition.digest) == 64


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=400))
def test_any_text_is_answered(text: str) -> None:
    compiler.check_text(text)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_a_text_or_a_reason(data: bytes) -> None:
    found = compiler.decode(data)
    assert found == data.decode("utf-8-sig") if isinstance(found, str) else found.code in ("JAMR002", "JAMR003")
