"""What `jam test --coverage` says and draws: a table over the agents, what no test passes, the diagram in two
colours."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from jamjet_dsl.cli.common import colour
from jamjet_dsl.cli.words import plain
from jamjet_dsl.diagnostics.errors import JamError

if TYPE_CHECKING:
    from jamjet_dsl.cli.tested import TestedFile
    from jamjet_dsl.definition import Compiled
    from jamjet_dsl.engine.coverage import Coverage


class Row(NamedTuple):
    """An agent and its coverage."""

    file: TestedFile
    compiled: Compiled
    coverage: Coverage


class Table(NamedTuple):
    """The coverage of every agent of the files."""

    rows: tuple[Row, ...]

    @property
    def total(self) -> float:
        """How much of all states and edges was passed, in percent."""
        from jamjet_dsl.engine.coverage import percent

        counted = [pair for row in self.rows for pair in (row.coverage.states, row.coverage.edges)]
        return percent(sum(hits for hits, _ in counted), sum(all_ for _, all_ in counted))


def covered(files: Sequence[TestedFile]) -> Table:
    """The coverage of the agents by all tests together: a test of an agent passes those that it runs too."""
    from jamjet_dsl.engine.coverage import Coverage

    rows = tuple(Row(file, compiled, Coverage(compiled)) for file in files for compiled in file.agents)
    # The same agent may be in several programs, under another name where two files declare one.
    names: dict[tuple[str, str], list[tuple[TestedFile, Compiled, str]]] = {}
    for file, compiled, _ in rows:
        for name in compiled.definition.agents:
            names.setdefault(_declared(file, compiled, name), []).append((file, compiled, name))
    for file, compiled, coverage in rows:
        for other, program, name in names[_declared(file, compiled, compiled.definition.main)]:
            for result in other.results:
                if result.agent == program.definition.main:
                    coverage.add(result.through, name)
    return Table(rows)


def _declared(file: TestedFile, compiled: Compiled, agent: str) -> tuple[str, str]:
    """What makes two agents of two programs the same: the file that declares it, and its written name."""
    span = compiled.spans.get(agent)
    return os.path.abspath(file.folder + (span.file if span is not None else "")), agent.partition("@")[0]


def table_text(table: Table) -> str:
    """A row for each agent, and what no test passes, one a line (JAM904)."""
    from jamjet_dsl.diagnostics.render import render

    cells = [("coverage", "states", "", "edges", "")]
    several = len({row.file.path for row in table.rows}) > 1
    for file, _, c in table.rows:
        name = f"{file.path}:{c.agent.name}" if several else c.agent.name
        cells.append((plain(name), *_cells(*c.states), *_cells(*c.edges)))
    widths = [max(len(row[n]) for row in cells) for n in range(5)]
    lines = []
    for n, row in enumerate(cells):
        padded = [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        line = "  ".join(padded).rstrip()
        lines.append(click.style(line, bold=True) if n == 0 else line)
    lines.append(f"{table.total:.1f} % of all states and edges")
    found = [finding for file, _, c in table.rows for finding in c.findings(file.folder)]
    return "\n".join(lines) + "\n" + render(found, "concise", color=colour(sys.stdout)).rstrip("\n")


def _cells(hits: int, all_: int) -> tuple[str, str]:
    from jamjet_dsl.engine.coverage import percent

    return f"{hits}/{all_}", f"{percent(hits, all_):.1f} %"


def table_json(table: Table) -> dict[str, Any]:
    """The same as JSON."""
    from jamjet_dsl.diagnostics.json_ import diagnostic_json

    agents = []
    for file, _, coverage in table.rows:
        (states, of_states), (edges, of_edges) = coverage.states, coverage.edges
        agents.append(
            {
                "file": file.path,
                "agent": coverage.agent.name,
                "states": {"covered": states, "all": of_states},
                "edges": {"covered": edges, "all": of_edges},
                "not_covered": [diagnostic_json(finding) for finding in coverage.findings(file.folder)],
            }
        )
    return {"percent": round(table.total, 2), "agents": agents}


def draw(table: Table, target: str) -> None:
    """The diagrams: one into `target`, several into files beside each other, `F.AGENT.svg`.

    Raises JamError JAMR006 for a form that is not known, or for several diagrams on stdout; JAMR001 for a file that
    cannot be written.
    """
    from jamjet_dsl.cli.graph import write_picture

    if target == "-" and len(table.rows) > 1:
        raise JamError("JAMR006", f"{len(table.rows)} diagrams do not fit one output", "name one as FILE:AGENT")
    for row, name in zip(table.rows, _targets(table.rows, target), strict=True):
        write_picture(row.compiled, name, row.coverage.overlay())


def _targets(rows: Sequence[Row], target: str) -> Iterable[str]:
    """Where each diagram goes. Agents of one name are told apart by their files, and else by a number."""
    if len(rows) <= 1:
        return [target] * len(rows)
    stem, ending = os.path.splitext(target)
    names = [row.coverage.agent.name for row in rows]
    files = [os.path.splitext(os.path.basename(row.file.path))[0] for row in rows]
    found: list[str] = []
    for file, name in zip(files, names, strict=True):
        wanted = f"{stem}.{name}" if names.count(name) == 1 else f"{stem}.{file}.{name}"
        same = sum(known.startswith(wanted) for known in found)
        found.append(f"{wanted}.{same + 1}{ending}" if f"{wanted}{ending}" in found else f"{wanted}{ending}")
    return found
