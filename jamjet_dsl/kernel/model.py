"""The kernel's data: events in, state kept, commands out.

A run is a fold of its journal: `machine.apply(program, state, event) -> state`. What comes next is a pure
function of that state: `machine.decide(program, state) -> commands`. Nothing here reads a clock, draws a
random number or does I/O; time is the `at_ms` of events, and what is drawn by chance (ids, jitter, nonces)
is drawn by the engine and stands in an event before the kernel sees it.

Two kinds of command leave `decide`:

* `Record` is a decision that is final the moment it is journaled: a transition, a denial, a retry, the end.
  The engine appends it as an event and applies it at once, in the same transaction as the outcome that
  caused it. Replay decides again and compares, so a journal proves its own transitions.
* all others are effects. `Call`, `Think`, `Probe`, `Undo` with an `intent` append an `intent` event in that
  same transaction, before the effect starts. An effect without outcome is returned by `decide` again and
  again; the engine starts an id once per process and only recovery starts it anew.

A command's id is `FRAME#VISIT.ATTEMPT` (`#3.1` in the root frame): the frame's path, how many states the
frame has entered, which attempt at the action this is. An outcome for an id that is not open is journaled
and ignored.

Journal bodies are JSON in the journal form of `kernel.values` (exact and self-describing).

| kind | body | meaning |
|---|---|---|
| started | definition, agent, input, principal, bindings, set, parent?, | the first event; bindings is a digest |
|  | policy? | `shadow`: decisions are journaled and not enforced |
| moved | frame, visit, state, edge, to, set?, bind? | left a state by an edge: variables set on the way |
| intent | cmd, does?, effect, reserve?, and | an effect is about to start; without `does` it is a state's own call |
|  | of a call: tool, args, key, decision, grants?, home?, undoes? | exactly this call, by these rules |
|  | of a model call: model, prompt, given, untrusted? | |
| succeeded | cmd, result, usage?, duration_ms | its outcome |
| failed | cmd, error, message, definite, usage?, duration_ms, retry_after_ms? | its outcome |
| retry | cmd, attempt, rule, at_ms | a further attempt will start then (jitter drawn) |
| timer | id, cmd, at_ms | a timer is set |
| fired | id | a timer is due |
| asked | question, cmd, state, role, text, show, options, form, call?, decision?, expires_at_ms?, remind_ms? | |
|  | holds_ms? | a person is asked; call (tool, args, digest, policy, from?) is frozen |
| answered | question, option, form, by, roles, checked? | the first valid answer; whether roles were known |
| expired | question | nobody answered in time |
| received | name, payload, id, by? | an event from outside was queued |
| consumed | name, id, frame | the oldest queued one of that name was taken |
| emitted | message, args, cmd | the run said something |
| counted | cmd, used | what all runs of the principal had used of limits that they share, before a decision |
| denied | cmd, tool, args, decision | policy refused a call |
| in_doubt | cmd, why | a call may or may not have happened |
| probed | cmd, happened or null, result?, usage | what `confirm` told |
| settled | cmd, happened, result?, by, note | what a person told about a call in doubt |
| fact | name, key, cmd, tool, args, usage, result or error | a read the engine made for a decision |
| spent | what, level, home? | warn level passed |
| exceeded | what, frame, state, home? | a budget is used up; fires once; home is the agent's whose budget it is |
| overrun | cmd, what, by | usage above its reservation |
| parked | reason, cmd?, frame, state, commands | the run waits for an operator |
| unparked | by, note, how | an operator moved it (`retry`) |
| cancelling | by, note, now | cancellation was asked for |
| late | cmd, result?, error? | an outcome that came after the run had moved on |
| finished | status, state, output, unresolved? | the last event: completed, failed or cancelled |
| snapshot | state_digest | a snapshot was stored beside the journal |
| resumed | owner?, since_ms? | a process took the run over: the time before does not count as active (that before |
|  | | since_ms, if it watched the run from then on) |
| recovered | cmd, how, usage | an effect without outcome was found at that: `again`, `confirm` or `key` |
| unsent | cmd | a process was stopped before it had begun this effect: it is made as a new attempt |
| faulted | frame, cmd, error, message, where | an expression failed: of a guard, a set, an output, an argument |
| opened | cmd, and one of: | an action is to be carried out by frames of its own |
|  | branches; items, from?; agent, input, set, limits, caps; undo; finally, end | |
|  | at_ms? | when its time is over |
| begun | frame, cmd, key, kind, state, agent?, doubt?, undo? | one frame was opened |
| closed | frame, how, value?, from?, error?, message?, unresolved? | a frame is done, skipped, failed or cancelled |
| joined | cmd, how, result?, results?, from?, error?, message? | what was opened has its outcome: ok or failed |
| forked | definition, source, agent, origin, whole, input?, set?, by | the first event of a fork: where it goes on |
| recorded | cmd, calls (or mock), outcome, and its result or error | what a call gets in a fork whose calls are off |
| migrated | from, to, by, and what changes | from here on the run is of another version; see `kernel.versions` |

`moved` also has: `append` {variable: items added to a conversation}, `from` {variable: provenance flags}, `counted`
(the edge has a limit and this counts), `over` (its limit was used up, so its `else` was taken). `bind` is a name: the
value is the outcome's; `binds` are the names of branches that have a value. `edge` is an `Edge.id`, `exceeded`,
`cancel`, or `agent on TRIGGER#N` for a handler.
`succeeded` also has: `tool`, `untrusted`, `undo` {tool, args}: the call that would take it back, `items`: what a
model's provider wants kept in the conversation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

Json: TypeAlias = Any
"""A JSON value in the journal form."""

Mode: TypeAlias = Literal["enforce", "shadow"]
"""Whether what a policy decides holds, or is only journaled."""
MODES: tuple[Mode, ...] = get_args(Mode)

Status: TypeAlias = Literal["running", "waiting", "parked", "completed", "failed", "cancelled"]
ENDED: frozenset[str] = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a run's journal. `seq` counts from 1 without gaps; `at_ms` never goes back.

    `prev_hash` and `hash` are hex SHA-256; the hash covers run, seq, at_ms, kind, the exact stored body bytes
    and prev_hash. They are empty until the store has sealed the event.
    """

    run_id: str
    seq: int
    at_ms: int
    kind: str
    body: dict[str, Json]
    prev_hash: str = ""
    hash: str = ""


@dataclass(frozen=True, slots=True)
class Reserve:
    """The worst case of one attempt, held from its intent to its outcome. Cost as money text, or None."""

    tokens: int = 0
    cost: str | None = None


# ---- commands: nobody changes one once it is made. They are not frozen all the same: every step makes some, and one
# that is costs three times as much.


@dataclass(slots=True)
class Record:
    """A decision to journal now, as an event of this kind and body."""

    kind: str
    body: dict[str, Json]


@dataclass(slots=True)
class Call:
    """Perform a tool call. `does` says why: action, fact, confirm or undo.

    `args` are values in the order of the tool's parameters. `key` is the declared promise, `trace_key` is
    stable for the action and always there. `intent` is the body of the event to append first, or None for
    a free and unlimited read.
    """

    id: str
    does: Literal["action", "fact", "confirm", "undo"]
    tool: str
    args: dict[str, Any]
    effect: str
    key: str | None
    trace_key: str
    timeout_ms: int | None
    attempt: int
    intent: dict[str, Json] | None


@dataclass(slots=True)
class Think:
    """Ask a model. `messages` is the conversation so far (journal form) when the state thinks `in chat`.

    `previous_error` is set on the attempt after an `InvalidOutput`: the answer that did not fit and why.
    """

    id: str
    state: str
    model: str | None
    prompt: str
    given: tuple[tuple[str, Any], ...]
    messages: tuple[Json, ...] | None
    tools: tuple[str, ...]
    result_type: Any
    max_prompt: int | None
    max_tokens: int | None
    temperature: str | None
    timeout_ms: int | None
    attempt: int
    previous_error: str | None
    intent: dict[str, Json] | None
    """None once the intent is journaled."""


@dataclass(slots=True)
class Ask:
    """Open a question. The engine draws the question's id and appends `asked` with this body and the id."""

    id: str
    body: dict[str, Json]


@dataclass(slots=True)
class SetTimer:
    """Wake the run at a time. `at_ms` is absolute; with `spread_ms` the engine draws a time between
    at_ms - spread_ms and at_ms (full jitter) and journals the one it drew, as `retry` or `timer`."""

    id: str
    at_ms: int
    spread_ms: int = 0
    record: Literal["timer", "retry"] = "timer"
    body: dict[str, Json] = field(default_factory=dict)


@dataclass(slots=True)
class Await:
    """Nothing to do but to wait for something named: `event` NAME, `question` ID, `timer` ID, or `budget` WHAT that
    others in flight hold and may give back."""

    id: str
    what: Literal["event", "question", "timer", "budget"]
    name: str
    at_ms: int | None = None


class Share(NamedTuple):
    """What a call would use of a limit that all runs of a principal share: rule `rule` of the agent at `home`. The
    `counter` names the limit in every version of a program that has it, `group` what it is counted for, `amount` (exact
    decimal text) what a total adds up. `since_ms`: what was used later counts; -1 without a window. `most_calls` and
    `most_total` (exact decimal text) are what may have been used before for the limit to have room; None: whatever."""

    home: str
    rule: int
    counter: str
    group: str
    amount: str
    since_ms: int
    most_calls: int | None
    most_total: str | None


@dataclass(slots=True)
class Count:
    """Find out what all runs, this one too, have used of shared limits, before the call `id` is decided for good. The
    engine appends `counted` with [home, rule, calls, total] for each share."""

    id: str
    shares: tuple[Share, ...]


@dataclass(slots=True)
class CancelAction:
    """Stop an effect that is no longer wanted."""

    id: str


Command: TypeAlias = Record | Call | Think | Ask | SetTimer | Await | Count | CancelAction


# ---- state


@dataclass(slots=True)
class Intent:
    """An effect that was begun and has no outcome yet."""

    cmd: str
    body: dict[str, Json]
    at_ms: int
    reserve: Reserve
    unsettled: str = ""
    """Empty while in flight; `indefinite` after an error that leaves open what happened; `recovery` while `confirm`
    is asked about a call that was found without outcome; `doubt` in doubt."""


@dataclass(slots=True)
class Account:
    """What a child agent may use and has used. Limits are those of `Limits`, without the fields that have none:
    `steps`, `tokens`, `cost` (money text), `time_ms`, `active_ms`. `caps` are the limits less the reserve."""

    limits: dict[str, Json]
    caps: dict[str, Json]
    started_ms: int = 0
    steps: int = 0
    tokens: int = 0
    cost: str = "0"
    active_ms: int = 0
    warned: list[str] = field(default_factory=list)
    exceeded: str | None = None
    diverted: str | None = None
    """`exceeded` from the event until the agent has left the state it was in."""


@dataclass(slots=True)
class Frame:
    """One thread of control: the root (its path is empty), a branch, an item, a child agent, a call of a rollback, or
    `finally`.

    The path is that of the frame around it, the state with its visit, and `key`: `gather@4/web`, `do@1/3`. `home` is
    the path of the frame of the agent whose states these are; `region` says which of the agent's regions (`""` is its
    body, `gather/web` a branch, `STATE/each` an item).

    `phase`: enter (nothing done yet), act (effect open), join (frames of its own are open), finally (so are those of
    `finally`), backoff (waiting for a further attempt), ask, wait, confirm, leave (outcome known, edge to be chosen),
    ended. `outcome` is the event body the edges are chosen by.
    """

    path: str
    state: str
    visit: int = 1
    attempt: int = 1
    phase: str = "enter"
    outcome: dict[str, Json] | None = None
    counters: dict[str, int] = field(default_factory=dict)
    retries: dict[str, int] = field(default_factory=dict)
    entered_ms: int = 0
    scope: dict[str, Any] = field(default_factory=dict)
    """What this frame alone has set, bound or been given; empty in the root frame, whose variables are the run's."""
    call: dict[str, Json] | None = None
    """The call of this visit, frozen by its first intent: tool, args, key, effect, decision. Further
    attempts use exactly this."""
    error: dict[str, Json] | None = None
    """The last attempt's error: what a retry shows to a model."""
    fault: dict[str, Json] | None = None
    """An expression failed: the body of `faulted`. Only `on error any` and handlers match it."""
    event: dict[str, Json] | None = None
    """The event from outside that was consumed and whose edge is about to be taken."""
    idle: int = 0
    """Transitions since the last action: a program that turns without doing anything is parked."""
    kind: Literal["root", "branch", "item", "agent", "undo", "doubt", "finally"] = "root"
    agent: str = ""
    """The agent whose state this is; empty in the root frame and below it for the agent that the run is of."""
    region: str = ""
    parent: str | None = None
    key: str = ""
    home: str = ""
    flags: dict[str, frozenset[str]] = field(default_factory=dict)
    """Where the values in `scope` came from."""
    opened: dict[str, Json] | None = None
    """The body of the `opened` event whose frames are at work; of a call that takes something back, what it does."""
    ended: dict[str, dict[str, Json]] = field(default_factory=dict)
    """By key, how the frames of this visit that have ended did: how, value, error, message, from."""
    late: bool = False
    """The time of what was opened is over."""
    account: Account | None = None
    """Of a child agent."""
    monitors: dict[str, Json] = field(default_factory=dict)
    """Of a child agent: what its own rules count and remember."""
    made: Command | None = field(default=None, compare=False, repr=False)
    """The effect that the frame wants, where it follows from the frame alone: one that did not change need not make it
    again. No part of the state: it is not stored, not compared, and gone with the next change."""


@dataclass(slots=True)
class Question:
    """An open question to a person. `call` is the frozen call it grants: tool, args, key, digests."""

    id: str
    cmd: str
    frame: str
    state: str
    body: dict[str, Json]
    expires_at_ms: int | None
    approvals: list[dict[str, Json]] = field(default_factory=list)
    """Who approved so far (by, roles), where a rule wants several people."""
    facts: dict[str, Json] = field(default_factory=dict)
    """What the facts were that its call was decided by."""


@dataclass(slots=True)
class Grant:
    """A call a person approved: usable once, by the run that asked. `used_by` is the id of the call that used it.

    `approvers` are all the people who approved (by, roles); `by` names them in one text."""

    question: str
    state: str
    bind: str | None
    call: dict[str, Json]
    by: str
    at_ms: int
    used_by: str | None = None
    approvers: list[dict[str, Json]] = field(default_factory=list)
    home: str = ""
    """The agent whose question it was: an approval counts in that agent only."""
    frame: str = ""
    """The frame that asked: one beside it has no part in the approval."""
    seq: int = 0
    """The event that gave it; the latest is used first. Maps of a state have no order: a snapshot sorts them."""
    facts: dict[str, Json] = field(default_factory=dict)
    """What the facts were when the question was asked: if they are others now, the approval does not count."""


@dataclass(slots=True)
class Spent:
    """What was used so far. Cost is exact money text of the agent's currency; times in milliseconds."""

    steps: int = 0
    tokens: int = 0
    cost: str = "0"
    active_ms: int = 0


@dataclass(slots=True)
class RunState:
    """All that decides what a run does next: the fold of its journal."""

    run_id: str
    agent: str = ""
    status: Status = "running"
    seq: int = 0
    now_ms: int = 0
    started_ms: int = 0
    input: dict[str, Any] = field(default_factory=dict)
    principal: dict[str, Any] = field(default_factory=dict)
    vars: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, frozenset[str]] = field(default_factory=dict)
    """What is known of where a variable's value came from: `attested` (a person's answer), `untrusted`."""
    frames: dict[str, Frame] = field(default_factory=dict)
    intents: dict[str, Intent] = field(default_factory=dict)
    questions: dict[str, Question] = field(default_factory=dict)
    grants: dict[str, Grant] = field(default_factory=dict)
    timers: dict[str, int] = field(default_factory=dict)
    queue: list[dict[str, Json]] = field(default_factory=list)
    spent: Spent = field(default_factory=Spent)
    monitors: dict[str, Json] = field(default_factory=dict)
    """Compiled history of the policy: counts and sums per rule and group, never the calls themselves."""
    undo: list[dict[str, Json]] = field(default_factory=list)
    """What can be taken back, in order of completion: cmd, tool, args (or the error that kept them from being had)."""
    undo_failed: list[dict[str, Json]] = field(default_factory=list)
    """What a rollback could not take back: home, tool, why."""
    unresolved: list[str] = field(default_factory=list)
    """Writes that a cancellation without delay has left in flight."""
    warned: list[str] = field(default_factory=list)
    """The dimensions of the budget that a warning was journaled for."""
    exceeded: str | None = None
    diverted: str | None = None
    """`exceeded` or `cancel` from the event until the run has left the state it was in."""
    facts: dict[str, dict[str, Json]] = field(default_factory=dict)
    """Reads the engine made for decisions, by name and arguments, with their time."""
    counted: dict[str, Json] | None = None
    """What all runs have used of shared limits: cmd, used. Known for the next event only, since it may change."""
    overruns: list[dict[str, Json]] = field(default_factory=list)
    """Usage above a reservation, to be journaled."""
    cancelling: dict[str, Json] | None = None
    parked: dict[str, Json] | None = None
    output: dict[str, Any] | None = None
    final_state: str | None = None
    policy: Mode = "enforce"
    """With `shadow` every call is decided as ever, and made whatever was decided."""
    origin: dict[str, Json] | None = None
    """Of a fork: run, seq and hash of the event that it goes on after, and whether it is live."""
