"""Everything that comes from outside, validated and turned into an event's (kind, body).

Outcomes of effects never raise: what does not fit is an outcome too (`failed InvalidOutput`), and what comes
too late is `late`. What people and other systems send raises JamError when it does not fit, and then nothing
is journaled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, TypeAlias

from jamjet_dsl import definition as d
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel.budget import homes
from jamjet_dsl.kernel.errors import INDEFINITE, NOT_SENT, STANDARD_ERRORS
from jamjet_dsl.kernel.ids import base_of, fact_of, frame_of
from jamjet_dsl.kernel.model import ENDED, MODES, Call, Frame, Json, Mode, Question, RunState, Think
from jamjet_dsl.kernel.outcomes import is_open, people_for
from jamjet_dsl.kernel.people import name_of
from jamjet_dsl.kernel.program import WRITES, Program
from jamjet_dsl.kernel.quick import MISS, reader_of
from jamjet_dsl.kernel.records import check_args
from jamjet_dsl.kernel.rules import counts, fact_key
from jamjet_dsl.kernel.scope import scope_of, tool_scope
from jamjet_dsl.kernel.values import EvalError, from_journal, from_public, to_journal

Made: TypeAlias = tuple[str, dict[str, Json]]

NOTHING_USED: dict[str, Json] = {"tokens_in": 0, "tokens_out": 0, "cost": "0"}


# ---- the beginning


def started(
    program: Program,
    input_json: object,
    principal: Mapping[str, Any] | None,
    bindings: str,
    parent: str | None = None,
    policy: Mode = "enforce",
) -> Made:
    """The first event of a run: its input, validated, and the variables' first values. `policy` says whether what the
    policies decide holds, in this run and all its children.

    Raises JamError JAMR301 with all problems of the input at once, JAMR503 if an initial value cannot be computed,
    JAMR006 for a mode of policies that there is not.
    """
    if policy not in MODES:
        raise JamError("JAMR006", f"a policy is not run in the mode `{policy}`", f"use one of: {', '.join(MODES)}")
    agent = program.agent
    values = _input(program, input_json)
    who = {"id": "", "roles": [], **(principal or {})}
    state = RunState("", agent=agent.name, input=values, principal=who)
    for var in agent.vars:
        if var.init is None:
            continue
        try:
            state.vars[var.name] = program.evaluate(var.init, scope_of(program, state, Frame("", "")))
        except EvalError as error:
            raise JamError("JAMR503", f"the initial value of `{var.name}` has no value: {error.message}") from None
    body: dict[str, Json] = {
        "definition": program.digest,
        "agent": agent.name,
        "input": to_journal(values),
        "principal": who,
        "bindings": bindings,
        "set": to_journal(state.vars),
    }
    if parent is not None:
        body["parent"] = parent
    if policy != "enforce":
        body["policy"] = policy
    return "started", body


def _input(program: Program, given: object) -> dict[str, Any]:
    """The inputs of a run. Raises JamError JAMR301."""
    agent = program.agent
    if type(given) is dict and len(given) == len(agent.inputs):
        values = {f.name: reader_of(f.type, program.defn)(given.get(f.name, MISS)) for f in agent.inputs}
        if all(value is not MISS for value in values.values()):
            return values
    problems: list[str] = []
    shape = d.ObjectType(fields={field.name: field.type for field in agent.inputs})
    read = from_public(given, shape, program.defn, "", problems)
    if problems:
        raise JamError("JAMR301", f"the input does not fit `{agent.name}`", details=tuple(problems))
    assert isinstance(read, dict)
    return read


# ---- outcomes of effects


def succeeded(
    program: Program,
    state: RunState,
    command: Call | Think,
    value: object,
    usage: Mapping[str, Json] | None = None,
    duration_ms: int = 0,
    messages: Sequence[Any] = (),
) -> Made:
    """An effect gave `value` (JSON or Python values, not validated yet). `messages` are what a model's provider
    wants kept in the conversation (journal form)."""
    if not is_open(state, command.id):
        return "late", {**_named(command), "result": _shown(value), "duration_ms": duration_ms}
    if isinstance(command, Call) and command.does == "confirm":
        return _probed(program, state, command, value, usage)
    problems: list[str] = []
    result = _read(program, command, value, problems)
    if problems:
        text = "; ".join(problems[:20])
        return failed(program, state, command, "InvalidOutput", text, usage=usage, duration_ms=duration_ms)
    if isinstance(command, Call) and command.does == "fact":
        return "fact", {**_fact(state, command), "result": result, **_usage(usage)}
    body: dict[str, Json] = {"cmd": command.id, "result": result, **_usage(usage), "duration_ms": duration_ms}
    if isinstance(command, Think):
        intent = state.intents.get(command.id)
        if intent is not None and intent.body.get("untrusted"):
            body["untrusted"] = True
        if messages:
            body["items"] = list(messages)
        return "succeeded", body
    body["tool"] = command.tool
    declared = program.callee(command.tool).tool
    if declared.untrusted:
        body["untrusted"] = True
    if declared.undo is not None:
        body |= _undo(program, state, command.id, command.tool, command.args, result, None)
    return "succeeded", body


def failed(
    program: Program,
    state: RunState,
    command: Call | Think,
    error: str,
    message: str,
    *,
    sent: bool = True,
    usage: Mapping[str, Json] | None = None,
    duration_ms: int = 0,
    retry_after_ms: int | None = None,
) -> Made:
    """An effect ended in an error. `sent` False: it is certain that nothing left this machine.

    An error that the tool does not declare counts as `Crashed`: the program cannot know what it means.
    """
    raises = program.defn.tools[command.tool].raises if isinstance(command, Call) else ()
    if error not in STANDARD_ERRORS and error not in raises:
        message, error = f"{error}: {message}", "Crashed"
    if not is_open(state, command.id):
        return "late", {**_named(command), "error": error, "message": message, "duration_ms": duration_ms}
    if not sent or error in NOT_SENT:
        usage = usage or NOTHING_USED
    if isinstance(command, Call) and command.does == "confirm":
        return "probed", {"cmd": command.id, "happened": None, "why": f"{error}: {message}", **_usage(usage)}
    if isinstance(command, Call) and command.does == "fact":
        return "fact", {**_fact(state, command), "error": error, "message": message, **_usage(usage)}
    writes = isinstance(command, Call) and command.effect in WRITES
    body: dict[str, Json] = {
        "cmd": command.id,
        "error": error,
        "message": message,
        "definite": not writes or (_tells(state, command, error in raises) and (not sent or error not in INDEFINITE)),
        **_usage(usage),
        "duration_ms": duration_ms,
    }
    if isinstance(command, Call):
        body["tool"] = command.tool
    if retry_after_ms is not None:
        body["retry_after_ms"] = retry_after_ms
    return "failed", body


def _tells(state: RunState, command: Call | Think, own: bool) -> bool:
    """Whether an error can tell that the call did not happen. That nothing left this machine says so of one attempt
    only: where an earlier one under the same key may have happened, nothing but the tool's own answer does."""
    earlier = state.frames[frame_of(command.id)].error
    return own or earlier is None or bool(earlier["definite"])


def _read(program: Program, command: Call | Think, value: object, problems: list[str]) -> Json:
    """The value as the declared type has it, in journal form. A tool without a result gives null."""
    if isinstance(command, Call):
        callee = program.callee(command.tool)
        if callee.result is not None and (result := callee.result(value)) is not MISS:
            return result
        type_ = callee.tool.result
    else:
        type_ = command.result_type
    return None if type_ is None else to_journal(from_public(value, type_, program.defn, "", problems))


def _named(command: Call | Think) -> dict[str, Json]:
    """A free read has left no intent to take the name of its tool from."""
    return {"cmd": command.id, "tool": command.tool} if isinstance(command, Call) else {"cmd": command.id}


def _usage(usage: Mapping[str, Json] | None) -> dict[str, Json]:
    return {} if usage is None else {"usage": dict(usage)}


def _shown(value: object) -> Json:
    """A late value, kept for a person: as it is where JSON has it, else as text."""
    problems: list[str] = []
    found = from_public(value, d.Scalar(kind="any"), _EMPTY, "", problems)
    return repr(value)[:10_000] if problems else to_journal(found)


_EMPTY = d.Definition(main="", agents={})


def _fact(state: RunState, command: Call) -> dict[str, Json]:
    depth, name = fact_of(command.id)
    home = next(islice(homes(state, frame_of(command.id)), depth, None))
    key = fact_key(home, name, command.args)
    return {"name": name, "cmd": command.id, "tool": command.tool, "args": to_journal(command.args), "key": key}


def _probed(program: Program, state: RunState, command: Call, value: object, usage: Mapping[str, Json] | None) -> Made:
    """What `confirm` gave: a result means that the call happened, null that it did not, and so does false where
    the tool that confirms answers yes or no. A result that is none of the call's leaves it open."""
    declared = program.defn.tools[command.tool].result
    problems: list[str] = []
    result = None if declared is None else from_public(value, declared, program.defn, "", problems)
    body: dict[str, Json] = {"cmd": command.id, **_usage(usage)}
    if problems:
        return "probed", {**body, "happened": None, "why": "; ".join(problems[:20])}
    if result is None or (result is False and isinstance(declared, d.Scalar) and declared.kind == "bool"):
        return "probed", {**body, "happened": False}
    frozen = state.frames[frame_of(command.id)].call
    assert frozen is not None
    wanted = program.defn.tools[frozen["tool"]].result
    found = to_journal(from_public(result, wanted, program.defn, "", problems)) if wanted is not None else None
    if problems:
        return "probed", {**body, "happened": None, "why": "; ".join(problems[:20])}
    args, home = from_journal(frozen["args"]), frozen.get("home", "")
    undo = _undo(program, state, base_of(command.id), frozen["tool"], args, found, home)
    return "probed", {**body, "happened": True, "result": found, **undo}


def _undo(
    program: Program, state: RunState, cmd: str, tool: str, args: Any, result: Json, home: str | None
) -> dict[str, Json]:
    """The call that takes this one back (`undo`), with its arguments as they are now, if the tool declares one. One
    that cannot be computed is noted with its error, so that a rollback says so instead of leaving it out. What a
    rollback has done is not taken back again. `home` is the agent that made the call, which may be gone (None: that of
    the frame)."""
    declared = program.defn.tools[tool].undo
    frame = state.frames.get(frame_of(cmd))
    if declared is None or (frame is not None and frame.kind == "undo"):
        return {}
    if home is None:
        home = frame.home if frame is not None else ""
    scope = tool_scope(state, args, home).nested({"result": from_journal(result)})
    try:
        given = {name: program.evaluate(expr, scope) for name, expr in declared.args.items()}
    except EvalError as error:
        return {"undo": {"tool": declared.tool, "error": error.message}}
    values, problems = check_args(program, declared.tool, given)
    if problems:
        return {"undo": {"tool": declared.tool, "error": "; ".join(problems)}}
    return {"undo": {"tool": declared.tool, "args": to_journal(values)}}


# ---- people and other systems


def answered(
    program: Program,
    state: RunState,
    question_id: str,
    option: str,
    form_json: object,
    by: str,
    roles: Sequence[str] | None,
) -> Made:
    """A person's answer. `roles` None: nobody keeps a list of who has which role, so the answer is taken, and says that
    the role was not `checked`.

    Raises JamError JAMR402 for a question that is not open, JAMR403 for an option it does not have, JAMR404 for a
    form that does not fit, JAMR409 for a person who may not answer.
    """
    question = state.questions.get(question_id)
    if question is None:
        raise JamError("JAMR402", f"question `{question_id}` is not open")
    options = {str(item["name"]): bool(item["approves"]) for item in question.body["options"]}
    if option not in options:
        raise JamError("JAMR403", f"`{option}` is not an option", f"use one of: {', '.join(options)}")
    known = [str(question.body["role"])] if roles is None else list(roles)
    _may_answer(state, question, by, known, options[option])
    action = program.action(state.frames[question.frame])
    fields = action.form if isinstance(action, d.Ask) else ()
    problems: list[str] = []
    shape = d.ObjectType(fields={field.name: field.type for field in fields})
    form = from_public(form_json or {}, shape, program.defn, "", problems)
    if problems:
        raise JamError("JAMR404", "the answer's form does not fit the question", details=tuple(problems))
    return "answered", {
        "question": question_id,
        "option": option,
        "form": to_journal(form),
        "by": by,
        "roles": known,
        "checked": roles is not None,
    }


def _may_answer(state: RunState, question: Question, by: str, roles: list[str], approves: bool) -> None:
    role = question.body["role"]
    if role not in roles:
        raise JamError("JAMR409", f"`{by}` does not have the role `{role}`")
    if not approves:
        return
    needs = people_for(state, question)
    if any(name_of(person) == name_of({"by": by}) for person in question.approvals):
        raise JamError("JAMR409", f"`{by}` has approved this already", "somebody else has to approve it too")
    if needs and not any(counts(state, need, {"by": by, "roles": roles}) for need in needs):
        raise JamError(
            "JAMR409",
            f"an approval by `{by}` does not count here",
            "the policy wants " + " and ".join(str(need["role"]) for need in needs),
        )


def received(
    program: Program, state: RunState, name: str, payload_json: object, id: str, by: str | None = None
) -> Made:
    """An event from outside. Raises JamError JAMR204 after the end, JAMR405 for an event that neither the agent nor one
    that it is running takes, JAMR406 for a payload that does not fit."""
    _not_ended(state)
    known = dict(program.agent.events)
    for frame in state.frames.values():
        if frame.kind == "agent":
            known = {**program.plan(frame).agent.events, **known}
    declared = known.get(name)
    if declared is None:
        names = ", ".join(f"`{event}`" for event in known) or "none"
        raise JamError("JAMR405", f"`{program.agent.name}` takes no event `{name}`", f"its events are: {names}")
    problems: list[str] = []
    shape = d.ObjectType(fields={field.name: field.type for field in declared.fields})
    payload = from_public(payload_json or {}, shape, program.defn, "", problems)
    if problems:
        raise JamError("JAMR406", f"the payload does not fit the event `{name}`", details=tuple(problems))
    return "received", {"name": name, "payload": to_journal(payload), "id": id, "by": by}


def _not_ended(state: RunState) -> None:
    if state.status in ENDED:
        raise JamError("JAMR204", f"run `{state.run_id}` has ended ({state.status})")


# ---- an operator


def cancelling(program: Program, state: RunState, by: str, note: str, now: bool) -> Made:
    """A cancellation: by the program's handler, or with `now` at once. Raises JamError JAMR204 after the end."""
    _not_ended(state)
    return "cancelling", {"by": by, "note": note, "now": now}


def retry(program: Program, state: RunState, by: str, note: str) -> Made:
    """A parked run is to try again. Raises JamError JAMR204 after the end, JAMR408 for a run that is not parked,
    JAMR407 while a call is in doubt: to try that again could do it twice."""
    _not_ended(state)
    if state.parked is None:
        raise JamError("JAMR408", f"run `{state.run_id}` is not parked")
    outcome = state.frames[state.parked["frame"]].outcome
    if outcome is not None and outcome["kind"] == "in_doubt":
        raise JamError(
            "JAMR407",
            f"a call of run `{state.run_id}` may have happened: it cannot just be tried again",
            "find out whether it did, and tell with `jam settle`",
        )
    if "retry" not in state.parked["commands"]:
        raise JamError(
            "JAMR408", f"run `{state.run_id}` cannot be tried again: {state.parked['reason']}", "`jam cancel` ends it"
        )
    return "unparked", {"by": by, "note": note, "how": "retry"}


def settle(
    program: Program, state: RunState, happened: bool, result_json: object, by: str, note: str, cmd: str | None = None
) -> Made:
    """A person tells whether a call in doubt happened. Raises JamError JAMR407 where none is (or several are and
    `cmd` names none of them), JAMR302 for a result that does not fit the tool."""
    doubts = [name for name, intent in state.intents.items() if intent.unsettled == "doubt"]
    if cmd is None and len(doubts) == 1:
        cmd = doubts[0]
    if cmd is None or cmd not in doubts:
        more = f"name one of: {', '.join(doubts)}" if doubts else "`jam show` says where it stands"
        raise JamError("JAMR407", f"no call `{cmd}` is in doubt" if cmd else "no single call is in doubt", more)
    body: dict[str, Json] = {"cmd": cmd, "happened": happened, "by": by, "note": note}
    if happened:
        problems: list[str] = []
        type_ = program.defn.tools[state.intents[cmd].body["tool"]].result
        value = None if type_ is None else from_public(result_json, type_, program.defn, "", problems)
        if problems:
            raise JamError("JAMR302", "the result does not fit the tool", details=tuple(problems))
        call = state.intents[cmd].body
        body["result"] = to_journal(value)
        args, home = from_journal(call["args"]), call.get("home", "")
        body |= _undo(program, state, cmd, call["tool"], args, body["result"], home)
    return "settled", body
