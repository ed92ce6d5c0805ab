"""`jam forecast`: the odds of a program, its steps, cost and time, and what retries and checkpoints are worth."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jamjet_dsl.cli.common import OK, debug_option, first_taken, format_option, print_json, split_agent
from jamjet_dsl.cli.text import load
from jamjet_dsl.cli.words import counted, plain
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.render.readable import duration, money

if TYPE_CHECKING:
    from jamjet_dsl.definition import Definition
    from jamjet_dsl.forecast.fit import Fitted
    from jamjet_dsl.forecast.inputs import Said
    from jamjet_dsl.forecast.results import Forecast, Share

_MOST_RUNS = 10_000_000
_HEADS = ("as written", "without retries", "without checkpoints", "without both")
_HOWS = {
    "completed": "completes",
    "failed": "fails",
    "exceeded": "exceeds its budget",
    "parked": "parks",
    "doubt": "parks in doubt",
    "waiting": "waits for ever",
    "lost": "is lost with its process",
}
_SHOWN = 8
"""Rows of a ranking."""
_ROWS = 12
"""Rows of the table of steps."""


@click.command("forecast")
@click.argument("program", metavar="FILE[:AGENT]")
@click.option("--reliability", "reliability", multiple=True, metavar="NAME=P", help="How likely one attempt goes well.")
@click.option("--errors", "errors", multiple=True, metavar="NAME=E:N,…", help="In which shares it fails with which.")
@click.option("--latency", "latency", multiple=True, metavar="NAME=T", help="How long one attempt, or a person, takes.")
@click.option("--tokens", "tokens", multiple=True, metavar="STATE=IN+OUT", help="What a model's answer uses.")
@click.option("--take", "take", multiple=True, metavar="STATE/EDGE=P", help="How likely that way is taken.")
@click.option("--items", "items", multiple=True, metavar="STATE=N", help="How many items an `each` has.")
@click.option("--crash", metavar="P", help="How likely the process dies during one attempt.")
@click.option("--no-checkpoint", is_flag=True, help="Lead with the odds of a run that is lost with its process.")
@click.option("--from", "db", metavar="DB", help="Fit odds, times, tokens and costs from the journals of a database.")
@click.option("--monte-carlo", "runs", type=click.IntRange(1, _MOST_RUNS), metavar="N", help="Run it N times as well.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of these runs.")
@click.option("-o", "output", metavar="F.svg", help="Draw what a budget of steps does to the odds.")
@format_option("human", "json")
@debug_option
def forecast_command(
    program: str,
    crash: str | None,
    no_checkpoint: bool,
    db: str | None,
    runs: int | None,
    seed: int,
    output: str | None,
    form: str,
    **said: tuple[str, ...],
) -> int:
    """The odds of a program: of completing, and of every other end; its steps, tokens, cost and time; what its retries
    and checkpoints are worth, side by side.

    NAME is a tool, a model, a state or `*`; P a percentage. What is not said here stands in `[forecast]` of jam.toml,
    or is fitted with --from; what nobody says goes well, at once, by any edge alike. docs/forecast.md says the rest.
    """
    _is_svg(output)
    compiled = load(program)
    if taken := first_taken(program, compiled):
        click.echo(f"note: {taken}", err=True)
    from jamjet_dsl.forecast.assumed import Assumed
    from jamjet_dsl.forecast.inputs import Reader, Said, of_option, undeclared
    from jamjet_dsl.forecast.results import forecast, monte_carlo

    defn = compiled.definition
    fitted = None if db is None else _fitted(db, defn)
    options = [of_option(kind, text) for kind, texts in said.items() for text in texts]
    if crash is not None:
        options.append(Said("crash", "", crash, "--crash"))
    given = Reader(defn).given([_declared(program), options], None if fitted is None else fitted.given)
    found = forecast(defn, given)
    found.notes += undeclared(Assumed(defn, given))
    if runs is not None:
        found.samples = monte_carlo(found, runs, seed)
    if output is not None:
        _draw(found, output)
    if form == "json":
        from jamjet_dsl.forecast.told import as_json

        print_json(as_json(found, fitted, first="without_checkpoints" if no_checkpoint else "as_written"))
    else:
        click.echo("\n".join(_told(found, fitted, no_checkpoint)))
    return OK


# ---- what goes in


def _is_svg(output: str | None) -> None:
    """Raises JamError JAMR006 for a picture that cannot be drawn: before anything is computed."""
    if output is not None and not output.lower().endswith(".svg"):
        raise JamError(
            "JAMR006",
            f"{output} does not say what to draw: the plot is drawn as SVG",
            "end the name with .svg; a browser, or any SVG converter, makes a PNG of it",
        )


def _declared(program: str) -> list[Said]:
    """`[forecast]` of the jam.toml beside the program."""
    from jamjet_dsl.cli.settings import NAME, table
    from jamjet_dsl.forecast.inputs import of_table

    path, _ = split_agent(program)
    folder = Path(path if os.path.isdir(path) else os.path.dirname(path) or ".") if path != "-" else Path.cwd()
    found = table(folder, "forecast")
    return [] if found is None else of_table(found, str(folder / NAME))


def _fitted(db: str, defn: Definition) -> Fitted:
    """What the journals of a database say. Raises JamError JAMR101 where there is none."""
    from jamjet_dsl.forecast.fit import fit
    from jamjet_dsl.store.sqlite import SqliteStore

    if not os.path.exists(db):
        raise JamError("JAMR101", f"there is no run database at {db}", "name one with --from: `jam run` prints which")
    store = SqliteStore(db, read_only=True)
    try:
        return fit(store, defn)
    finally:
        store.close()


def _draw(found: Forecast, output: str) -> None:
    from jamjet_dsl.forecast.plot import svg

    try:
        Path(output).write_text(svg(found), encoding="utf-8")
    except OSError as error:
        raise JamError("JAMR001", f"{output} cannot be written: {error.strerror or error}") from None
    click.echo(f"drew {output}", err=True)


# ---- what comes out


def percent(chance: float) -> str:
    """A chance as people read it, to six digits."""
    return f"{100 * chance:.6g} %" if chance >= 5e-13 else "0 %"


def _told(found: Forecast, fitted: Fitted | None, no_checkpoint: bool) -> list[str]:
    first = found.columns["without_checkpoints" if no_checkpoint else "as_written"]
    name = click.style(plain(found.defn.main), bold=True)
    how = " without checkpoints" if no_checkpoint else ""
    lines = [f"{name} completes with {percent(first.completes)}{how}", ""]
    lines += _columns(found)
    lines += _ranking("what failing costs, in odds of completing", found.failing, percent, "never failing is worth")
    lines += _ranking("what it costs", found.costly, lambda cost: _money(cost, found), "")
    lines += _steps(found)
    if found.samples is not None:
        lines += _sampled(found)
    lines += _where_from(found, fitted)
    return lines


def _money(cost: float, found: Forecast) -> str:
    from jamjet_dsl.forecast.results import cost_text

    return money(cost_text(cost, found.currency))


def _time(ms: float) -> str:
    """A time to about three digits."""
    unit = next((unit for least, unit in ((600_000, 60_000), (10_000, 1_000), (1_000, 100)) if ms >= least), 1)
    return duration(round(ms / unit) * unit)


def _columns(found: Forecast) -> list[str]:
    """The four ways to run it, side by side."""
    columns = list(found.columns.values())
    rows: list[tuple[str, list[str]]] = [("", list(_HEADS))]
    for how, word in _HOWS.items():
        if how == "completed" or any(column.odds[how] >= 5e-13 for column in columns):
            rows.append((word, [percent(column.odds[how]) for column in columns]))
    for what, show in (
        ("steps", lambda n: f"{n:.6g}"),
        ("tokens", lambda n: f"{n:,.0f}"),
        ("cost", lambda n: _money(n, found)),
        ("time", _time),
    ):
        if any(column.amounts[what].p95 or column.amounts[what].expected for column in columns):
            rows.append((f"{what}, expected", [show(column.amounts[what].expected) for column in columns]))
            rows.append((f"{what}, 95 % within", [show(column.amounts[what].p95) for column in columns]))
    left = max(len(label) for label, _ in rows)
    wide = [max(len(cells[n]) for _, cells in rows) for n in range(len(columns))]
    return [f"  {label:<{left}}  {_row(cells, wide)}" for label, cells in rows]


def _row(cells: list[str], wide: list[int]) -> str:
    return "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, wide, strict=True))


def _ranking(title: str, shares: list[Share], show: Any, words: str) -> list[str]:
    if not shares:
        return []
    lines = ["", f"{title}:"]
    left = max(len(plain(share.place)) for share in shares[:_SHOWN])
    for share in shares[:_SHOWN]:
        told = f"{words} {show(share.amount)}" if words else show(share.amount)
        lines.append(f"  {plain(share.place):<{left}}  {told}, {share.share:.1%} of all")
    if len(shares) > _SHOWN:
        rest = shares[_SHOWN:]
        lines.append(f"  and {counted(len(rest), 'state')} more, {sum(s.share for s in rest):.1%} of all")
    return lines


def _steps(found: Forecast) -> list[str]:
    from jamjet_dsl.forecast.told import rows_of

    table = found.budget
    rows = rows_of(found, _ROWS)
    lines = ["", "what a budget of steps does to the odds of completing:"]
    wide = [max(len(head), 12) for head in _HEADS]
    lines.append(f"  {'steps':>7}  {_row(list(_HEADS), wide)}")
    for steps in rows:
        cells = [percent(column.get(steps, column[max(column)])) for column in table.values()]
        mark = " (as declared)" if steps == found.declared_steps else ""
        lines.append(f"  {steps:>7}  {_row(cells, wide)}{mark}")
    return lines


def _sampled(found: Forecast) -> list[str]:
    from jamjet_dsl.forecast.told import compared

    samples = found.samples
    assert samples is not None
    lines = ["", f"{samples.runs:,} runs of the kernel by the same odds, seed {samples.seed}:"]
    for row in compared(found):
        what = row["what"]
        show: Callable[[float], str] = percent if what in _HOWS else _number
        word = _HOWS.get(what, f"{what}, expected" + (" (ms)" if what == "time" else ""))
        low, high = (show(value) for value in row["interval"])
        off = row["sampled"] - row["exact"]
        lines.append(
            f"  {word:<24} {show(row['sampled']):>12}, 95 % sure from {low} to {high};"
            f" exact {show(row['exact'])}, difference {'-' if off < 0 else '+'}{show(abs(off))}"
        )
    return lines


def _number(value: float) -> str:
    return f"{value:,.6g}"


def _where_from(found: Forecast, fitted: Fitted | None) -> list[str]:
    """What the figures rest on."""
    from jamjet_dsl.forecast.told import exactness

    lines = ["", "assumed:"]
    if fitted is not None:
        defs = ", ".join(f"{digest[:12]} ({n})" for digest, n in fitted.definitions.most_common())
        left_out = f"; {counted(fitted.forks, 'fork')} left out" if fitted.forks else ""
        lines.append(f"  fitted from {counted(fitted.runs, 'run')} of definitions {defs}{left_out}")
        lines += [f"    {plain(o.kind)} {plain(o.name)}: {o.text} ({o.times} observed)" for o in fitted.observed]
        if fitted.unobserved:
            lines.append(f"    never observed, so by default: {', '.join(map(plain, fitted.unobserved))}")
    for name, chance in sorted(found.given.reliability.items()):
        lines.append(f"  an attempt at {plain(name)} goes well with {percent(chance)}")
    if "*" not in found.given.reliability:
        lines.append(f"  {'any other attempt' if found.given.reliability else 'every attempt'} goes well")
    if found.given.crash:
        lines.append(f"  the process dies in an attempt with {percent(found.given.crash)}")
    lines += [f"  {plain(note, None)}" for note in found.notes]
    lines.append("  the policy allows every call; guards and people choose alike where --take says nothing")
    lines.append(f"  {exactness(found)}")
    return lines
