"""What a step of an exploration, or a transition of a run, means to a property."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import NamedTuple

from jamjet_dsl.kernel.ids import frame_of
from jamjet_dsl.kernel.model import Call, Frame, RunState, Think
from jamjet_dsl.ports import Draft


class Label(NamedTuple):
    """`kind`: enter (a state of `agent` at `place`), call (tool `place`), answer (`place` and `how`, the option),
    deny (tool `place`, for the reason `how`), doubt, exceed, end (`place` the final, `how` the status), park (`how` the
    reason)."""

    kind: str
    place: str = ""
    how: str = ""
    agent: str = ""


def labels_of(
    before: RunState | None, events: Iterable[Draft], begun: Iterable[Call | Think], main: str
) -> tuple[Label, ...]:
    """The labels of some events that follow `before`, and of the calls that begin with them. A further attempt at a
    call is none."""
    frames: Mapping[str, Frame] = {} if before is None else before.frames
    regions = {path: (frame.region, _agent(frames, path, main)) for path, frame in frames.items()}
    found: list[Label] = []
    journaled: set[str] = set()
    for event in events:
        body, kind = event.body, event.kind
        match kind:
            case "moved":
                region, agent = regions.get(str(body["frame"]), ("", main))
                found.append(Label("enter", _place(region, str(body["to"])), str(body["edge"]), agent))
            case "begun":
                around = frame_of(str(body["cmd"]))
                agent = str(body.get("agent") or regions.get(around, ("", main))[1])
                regions[str(body["frame"])] = str(body.get("region", "")), agent
                found.append(Label("enter", _place(str(body.get("region", "")), str(body["state"])), "", agent))
            case "intent" if "tool" in body and body.get("does", "action") == "action":
                journaled.add(str(body["cmd"]))
                found += _called(str(body["tool"]), str(body["cmd"]))
            case "answered" if before is not None and body["question"] in before.questions:
                asked = before.questions[str(body["question"])]
                region, agent = regions.get(asked.frame, ("", main))
                place = _place(region, frames[asked.frame].state)
                found.append(Label("answer", place, str(body["option"]), agent))
            case "denied":
                found.append(Label("deny", str(body["tool"]), str(body["decision"].get("reason", ""))))
            case "in_doubt" | "exceeded":
                found.append(Label("doubt" if kind == "in_doubt" else "exceed"))
            case "parked":
                found.append(Label("park", str(body.get("state", "")), str(body["reason"])))
            case "finished":
                found.append(Label("end", str(body.get("state", "")), str(body["status"])))
    for command in begun:
        if isinstance(command, Call) and command.does == "action" and command.id not in journaled:
            found += _called(command.tool, command.id)
    return _ordered(found)


def _ordered(labels: list[Label]) -> tuple[Label, ...]:
    """Labels with calls that begin together in one order: which is first depends on what is journaled of them."""
    found: list[Label] = []
    for kind, run in groupby(labels, key=lambda label: label.kind):
        group = list(run)
        found += sorted(group) if kind == "call" else group
    return tuple(found)


def moves_of(before: RunState | None, events: Iterable[Draft]) -> tuple[tuple[str, str, str], ...]:
    """The transitions of the main agent's own states that events which follow `before` hold: from, edge, to."""
    frames: Mapping[str, Frame] = {} if before is None else before.frames
    regions = {"": "", **{path: frame.region for path, frame in frames.items() if not frame.home}}
    found = []
    for event in events:
        body = event.body
        if event.kind == "begun" and "agent" not in body and frame_of(str(body["cmd"])) in regions:
            regions[str(body["frame"])] = str(body.get("region", ""))
        if event.kind == "moved" and body["frame"] in regions:
            region = regions[str(body["frame"])]
            found.append((_place(region, str(body["state"])), str(body["edge"]), _place(region, str(body["to"]))))
    return tuple(found)


def _called(tool: str, cmd: str) -> list[Label]:
    return [Label("call", tool)] if cmd.rpartition(".")[2] == "1" else []


def _place(region: str, state: str) -> str:
    return f"{region}/{state}" if region else state


def _agent(frames: Mapping[str, Frame], path: str, main: str) -> str:
    home = frames[path].home
    return str(frames[home].agent or main) if home and home in frames else main
