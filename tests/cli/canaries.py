"""A program with a canary in every place that a secret or redacted value can be, and the search for their traces."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator
from pathlib import Path

PROGRAM = """
record Said { words: string }
record Person { name: string  ssn: secret string }
tool look(ssn: secret string) -> secret string { effect reads  cost $0.01  via python "tools:look" }
tool note(text: secret string) -> string { effect writes  key "note-" + text  via python "tools:note" }
tool raise_(text: secret string) -> string { effect reads  via python "tools:raise_" }
tool doubt(text: secret string) -> string { effect writes  via python "tools:doubt" }
tool pay(text: secret string, amount: money) -> string { effect irreversible  key run.id  via python "tools:pay" }
model small { via openai "x" }

agent clerk version 1 {
  input p: Person
  input raw: secret string
  input many: list<secret string> 0..5
  input plain: string
  output sealed: secret string?
  output n: int
  var v: secret string = ""
  event doc(body: secret string, mail: string)
  budget { steps 200  tokens 90k  cost $5  exceeded -> over }
  policy { allow look, note, raise_, doubt, pay  redact plain  redact said.words  redact doc_in.mail
    fact known = look(ssn = args.text) within 10m for pay
    forbid pay when known == "" }
  on error any -> over
  start state get { call look(p.ssn) as r  set v = r + p.ssn  -> tell }
  state tell {
    think "Say hello to {plain}." given plain model small max prompt 1k max tokens 9 as said: Said
    -> noted }
  state noted { call note(v) as noted_as  on in_doubt -> over  -> breaks }
  state breaks { call raise_(raw) as never  on error any -> kid  -> kid }
  state kid { run child(s = raw) as k  -> loop }
  state loop { each m in many, 2 at once { call look(m) as z  yields z } as zs  -> both }
  parallel both {
    branch one as got { call look(raw) as w  yields w }
    branch two as other { call look(v) as u  yields u }
    join all  on join -> asks  on error any -> over }
  state asks {
    ask role "clerk" to pay(raw, $1.00) "File {plain}?" show plain options yes approves
      answer { pin: secret string } timeout 48h as a
    on yes -> pays  on timeout -> over }
  state pays { call approved a as paid  on in_doubt -> over  on denied -> over  -> waits }
  state waits { wait for event doc(doc_in)  -> doubts }
  state doubts { call doubt(doc_in.body) as sure  -> done }
  final done { sealed = v + a.pin  n = 1 }
  failed over { n = 0 }
}

agent child {
  input s: secret string
  output t: secret string
  var kept: secret string = ""
  budget { steps 9  exceeded -> over }
  policy { allow look }
  start state a { call look(s) as r  set kept = r + s  on error any -> over  -> done }
  final done { t = kept }
  failed over { t = s }
}
"""

TESTED = """
tool look(ssn: secret string) -> secret string { effect reads }
agent small {
  input ssn: secret string
  output found: secret string?
  budget { steps 9  exceeded -> over }
  policy { allow look }
  start state a { call look(ssn) as r  on error any -> over  -> done }
  final done { found = r }
  failed over { found = ssn }
}
test "a test that fails" for small {
  input ssn = "PLACE-INPUT"
  mock look returns "PLACE-RESULT"
  expect outputs.found == "PLACE-" + "OTHER" || ssn == "X" + ssn
}
"""

TOOLS = """
import json, os
canaries = json.load(open(os.environ["CANARIES"]))

def look(ssn): return canaries["result"] + ssn[:3]
def note(text): return "noted " + text
def raise_(text): raise ValueError(f"no such person: {text!r}, {canaries['raw']}, {json.dumps(text)}")
def doubt(text): raise ValueError("half done: " + text)
def pay(text, amount): return "paid for " + text
"""

PLACES = ("ssn", "raw", "item0", "item1", "plain", "result", "words", "pin", "body", "mail", "settled")


def canaries() -> dict[str, str]:
    """A value for every place, which no other text holds; each needs quoting in JSON, and is not ASCII."""
    return {place: f'{secrets.token_hex(6)}"ü{secrets.token_hex(6)}' for place in PLACES}


def traces(value: str, data: bytes) -> Iterator[str]:
    """The forms in which a value stands in data."""
    raw = value.encode()
    ends = [part.encode() for part in value.split('"ü')]
    forms = {
        "itself": raw,
        "the part before the quote": ends[0],
        "the part after it": ends[1],
        "JSON": json.dumps(value)[1:-1].encode(),
        "hexadecimal": raw.hex().encode(),
        "HEX": raw.hex().upper().encode(),
        "UTF-16": value.encode("utf-16-le"),
    }
    for shift in range(3):
        # Wherever it begins in what was encoded; what depends on its neighbours is cut off.
        forms[f"base64 at {shift}"] = base64.b64encode(bytes(shift) + raw)[4:-4]
    yield from (name for name, form in forms.items() if form in data)


def found_in(known: dict[str, str], files: dict[str, bytes]) -> list[str]:
    """Every trace of every canary, as `PLACE in FILE as FORM`."""
    return [
        f"{place} in {name} as {form}"
        for name, data in files.items()
        for place, value in known.items()
        for form in traces(value, data)
    ]


def all_files(folder: Path) -> dict[str, bytes]:
    """Everything in a folder, by name: a database with its log and journals too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
