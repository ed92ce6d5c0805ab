"""How a record of the audit trail is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from jamjet_dsl.cli.words import plain, when

Record = Mapping[str, Any]


def told(record: Record) -> list[str]:
    """Some lines about one record: what happened, who, by which rules, from what facts, at what cost."""
    head = f"{record['seq']:>5}  {when(record['at_ms'])}  {click.style(record['event'], bold=True)}  {_what(record)}"
    return [head.rstrip(), *(f"       {line}" for line in _lines(record))]


def _what(record: Record) -> str:
    if "tool" in record:
        args = ", ".join(f"{name}: {plain(value)}" for name, value in (record.get("args") or {}).items())
        effect = f"  {record['effect']}" if record.get("effect") else ""
        return f"{plain(record['tool'])}({args}){effect}  {record.get('cmd', '')}"
    if "model" in record:
        return f"model {plain(record['model'] or 'default')}  {record.get('cmd', '')}"
    return plain(str(record.get("cmd") or record.get("question") or record.get("status") or ""))


def _lines(record: Record) -> Iterator[str]:
    yield _who(record)
    yield from _outcome(record)
    if "decision" in record:
        yield from _decision(record["decision"])
    for name, fact in record.get("facts", {}).items():
        value = fact["result"] if "result" in fact else fact.get("error", "not known any more")
        by = f"  (event {fact['seq']})" if fact.get("seq") else ""
        yield f"fact {name}({_args(fact['args'])}) = {plain(value)}{by}"
    for home, account in record.get("budget", {}).items():
        if line := _budget(account):
            yield line if home == "run" else f"{plain(home)}: {line}"
    if record.get("derived"):
        yield f"derived, in no event of its own: {', '.join(record['derived'])}"
    yield click.style(f"hash {record['hash'][:16]}, after {record['prev_hash'][:16]}", dim=True)


def _who(record: Record) -> str:
    who = f"for {plain(record['principal'].get('id') or 'nobody named')}"
    if record.get("by"):
        who += f", by {plain(record['by'])}"
    if record["event"] == "answered":
        who += f" ({', '.join(map(plain, record.get('roles') or ()))}: {_CHECKED[record.get('checked')]})"
    for grant in record.get("approvals", ()):
        people = " and ".join(_person(one) for one in grant["by"])
        who += f", approved by {people} (events {', '.join(map(str, grant['seqs']))})"
    place = f", {record['agent']}" + (f" in {plain(record['from'])}" if record["from"] else "")
    return who + place + (f" -> {plain(record['to'])}" if record["to"] else "")


_CHECKED = {True: "checked", False: "taken at their word", None: "whether that was checked is not recorded"}
"""Of the role that somebody answers in."""


def _person(one: Record) -> str:
    roles = ", ".join(one.get("roles") or ())
    return plain(one["by"] or "somebody") + (f" ({plain(roles)})" if roles else "")


def _outcome(record: Record) -> Iterator[str]:
    if "error" in record:
        yield f"{plain(record['error'])}: {plain(record.get('message', ''))}" + (
            "" if record.get("definite", True) else "  (it may have happened)"
        )
    elif "result" in record:
        yield f"gave {plain(record['result'])}"
    for name in ("option", "happened", "reason", "why", "how", "note", "payload", "output"):
        if record.get(name) is not None:
            yield f"{name} {plain(record[name])}"


def _decision(decision: Record, who: str = "") -> Iterator[str]:
    shadow = "" if decision.get("enforced", True) else " (shadow: it does not hold)"
    yield f"{who}{decision['result']}{shadow}: {plain(decision['reason'])}"
    for rule in decision["rules"]:
        yield f"  {rule.get('place', 'rule ' + str(rule['rule']))}  {plain(rule.get('text', ''))}"
    for used in decision.get("used", ()):
        total = f", total {plain(used['total'])}" if used["total"] != "0" else ""
        calls = f"{used['calls']} call{'' if used['calls'] == 1 else 's'}{total}"
        yield f"  {used.get('place', 'rule ' + str(used['rule']))}  all runs of the principal had used {calls} before"
    for outer in decision.get("outer", ()):
        yield from _decision(outer, f"{outer['agent']}: ")


def _args(args: Record) -> str:
    return ", ".join(f"{name}: {plain(value)}" for name, value in args.items())


def _budget(account: Record) -> str:
    """What was used and held before and after, where something of it changed."""
    before, after, limits = account["before"] or {}, account["after"], account["limits"]
    parts = []
    for name in ("steps", "tokens", "cost", "held_tokens", "held_cost"):
        if before.get(name) != after[name]:
            limit = f" of {limits[name]}" if name in limits else ""
            parts.append(f"{name.replace('_', ' ')} {before.get(name, 0)} -> {after[name]}{limit}")
    return "budget " + ", ".join(parts) if parts else ""
