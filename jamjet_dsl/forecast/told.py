"""A forecast as data, for `--format json` and for what is printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jamjet_dsl.forecast.results import HOWS, Column, Forecast, Share, cost_text
from jamjet_dsl.forecast.sample import AMOUNTS, NORMAL_95, interval

if TYPE_CHECKING:
    from jamjet_dsl.forecast.fit import Fitted

_KEYS = {
    "completed": "completes",
    "failed": "fails",
    "exceeded": "exceeds",
    "parked": "parks",
    "doubt": "parks_in_doubt",
    "waiting": "waits_forever",
    "lost": "lost",
}
_UNITS = {"steps": "", "tokens": "", "cost": "of 10^-12", "time": "ms"}


def as_json(found: Forecast, fitted: Fitted | None = None, first: str = "as_written") -> dict[str, Any]:
    """All of it. The keys of one column stand at the top too: those of the program as written, or of `first`."""
    return {
        **_column(found, found.columns[first]),
        "agent": found.defn.main,
        "definition": found.defn.digest,
        "column": first,
        "columns": {name: _column(found, column) for name, column in found.columns.items()},
        "ends": [
            {"how": end.how, "state": end.place, "why": end.why, "exceeded": end.exceeded, "probability": mass}
            for end, mass in sorted(found.columns[first].ends.items(), key=lambda item: -item[1])
        ],
        "failing": [_share(share, share.amount) for share in found.failing],
        "costly": [_share(share, cost_text(share.amount, found.currency)) for share in found.costly],
        "step_budget": [
            {"steps": steps, **{name: table.get(steps, table[max(table)]) for name, table in found.budget.items()}}
            for steps in range(1, max(max(table) for table in found.budget.values()) + 1)
        ],
        "declared_steps": found.declared_steps,
        "assumed": _assumed(found),
        "fitted": None if fitted is None else _fit(fitted),
        "notes": found.notes,
        "exact": {
            "states": len(found.written.chain.arcs),
            "transitions": found.written.chain.transitions,
            "ignored": found.written.ignored,
            "grid": found.written.grid,
        },
        "monte_carlo": None
        if found.samples is None
        else {"runs": found.samples.runs, "seed": found.samples.seed, "compared": compared(found)},
    }


def _column(found: Forecast, column: Column) -> dict[str, Any]:
    amounts = column.amounts
    cost = amounts["cost"]
    return {
        **{_KEYS[how]: column.odds[how] for how in HOWS},
        "steps": amounts["steps"]._asdict(),
        "tokens": amounts["tokens"]._asdict(),
        "cost": {"expected": cost_text(cost.expected, found.currency), "p95": cost_text(cost.p95, found.currency)},
        "time_ms": amounts["time"]._asdict(),
    }


def _share(share: Share, amount: Any) -> dict[str, Any]:
    return {"state": share.place, "amount": amount, "share": share.share}


def _assumed(found: Forecast) -> dict[str, Any]:
    given = found.given
    return {
        "reliability": given.reliability,
        "errors": given.errors,
        "latency_ms": {name: [[chance, ms] for chance, ms in times] for name, times in given.latency.items()},
        "tokens": {name: list(both) for name, both in given.tokens.items()},
        "cost": given.cost,
        "take": given.take,
        "items": given.items,
        "crash": given.crash,
    }


def _fit(fitted: Fitted) -> dict[str, Any]:
    return {
        "runs": fitted.runs,
        "forks_left_out": fitted.forks,
        "definitions": dict(fitted.definitions),
        "observed": [row._asdict() for row in fitted.observed],
        "unobserved": fitted.unobserved,
    }


def compared(found: Forecast) -> list[dict[str, Any]]:
    """What the sampled runs say beside what was computed: for each kind of end and each amount the share or the mean,
    its 95 % confidence interval, and the exact figure."""
    samples = found.samples
    assert samples is not None
    rows: list[dict[str, Any]] = []
    for how in HOWS:
        share, exact = samples.share(how), found.written.odds[how]
        if how == "completed" or share or exact >= 5e-13:
            low, high = interval(share, samples.runs)
            rows.append({"what": how, "sampled": share, "interval": [low, high], "exact": exact})
    for what in AMOUNTS:
        mean, error = samples.average(what)
        exact = found.written.amounts[what].expected
        if mean or exact:
            half = NORMAL_95 * error
            rows.append({"what": what, "sampled": mean, "interval": [mean - half, mean + half], "exact": exact})
    return rows


def rows_of(found: Forecast, most: int) -> list[int]:
    """Which numbers of steps a short table shows: from the last that no run completes in to the last that changes
    anything, evenly, and the one that is declared."""
    tables = found.budget.values()
    last = max(max(table) for table in tables)
    first = min((steps for table in tables for steps, odds in table.items() if odds > 0), default=last)
    final = {id(table): table[max(table)] for table in tables}
    settled = [min(steps for steps, odds in t.items() if odds >= final[id(t)] - 1e-9) for t in tables]
    first = max(first - 1, 1)
    end = max([*settled, first])
    known = found.declared_steps
    if known is not None:
        end = max(end, min(known, last))
    number = min(most, end - first + 1)
    shown = {first + round((end - first) * n / max(number - 1, 1)) for n in range(number)}
    return sorted(shown | ({known} if known is not None and known <= last else set()))


def exactness(found: Forecast) -> str:
    """How exact the figures are, in one sentence."""
    column = found.written
    text = f"exact: a chain of {len(column.chain.arcs):,} states and {column.chain.transitions:,} transitions"
    if column.ignored:
        text += f"; limits that fewer than {column.ignored:.0e} of all runs come near are left out"
    if column.grid:
        grids = ", ".join(f"{what} by {width:,} {_UNITS[what]}".rstrip() for what, width in column.grid.items())
        text += f"; too many different sums, so percentiles count {grids}"
    return text
