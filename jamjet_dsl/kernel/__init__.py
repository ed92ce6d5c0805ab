"""The kernel: what a run does next, as a pure function of its journal.

What the shell calls, and nothing else:

    from jamjet_dsl.kernel.program import Program
        Program.of(definition) -> Program            compiled once, cached by the definition's identity

    from jamjet_dsl.kernel.machine import apply, decide, initial, fold, due
        initial(run_id) -> RunState                  before the first event
        apply(program, state, event) -> RunState     pure; shares what did not change
        (fold.fold_into(program, draft, …) folds several events into one draft: what a shell uses for a transition)
        decide(program, state) -> list[Command]      see below
        fold(program, run_id, events) -> RunState
        due(state, now_ms) -> list[(kind, body)]     `fired` events for the timers that are due, in order
        next_wake(state) -> int | None               when the first timer is due

    from jamjet_dsl.kernel import inputs             everything that comes from outside, validated into (kind, body)
        inputs.started(program, input_json, principal, bindings) -> (kind, body)             JamError JAMR301
        inputs.succeeded(program, state, command, value, usage, duration_ms, messages=()) -> (kind, body)
        inputs.failed(program, state, command, error, message, *, sent=True, usage=None,
                      duration_ms=0, retry_after_ms=None) -> (kind, body)
        inputs.answered(program, state, question_id, option, form_json, by, roles) -> (kind, body)   JAMR401-404, 409
        inputs.received(program, state, name, payload_json, id, by) -> (kind, body)          JAMR405, 406
        inputs.cancelling(program, state, by, note, now) -> (kind, body)                     JAMR204
        inputs.retry(program, state, by, note) -> (kind, body)                               JAMR408
        inputs.settle(program, state, happened, result_json, by, note, cmd=None) -> (kind, body)     JAMR407, 302

    from jamjet_dsl.kernel.recovery import recover
        recover(program, state) -> list[Record]      after a claim of a run that did not end: append these first

    from jamjet_dsl.kernel.state_json import encode, decode, digest    snapshots
    from jamjet_dsl.kernel.policy import Fence, decide_call            the policy alone, for any agent framework

Inside: `program` (a definition, looked at once) and `scope` (what expressions see) are under everything; `fold`,
`outcomes`, `frames` and `versions` are `apply`; `machine`, `actions`, `calls`, `opening`, `leave` and `way` are
`decide`; `rules` with `monitors` and `budget` are what they ask. `specs/60-runs.md` says what all of it has to do.

How the shell drives a run. `command` is what `decide` returned; `value` is what the tool gave (JSON or Python
values, before validation: the kernel validates it, and what does not fit becomes `failed InvalidOutput`).
`usage` is `{"tokens_in": int, "tokens_out": int, "cost": money text or None}`, or None if nothing is known.

    1. events = [what happened]; apply it. Loop: commands = decide(...). While the list holds a `Record`: append
       it as an event, apply it, decide again. At most one Record stands in a list; `CancelAction`s may stand
       before it and are carried out once the Record is committed. All this is one transaction.
    2. Then only effects and awaits are left. For each `Call` or `Think` whose `intent` is not None append an
       `intent` event (same transaction) and decide again, since it may have taken the room of the others; then
       start it. A command whose intent is journaled already comes back with `intent=None`. Start an id once per
       process, and while the run is parked only what has an intent. A call whose declared key stands for other
       arguments already, in whatever run, is not begun: append `records.key_refused(...)` instead of its intent.
    3. `Ask`: draw a question id, append `asked` with body `{**command.body, "question": id}`.
       `SetTimer`: draw a time in [at_ms - spread_ms, at_ms], append an event of kind `command.record` with
       `{**command.body, "at_ms": drawn}`. Then decide again: the run now awaits it.
    4. `Await` needs no action: it says what the run waits for. All times at which a run must be woken are in
       `state.timers` (also budgets, reminders, expiry of questions): use `next_wake` and `due`.
       A `fired` whose id ends in `/remind` is a reminder for an open question.
    5. An effect whose id is no longer among the commands is not wanted any more: cancel it if it can be.
       Its outcome, if there is one, still goes through `inputs.succeeded/failed`, which say `late` then.
"""
