"""JAM411: every way on which a secret could leave what is declared secret is refused, and no other."""

from __future__ import annotations

import pytest

from jamjet_dsl import compile_text
from jamjet_dsl.diagnostics.errors import JamError

PROGRAM = """
tool open_(x: string) -> string {{ effect reads }}
tool sealed(x: secret string) -> secret string {{ effect reads }}
tool write(x: secret string, id: string) -> string {{ effect writes  key run.id  {tool} }}
tool worth(n: secret int, id: string) -> string {{ effect writes  key run.id }}
fn shout(s: string) -> string = s + "!"
fn is_long(s: string) -> bool = size(s) > 9
fn ours(p: P) -> {result} = p.key
record P {{ name: string  key: secret string }}
model m {{ via openai "x" }}
agent a {{
  input p: P
  input raw: secret string
  output o: string?
  output kept: secret string?
  var v: string = ""
  var ok: bool = false
  var w: secret string = ""
  var talk: conversation
  budget {{ steps 9  tokens 10k  exceeded -> over }}
  policy {{ allow any  {rule} }}
  on error any -> over
  start state s {{ {state}  -> done }}
  final done {{ {final} }}
  failed over {{ }}
}}
"""

LEAKS = {
    "confirm": {"tool": "confirm open_(x)"},
    "undo": {"tool": "undo open_(x = x)"},
    "a read that a rule wants": {"rule": "require open_(x = args.x) before write"},
    "what all runs of a principal add up": {"rule": "limit worth total args.n <= 5 per principal"},
    "what a function gives": {"state": "call open_(shout(raw)) as r"},
    "a variable, through a function": {"state": "set v = shout(raw)"},
    "a function that takes it out of a record": {"result": "string"},
    "a variable": {"state": "set v = raw"},
    "a field of a record": {"state": "set v = p.key + p.name"},
    "an output": {"final": "o = raw"},
    "an item": {"state": "each c in [raw] { call open_(c) as z  yields z }"},
    "a prompt": {"state": 'think "Say {raw}." model m max prompt 1k max tokens 9 as t: string'},
    "what a person is shown": {"state": 'ask role "x" "Sure?" show p options yes timeout 1h as b  on yes -> over'},
    "a conversation": {
        "state": 'think "Do." in talk tools sealed model m max prompt 1k max tokens 9 as move'
    },
}  # fmt: skip
FINE = {
    "as it is declared": {"state": "call sealed(raw) as r  set w = r + p.key", "final": "kept = w"},
    "what one run adds up": {"rule": "limit worth total args.n <= 5"},
    "what runs of a principal are counted for": {"rule": "limit worth 5 calls per args.n per principal"},
    "a truth value": {"state": 'set ok = raw == "x" || is_long(raw)'},
    "a call that the tool declares": {"tool": "undo write(x = x, id = id)"},
    "a fact": {"rule": "fact f = sealed(x = args.x) within 10m for write"},
    "the open part of a record": {"state": "set v = shout(p.name)"},
}


def compiled(parts: dict[str, str]) -> None:
    given = {"tool": "", "rule": "", "state": "wait 1m", "final": "o = v", "result": "secret string"}
    compile_text(PROGRAM.format(**{**given, **parts}))


@pytest.mark.parametrize("way", LEAKS)
def test_a_leak_is_refused(way: str) -> None:
    with pytest.raises(JamError) as refused:
        compiled(LEAKS[way])
    assert all("JAM411" in detail for detail in refused.value.details), refused.value


@pytest.mark.parametrize("way", FINE)
def test_what_is_declared_is_not(way: str) -> None:
    compiled(FINE[way])
