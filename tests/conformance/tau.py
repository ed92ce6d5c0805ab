"""Replays the tool calls of tau-retail under the policy of `examples/retail_support`.

    python -m tests.conformance.tau [FOLDER]

The folder holds `tau_gt.jsonl` (ground truth; `flags` marks calls that break a rule), `tau_mutants.jsonl` (each breaks
`must_violate`) and `tau_real.jsonl` (runs of models, flagged too). A call is *stopped* if it is denied, or needs an
approval that it does not have. Exits with 1 if a call of the ground truth is stopped that is not flagged or is not
stopped though it is, or if a mutant is not stopped by the rule it breaks. What differs in the real runs is told.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from jamjet_dsl.compiler import compile_file
from jamjet_dsl.definition import Compiled
from jamjet_dsl.evaluate.traces import Decided, Judge

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "examples" / "retail_support" / "retail_support.jam"
FILES = ("tau_gt.jsonl", "tau_mutants.jsonl", "tau_real.jsonl")
OUT_OF_REACH = "G4"
"""The rule about the text around a call, which is no part of a call and of no policy of calls."""

Trace = dict[str, Any]


def default_folder() -> Path:
    """The data that the project is measured with."""
    return Path(os.environ.get("JAM_SHARED_DATA") or ROOT.parent / "shared" / "data") / "tau-retail"


def traces(path: Path) -> Iterator[Trace]:
    """The traces of a file, with exact numbers."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line, parse_float=Decimal)


class Shop:
    """The policy, and what number the shop gives to each of its rules."""

    def __init__(self, compiled: Compiled) -> None:
        self.compiled = compiled
        self.tags: dict[str, str] = {}
        for name, text in compiled.sources.items():
            tag = ""
            for number, line in enumerate(text.splitlines(), 1):
                found = re.search(r"//.*\[([GR]\d+)\]", line)
                tag = found.group(1) if found else tag
                self.tags[f"{name}:{number}"] = tag

    def rules(self, decided: Decided) -> set[str]:
        """The shop's rules that stopped a call; `call` for one that was no valid call."""
        return {self.tags[place] for place in decided.rules} or {"call"}

    def decisions(self, trace: Trace) -> tuple[Decided, ...]:
        """What the policy says of every call of a trace."""
        return Judge(self.compiled, now_ms=0).judge(trace, "").decisions


@dataclass
class Tally:
    """What came of one file. `stopped`, `flagged` and `both` count calls by rule; `unknown` are calls that were stopped
    because the file does not say a fact that a rule asks for; `words` are disagreements."""

    traces: int = 0
    calls: int = 0
    unflagged: int = 0
    unstopped: int = 0
    unknown: int = 0
    stopped: Counter[str] = field(default_factory=Counter)
    flagged: Counter[str] = field(default_factory=Counter)
    both: Counter[str] = field(default_factory=Counter)
    words: list[str] = field(default_factory=list)


def compare(shop: Shop, found: Iterator[Trace]) -> Tally:
    """Decides traces whose `flags` name the calls that break a rule, and compares."""
    tally = Tally()
    for trace in found:
        flags = {call: {rule.split(".")[0] for rule in rules} for call, rules, _ in trace["flags"]}
        tally.traces += 1
        for decided in shop.decisions(trace):
            tally.calls += 1
            ours = shop.rules(decided) if decided.decision != "allowed" else set()
            theirs = flags.get(decided.call, set()) - {OUT_OF_REACH}
            tally.stopped.update(ours)
            tally.flagged.update(theirs)
            tally.both.update(ours & theirs)
            if ours and not theirs and decided.reason.endswith("could not be read"):
                tally.unknown += 1
            else:
                tally.unflagged += bool(ours and not theirs)
            tally.unstopped += bool(theirs and not ours)
            if ours != theirs:
                tally.words.append(
                    f"{trace['id']} call {decided.call} {decided.tool}: stopped by {_listed(ours)}, "
                    f"flagged {_listed(theirs)}: {decided.reason}"
                )
    return tally


@dataclass
class Mutants:
    """What came of the mutants: how many were stopped, by whichever rule and by the one they break."""

    total: int = 0
    stopped: int = 0
    by_its_rule: Counter[str] = field(default_factory=Counter)
    of_rule: Counter[str] = field(default_factory=Counter)
    refused_by_tools: int = 0
    words: list[str] = field(default_factory=list)


def mutants(shop: Shop, found: Iterator[Trace]) -> Mutants:
    """Decides traces that each break one rule."""
    tally = Mutants()
    for trace in found:
        broken = trace["must_violate"]
        stopping = [shop.rules(d) for d in shop.decisions(trace) if d.decision != "allowed"]
        tally.total += 1
        tally.of_rule[broken] += 1
        tally.stopped += bool(stopping)
        tally.refused_by_tools += bool(trace["tool_would_reject"])
        if any(broken in rules for rules in stopping):
            tally.by_its_rule[broken] += 1
        else:
            tally.words.append(f"{trace['id']}: breaks {broken}, stopped by {_listed(set().union(*stopping))}")
    return tally


def completed(found: Iterator[Trace], owners: Mapping[str, Any]) -> Iterator[Trace]:
    """Real runs with what the data leaves out of them: the texts of `think`, the answers of the searches for the
    customer (which are the run's `user`), and whose the orders are that were read, where any of the files tells."""
    for trace in found:
        for call in trace["calls"]:
            if call["t"] == "think":
                call["a"].setdefault("thought", "")
            elif call["t"].startswith("find_user_id_by_") and call["ok"]:
                call.setdefault("out", trace["user"])
            elif call["t"] == "get_order_details" and call["a"].get("order_id") in owners:
                call.setdefault("facts", {"order": owners[call["a"]["order_id"]]})
        yield trace


def owners_in(folder: Path) -> dict[str, Any]:
    """What is the same of an order at any time, from every record of it in the files."""
    found: dict[str, Any] = {}
    for name in FILES:
        for trace in traces(folder / name):
            for call in trace["calls"]:
                order = call.get("facts", {}).get("order")
                if order is not None:
                    found[order["order_id"]] = {k: order[k] for k in ("order_id", "user_id", "status")}
    return found


def _listed(rules: set[str]) -> str:
    return ", ".join(sorted(rules, key=_order)) or "none"


def _order(rule: str) -> tuple[str, int]:
    return rule[:1], int(rule[1:]) if rule[1:].isdecimal() else 0


def _tell(name: str, tally: Tally) -> None:
    right = sum(tally.both.values())
    print(
        f"{name}: {tally.traces} sequences, {tally.calls} calls; {tally.unflagged} stopped that are not flagged, "
        f"{tally.unknown} for want of a fact, {tally.unstopped} flagged that are not stopped; "
        f"{right} of {sum(tally.flagged.values())} flags by their rule"
    )
    print(f"  {'rule':6}{'stopped':>9}{'flagged':>9}{'both':>9}")
    for rule in sorted(tally.stopped | tally.flagged, key=_order):
        print(f"  {rule:6}{tally.stopped[rule]:9}{tally.flagged[rule]:9}{tally.both[rule]:9}")
    for line in tally.words:
        print(f"  {line}")


def main(arguments: list[str]) -> int:
    """Replays a folder and prints what came of it. Returns the exit code."""
    folder = Path(arguments[0]) if arguments else default_folder()
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        print(f"no such file: {folder / missing[0]}; name the folder of tau-retail, or set JAM_SHARED_DATA")
        return 2
    shop = Shop(compile_file(PROGRAM))
    truth = compare(shop, traces(folder / "tau_gt.jsonl"))
    _tell("ground truth", truth)
    broken = mutants(shop, traces(folder / "tau_mutants.jsonl"))
    right = sum(broken.by_its_rule.values())
    print(
        f"mutants: {broken.stopped} of {broken.total} stopped, {right} by the rule they break; the tools alone refuse "
        f"{broken.refused_by_tools}"
    )
    for rule in sorted(broken.of_rule, key=_order):
        print(f"  {rule:6}{broken.by_its_rule[rule]:9} of {broken.of_rule[rule]}")
    for line in broken.words:
        print(f"  {line}")
    real = compare(shop, completed(traces(folder / "tau_real.jsonl"), owners_in(folder)))
    _tell("real runs", real)
    return 1 if truth.unflagged or truth.unknown or truth.unstopped or right < broken.total else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
