"""The kernel alone, in memory, against state machine libraries: transitions a second, nothing stored."""

from __future__ import annotations

from bench.durable.measure import Bench, Entry, Result, Rounds, ratio, spread, table

EVENTS = 20_000
ENTRIES = [
    Entry("a table and a call", "peers.machines", ("--library", "table")),
    Entry("jamjet_dsl, transitions that set", "ours_kernel", ("--job", "set")),
    Entry("jamjet_dsl, the same by `advance`", "ours_kernel", ("--job", "set-advance")),
    Entry("jamjet_dsl, calls of a tool that reads", "ours_kernel", ("--job", "call")),
    Entry("jamjet_dsl, calls by `advance`", "ours_kernel", ("--job", "call-advance")),
    Entry("transitions", "peers.machines", ("--library", "transitions"), "transitions"),
    Entry("transitions, with a condition", "peers.machines", ("--library", "transitions-guarded"), "transitions"),
    Entry("sismic", "peers.machines", ("--library", "sismic"), "sismic"),
    Entry(
        "python-statemachine", "peers.machines", ("--library", "python-statemachine"), "python-statemachine", share=0.5
    ),
    Entry("pydantic-graph", "peers.machines", ("--library", "pydantic-graph"), "pydantic-graph", share=0.5),
]


def part_kernel(bench: Bench) -> str:
    """The table; ratios are to `transitions` in the same round."""
    wanted = [entry for entry in ENTRIES if bench.wants(entry)]
    rounds: Rounds = {}
    for number in range(bench.rounds):
        for entry in wanted if number % 2 == 0 else reversed(wanted):
            result = bench.run(entry, "--events", str(bench.size(round(EVENTS * entry.share), 50)))
            if result is not None:
                rounds.setdefault(entry.name, []).append({**result, "round": number})
    bench.results["kernel"] = rounds
    against = rounds.get("transitions")
    rows = [
        [
            entry.name,
            *(f(mine, key) for key in ("rate", "best") for f in (spread, lambda m, k: against_it(m, against, k))),
        ]
        for entry in wanted
        if (mine := rounds.get(entry.name))
    ]
    note = (
        "A slice is 500 transitions: the quickest one says what the code costs where nobody else used the machine. "
        "This kernel evaluates guards, checks budgets and makes the event of every transition; the libraries do none"
        " of it. There is no policy in the first two of its jobs; a call is two events: outcome and transition."
    )
    head = ["", "transitions/s", "÷ transitions", "best slice", "÷ transitions"]
    return f"{table(head, rows)}\n\n{note}"


def against_it(mine: list[Result], other: list[Result] | None, key: str) -> str:
    """The ratio of two entries as it is shown."""
    return f"{ratio(mine, other, key):.2f}" if other else ""
