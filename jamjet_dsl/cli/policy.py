"""`jam policy test`: recorded calls of any agent, decided by a policy. Nothing is run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from jamjet_dsl.cli.common import OK, debug_option, exit_code, first_taken, format_option, parse_json, print_json, tell
from jamjet_dsl.cli.text import load
from jamjet_dsl.cli.words import counted, plain
from jamjet_dsl.diagnostics.errors import JamError

if TYPE_CHECKING:
    from jamjet_dsl.evaluate.traces import Judge, Judged, Tally
    from jamjet_dsl.kernel.rules import Verdict

MAX_LINE = 16 * 1024 * 1024
"""Bytes of one trace. What is longer is passed over, and said."""

_WORDS: dict[Verdict, str] = {"allowed": "allowed", "needs_approval": "needs approval", "denied": "denied"}


@click.group("policy")
def policy_command() -> None:
    """The policy of a program, on its own."""


@policy_command.command("test", short_help="Decide recorded calls of any agent; nothing is run.")
@click.argument("program", metavar="FILE[:AGENT]")
@click.argument("traces", metavar="TRACES.jsonl|-")
@click.option("--now", metavar="T", help="The time of traces that do not say theirs (RFC 3339). Default: now.")
@format_option("human", "json")
@debug_option
def test_command(program: str, traces: str, now: str | None, form: str) -> int:
    """Decide recorded calls without running anything: one JSON object a line, each a sequence of calls with their
    arguments, results and facts (docs/policy.md). Exits with 0 when every line could be read, whatever was decided."""
    from jamjet_dsl.evaluate.traces import Judge

    if program == "-" and traces == "-":
        raise JamError("JAMR006", "stdin cannot be the program and the traces", "name a file for one of them")
    compiled = load(program)
    if taken := first_taken(program, compiled):
        click.echo(f"note: {taken}", err=True)
    judge = Judge(compiled, _time(now))
    shown, code = _Shown(), OK
    for number, line in _lines(traces):
        try:
            judged = judge.judge(_trace(line), f"line {number}")
        except JamError as error:
            tell(JamError(error.code, f"{traces}:{number}: {error.message}", error.help, error.details))
            code = max(code, exit_code(error))
            continue
        if form == "json":
            print_json(judged.as_json())
        else:
            shown.trace(judged)
    if form == "human":
        shown.table(judge)
    return code


def _time(text: str | None) -> int:
    """`--now` in milliseconds since 1970, or what the clock says. Raises JamError JAMR006 for no time."""
    if text is None:
        from jamjet_dsl.engine.clock import SystemClock

        return SystemClock().now_ms()
    from jamjet_dsl.evaluate.traces import time_ms

    try:
        return time_ms(int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else text)
    except ValueError as problem:
        raise JamError("JAMR006", f"--now: {problem}", "write a time such as 2026-11-23T08:00:00Z") from None


def _lines(name: str) -> Iterator[tuple[int, bytes]]:
    """The lines that hold something, with their numbers from 1, one in memory at a time.

    Raises JamError JAMR001 for what cannot be read.
    """
    if name == "-":
        if sys.stdin is None:
            raise JamError("JAMR001", "stdin cannot be read: it is closed", "name a file, or open it")
        yield from _numbered(sys.stdin.buffer)
        return
    try:
        with open(name, "rb") as file:
            yield from _numbered(file)
    except OSError as error:
        raise JamError("JAMR001", f"{name} cannot be read: {error.strerror}") from None


def _numbered(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        rest = line
        line = line.rstrip(b"\r\n")
        while len(rest) > MAX_LINE and not rest.endswith(b"\n"):
            rest = file.readline(MAX_LINE + 1)  # the rest of a line that is too long is read, and not kept
        if line.strip() or len(line) > MAX_LINE:
            yield number, line


def _trace(line: bytes) -> Any:
    """One line as JSON. Raises JamError: JAMR002, JAMR003, JAMR301."""
    if len(line) > MAX_LINE:
        raise JamError("JAMR003", f"the line has more than {MAX_LINE:,} bytes", "split the trace")
    try:
        text = line.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError as error:
        raise JamError("JAMR002", f"the line is not UTF-8: byte {error.start + 1}") from None
    return parse_json(text, "the line")


class _Shown:
    """What people see: the calls that were not allowed as they come, then the rules."""

    def __init__(self) -> None:
        self.traces = self.calls = 0

    def trace(self, judged: Judged) -> None:
        """One trace more, and what of it was not allowed."""
        self.traces += 1
        self.calls += len(judged.decisions)
        for decided in judged.decisions:
            if decided.decision != "allowed":
                sign = click.style(_WORDS[decided.decision], fg="red" if decided.decision == "denied" else "yellow")
                call = f"{plain(judged.id)} call {decided.call} {plain(decided.tool)}"
                where = f"  {click.style(', '.join(decided.rules), dim=True)}" if decided.rules else ""
                click.echo(f"{sign} {call}: {plain(decided.reason)}{where}")

    def table(self, judge: Judge) -> None:
        """A row for each rule: how often it decided, and what."""
        if self.calls:
            click.echo("")
        rows = [self._row(tally) for tally in judge.tallies if tally.decides or tally.counts]
        columns = ["allowed", "needs approval", "denied"]
        wide = max([len(place) for place, _, _ in rows], default=0)
        click.echo(f"{'rule':<{wide}}  {'  '.join(columns)}")
        for place, counts, text in rows:
            cells = "  ".join(f"{n or '·':>{len(c)}}" for n, c in zip(counts, columns, strict=True))
            click.echo(f"{place:<{wide}}  {cells}  {click.style(_cut(text), dim=True)}")
        click.echo(f"{counted(self.traces, 'trace')}, {counted(self.calls, 'call')}: {_sum(judge.verdicts)}")

    def _row(self, tally: Tally) -> tuple[str, list[int], str]:
        return tally.place, [tally.counts.get(verdict, 0) for verdict in _WORDS], tally.text


def _cut(text: str) -> str:
    """A rule in few words: what it is about stands at its beginning, and its condition at its end."""
    return text if len(text) <= 110 else f"{text[:45]} … {text[-62:]}"


def _sum(verdicts: dict[Verdict, int]) -> str:
    allowed, waiting, denied = (verdicts.get(verdict, 0) for verdict in _WORDS)
    return f"{allowed:,} allowed, {waiting:,} need approval, {denied:,} denied"
