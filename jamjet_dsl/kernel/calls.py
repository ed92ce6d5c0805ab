"""Entering a state that calls a tool: arguments, key, decision and reservation, frozen in one intent.

The first attempt of a visit evaluates and decides; its intent freezes the call in the frame, and every further
attempt (a retry, a recovery) makes exactly that call again. A free, unlimited read has no intent and is
evaluated each time, which gives the same call since nothing in the state has changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jamjet_dsl import definition as d
from jamjet_dsl.kernel import rules
from jamjet_dsl.kernel.binding import lapsed, outdated
from jamjet_dsl.kernel.budget import Misfit, homes, misfit
from jamjet_dsl.kernel.ids import action_id, confirm_id, fact_id, inside, trace_key
from jamjet_dsl.kernel.model import Call, Command, Count, Frame, Grant, Json, Record, RunState
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.records import (
    check_args,
    digest_of,
    failed,
    fault,
    grants_for,
    lacking,
    open_write,
    reserve_body,
)
from jamjet_dsl.kernel.scope import Scope, flags_of, scope_of, tool_scope, value_of
from jamjet_dsl.kernel.values import EvalError, from_journal, to_journal


class Refused(Exception):
    """The call cannot be prepared; `record` says why."""

    def __init__(self, record: Record) -> None:
        super().__init__(record.kind)
        self.record = record


def enter_call(
    program: Program, state: RunState, frame: Frame, action: d.Call | d.CallProposed | d.CallApproved
) -> list[Command]:
    """What a state that calls a tool does in its phase `enter` or `act`."""
    if frame.call is not None:
        return [_again(program, state, frame, action)]
    try:
        if frame.kind == "undo":
            return _first(program, state, frame, action, *_undoing(program, frame))
        tool, args, flags = chosen(program, state, frame, action)
        return _first(program, state, frame, action, tool, args, flags)
    except Refused as refused:
        return [refused.record]


def _undoing(program: Program, frame: Frame) -> tuple[str, dict[str, Any], dict[str, frozenset[str]]]:
    """The call that takes something back, with the arguments that were evaluated when that was done."""
    entry = frame.opened
    assert entry is not None
    if "error" in entry:
        raise Refused(failed(frame, "InvalidInput", entry["error"]))
    args = from_journal(entry["args"])
    return entry["tool"], _valid(program, frame, entry["tool"], args), {}


def chosen(
    program: Program, state: RunState, frame: Frame, action: d.Call | d.CallProposed | d.CallApproved
) -> tuple[str, dict[str, Any], dict[str, frozenset[str]]]:
    """The tool, the validated arguments and the arguments' provenance. Raises Refused."""
    match action:
        case d.Call():
            return declared_call(
                program, scope_of(program, state, frame), frame, action.tool, action.args, action.args_map
            )
        case d.CallProposed():
            return proposed_call(program, state, frame, action.move, action.tools)
        case d.CallApproved():
            grant = _grant(state, frame, action)
            if grant is None:
                name = action.tool or "the call"
                raise Refused(
                    _denied(
                        frame,
                        action.tool or "",
                        {},
                        {"result": "denied", "rules": [], "reason": f"there is no unused approval for `{name}`"},
                    )
                )
            args = _in_order(program, grant.call["tool"], from_journal(grant.call["args"]))
            flags = {name: frozenset(found) for name, found in grant.call.get("from", {}).items()}
            return grant.call["tool"], args, flags


def declared_call(
    program: Program,
    scope: Scope,
    frame: Frame,
    tool: str,
    exprs: Mapping[str, d.ExprJson],
    args_map: d.ExprJson | None = None,
) -> tuple[str, dict[str, Any], dict[str, frozenset[str]]]:
    """A call whose arguments are expressions. Raises Refused with InvalidInput."""
    flags: dict[str, frozenset[str]]
    try:
        if args_map is not None:
            given = program.evaluate(args_map, scope)
            flags = dict.fromkeys(given, scope.flags(program.reads(args_map)))
        else:
            given, written = {}, program.arguments(exprs)
            for name, value, _ in written:
                given[name] = value(scope)
            flags = {name: scope.flags(reads) for name, _, reads in written}
    except EvalError as error:
        raise Refused(fault(frame, "InvalidInput", error.message, f"the arguments of `{tool}`")) from None
    return tool, _valid(program, frame, tool, given), flags


def proposed_call(
    program: Program, state: RunState, frame: Frame, move: str, tools: Sequence[str]
) -> tuple[str, dict[str, Any], dict[str, frozenset[str]]]:
    """The call that a model proposed: a tool of the closed set, arguments that fit it. Raises Refused."""
    value = value_of(state, frame, move)
    call = value.get("call") if isinstance(value, dict) else None
    if not isinstance(call, dict):
        raise Refused(failed(frame, "InvalidInput", "the model proposed no call"))
    tool, given = call.get("tool"), call.get("args") or {}
    if tool not in tools or tool not in program.defn.tools:
        raise Refused(failed(frame, "InvalidInput", f"`{tool}` is not one of the tools: {', '.join(tools)}"))
    flags = flags_of(state, frame, move)
    return str(tool), _valid(program, frame, str(tool), given), dict.fromkeys(given, flags)


def _valid(program: Program, frame: Frame, tool: str, given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise Refused(failed(frame, "InvalidInput", f"the arguments of `{tool}` are no record"))
    args, problems = check_args(program, tool, given)
    if problems:
        raise Refused(failed(frame, "InvalidInput", f"`{tool}`: " + "; ".join(problems)))
    return args


def _in_order(program: Program, tool: str, args: Any) -> dict[str, Any]:
    """Frozen arguments in the order of the tool's parameters: a snapshot sorts them."""
    return {name: args[name] for name, *_ in program.callee(tool).params if name in args}


def _grant(state: RunState, frame: Frame, action: d.CallApproved) -> Grant | None:
    """The latest unused approval that this action may use; one that holds no more only if there is no other."""
    fitting = [
        grant
        for grant in state.grants.values()
        if grant.used_by is None
        and grant.home == frame.home
        and (inside(frame.path, grant.frame) or inside(grant.frame, frame.path))
        and grant.state in action.asks
        and action.tool in (None, grant.call["tool"])
    ]
    return max(fitting, key=lambda grant: (not lapsed(grant, state.now_ms), grant.seq), default=None)


def _denied(frame: Frame, tool: str, args: Mapping[str, Any], decision: dict[str, Json]) -> Record:
    return Record(
        "denied", {"cmd": action_id(frame), "tool": tool, "args": to_journal(dict(args)), "decision": decision}
    )


# ---- the first attempt of a visit


def _first(
    program: Program,
    state: RunState,
    frame: Frame,
    action: d.Call | d.CallProposed | d.CallApproved,
    tool: str,
    args: dict[str, Any],
    flags: Mapping[str, frozenset[str]],
) -> list[Command]:
    callee = program.callee(tool)
    grants: list[Grant] = []
    if isinstance(action, d.CallApproved):
        own = _grant(state, frame, action)
        assert own is not None
        digest = digest_of(tool, to_journal(args))
        grants = [own, *(g for g in grants_for(state, digest) if g is not own)]
    decision = decided(program, state, None, frame, tool, args, flags, grants)
    if not isinstance(decision, rules.Decision):
        return decision
    if grants:
        decision, grants = _counting(program, state, frame, decision, grants, tool, args, flags)
    allowed = decision.verdict == "allowed"
    if not allowed and state.policy == "enforce":
        return [_denied(frame, tool, args, decision.body())]
    key: str | None = None
    if callee.tool.key is not None:
        try:
            key = _key(program, state, frame, callee.tool.key, args)
        except EvalError as error:
            return [fault(frame, "InvalidInput", error.message, f"the key of `{tool}`")]
    reserve = callee.reserve
    lack = misfit(program, state, frame, reserve)
    if lack is not None:
        return [lacking(frame, lack)]
    count = counting(state, action_id(frame), decision)
    if count is not None:
        return [count]
    intent: dict[str, Json] | None = None
    if grants or callee.journaled or not allowed:
        intent = {
            "cmd": action_id(frame),
            "tool": tool,
            "args": to_journal(args),
            "key": key,
            "effect": callee.tool.effect,
            "decision": decision.body(enforced=allowed),
        }
        if frame.home:
            intent["home"] = frame.home
        if frame.kind == "undo" and frame.opened is not None:
            intent["undoes"] = frame.opened["cmd"]
        if grants:
            scope = scope_of(program, state, frame)
            # A call that is made in spite of the policy uses up the approval that it was made from, and no other.
            used = _used(program, state, scope, frame, tool, args, flags, grants) if allowed else grants[:1]
            intent["grants"] = [grant.question for grant in used]
        if reserve.cost is not None:
            intent["reserve"] = reserve_body(reserve)
    command = _command(program, state, frame, action, tool, args, key, intent)
    if allowed and not reserve.cost and program.is_settled(action, tool):
        frame.made = command
    return [command]


def _counting(
    program: Program,
    state: RunState,
    frame: Frame,
    decision: rules.Decision,
    grants: list[Grant],
    tool: str,
    args: dict[str, Any],
    flags: Mapping[str, frozenset[str]],
) -> tuple[rules.Decision, list[Grant]]:
    """The decision, and the approvals that count in it: those that were given when policy and facts were as they are
    now, and not too long ago. The first is the one that the call is made from; if that one does not count, the call is
    denied."""
    why = [outdated(program, state, frame, grant, decision.body()) for grant in grants]
    if not any(why):
        return decision, grants
    if why[0] is not None:
        reason = why[0] if decision.verdict != "denied" else f"{decision.reason}; {why[0]}"
        return replace(decision, verdict="denied", reason=reason, plain=False), grants
    current = [grant for grant, stale in zip(grants, why, strict=True) if stale is None]
    again = decided(program, state, None, frame, tool, args, flags, current)
    assert isinstance(again, rules.Decision)  # the facts were read for the decision before
    if again.verdict != "allowed":
        again = replace(again, reason="; ".join([again.reason, *(stale for stale in why if stale is not None)]))
    return again, current


def decided(
    program: Program,
    state: RunState,
    scope: Scope | None,
    frame: Frame,
    tool: str,
    args: Mapping[str, Any],
    flags: Mapping[str, frozenset[str]],
    grants: Sequence[Grant],
    offered: str | None = None,
) -> rules.Decision | list[Command]:
    """What the policies of the agent and of those around it decide, or the read of a fact that one of them wants
    first. An agent around it has a say if it has a policy. Without a `scope` one is made where it is needed."""
    cmd = action_id(frame)
    if not frame.home and frame.kind != "undo":
        _, fixed = rules.looked_up(program.main, tool)
        if fixed is not None and fixed.verdict != "needs_approval":
            return fixed
    where, found = frame, []
    for depth, home in enumerate(homes(state, frame.path)):
        plan = rules.plan_at(program, state, home)
        if depth and plan.agent.rules is None:
            where = _around(state, home)
            continue
        inner = scope if scope is not None and not depth else scope_of(program, state, where)
        inner = inner.nested({}, {f"args.{name}": flag for name, flag in flags.items()})
        answer = rules.decide(
            program, state, home, inner, cmd, tool, args, grants, offered, undoing=frame.kind == "undo"
        )
        if not isinstance(answer, rules.Decision):
            read = fact_id(cmd, answer.name, depth)
            lack = _lack_aside(program, state, frame, read, answer.tool)
            if lack is not None:
                return [lacking(frame, lack)]
            return [aside(program, state, read, "fact", answer.tool, answer.args)]
        found.append((home, plan.agent.name, answer))
        where = _around(state, home)
    (_, _, own), *outer = found
    if offered is not None:
        outer = [(h, n, replace(o, verdict="allowed") if _offers(o, offered) else o) for h, n, o in outer]
    return rules.joined(own, outer, state.policy == "enforce") if outer else own


def counting(state: RunState, cmd: str, decision: rules.Decision) -> Count | None:
    """Whether it has to be found out first what all runs have used of what the call counts under: the last thing before
    it is decided for good, since others go on meanwhile."""
    if not decision.shared or (state.counted is not None and state.counted["cmd"] == cmd):
        return None
    return Count(cmd, decision.shared)


def _around(state: RunState, home: str) -> Frame:
    """The frame that runs the agent at `home`."""
    return state.frames[state.frames[home].parent or ""] if home else state.frames.get("", Frame("", ""))


def _offers(decision: rules.Decision, offered: str) -> bool:
    """Whether what an outer policy wants is an approval of whoever it may be: an ask inside can give that."""
    return decision.verdict == "needs_approval" and all(need.get("ask") is None for need in decision.needs)


def _used(
    program: Program,
    state: RunState,
    scope: Scope,
    frame: Frame,
    tool: str,
    args: Mapping[str, Any],
    flags: Mapping[str, frozenset[str]],
    grants: Sequence[Grant],
) -> Sequence[Grant]:
    """The fewest of the approvals, in order, that the decision needs: what is not needed is not used up."""
    for count in range(1, len(grants)):
        answer = decided(program, state, scope, frame, tool, args, flags, grants[:count])
        if isinstance(answer, rules.Decision) and answer.verdict == "allowed":
            return grants[:count]
    return grants


def _key(program: Program, state: RunState, frame: Frame, declared: d.ExprJson, args: Mapping[str, Any]) -> str:
    value = program.evaluate(declared, tool_scope(state, args, frame.home))
    if not isinstance(value, str):
        raise EvalError("no_overload", "a key has to be text")
    return value


def _command(
    program: Program,
    state: RunState,
    frame: Frame,
    action: d.Call | d.CallProposed | d.CallApproved,
    name: str,
    args: dict[str, Any],
    key: str | None,
    intent: dict[str, Json] | None,
) -> Call:
    """The call itself. `args` stand in the order of the tool's parameters."""
    tool = program.callee(name).tool
    timeout = action.timeout_ms if action.timeout_ms is not None else tool.timeout_ms
    cmd = action_id(frame)
    traced = trace_key(state.run_id, cmd)
    return Call(cmd, "action", name, args, tool.effect, key, traced, timeout, frame.attempt, intent)


# ---- further attempts, and reads beside the action


def _again(
    program: Program, state: RunState, frame: Frame, action: d.Call | d.CallProposed | d.CallApproved
) -> Command:
    """The frozen call: in flight already, or as a further attempt under the same key and arguments."""
    cmd, frozen = action_id(frame), frame.call
    assert frozen is not None
    tool = frozen["tool"]
    args = _in_order(program, tool, from_journal(frozen["args"]))
    known = state.intents.get(cmd)
    if known is not None and not known.unsettled:
        frame.made = _command(program, state, frame, action, tool, args, frozen["key"], None)
        return frame.made
    reserve = program.callee(tool).reserve
    lack = misfit(program, state, frame, reserve)
    if lack is not None:
        if not lack.waits and open_write(program, state, frame):
            held = state.intents.get(cmd)
            question = confirm(program, state, frame) if held is not None and held.unsettled != "unknown" else None
            if question is not None:
                return question
            why = f"a further attempt does not fit the budget ({lack.what})"
            return Record("in_doubt", {"cmd": cmd, "why": why})
        return lacking(frame, lack)
    body = {**frozen, "cmd": cmd}
    if reserve.cost is not None:
        body["reserve"] = reserve_body(reserve)
    body.pop("grants", None)
    return _command(program, state, frame, action, tool, args, frozen["key"], body)


def confirm(program: Program, state: RunState, frame: Frame) -> Command | None:
    """The question whether the frame's call happened, or None if the tool declares none or it cannot be asked."""
    frozen = frame.call
    if frozen is None:
        return None
    declared = program.defn.tools[frozen["tool"]].confirm
    if declared is None:
        return None
    args = from_journal(frozen["args"])
    assert isinstance(args, dict)
    scope = tool_scope(state, args, frozen.get("home", ""))  # a rollback may ask about a call of a child that is gone
    try:
        given = {name: program.evaluate(expr, scope) for name, expr in declared.args.items()}
    except EvalError:
        return None
    values, problems = check_args(program, declared.tool, given)
    cmd = confirm_id(action_id(frame))
    lack = _lack_aside(program, state, frame, cmd, declared.tool)
    if problems or (lack is not None and not lack.waits):
        return None
    if lack is not None:
        return lacking(frame, lack)
    return aside(program, state, cmd, "confirm", declared.tool, values)


def _lack_aside(program: Program, state: RunState, frame: Frame, cmd: str, tool: str) -> Misfit | None:
    """What a read beside an action does not fit under. One that is in flight has its room already."""
    return None if cmd in state.intents else misfit(program, state, frame, program.callee(tool).reserve)


def aside(program: Program, state: RunState, cmd: str, does: Any, tool: str, args: dict[str, Any]) -> Call:
    """A read beside an action, with an intent of its own if it costs anything or is limited."""
    callee = program.callee(tool)
    declared = callee.tool
    intent: dict[str, Json] | None = None
    if cmd not in state.intents and callee.journaled:
        intent = {
            "cmd": cmd,
            "does": does,
            "tool": tool,
            "args": to_journal(args),
            "key": None,
            "effect": declared.effect,
            "reserve": reserve_body(callee.reserve),
        }
    traced = f"{state.run_id}/{cmd}"
    return Call(cmd, does, tool, args, declared.effect, None, traced, declared.timeout_ms, 1, intent)
