"""From text to findings, and from a program without errors to its definition.

Nothing that a program names is run, imported or fetched: other `.jam` files below the folder of the main one
are read, and that is all.
"""

from __future__ import annotations

import gc
import os
import posixpath
import re
from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

from jamjet_dsl.analysis.model import AgentInfo, Analysis
from jamjet_dsl.analysis.report import Report
from jamjet_dsl.analysis.resolve import Unit, report_unused, resolve
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.diagnostics.model import Diagnostic
from jamjet_dsl.diagnostics.suppress import Suppressed, apply
from jamjet_dsl.source import SourceFile
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.parser import parse

if TYPE_CHECKING:
    from jamjet_dsl.definition import Compiled

MAX_BYTES = 16 * 1024 * 1024
"""The largest file that is read: a program of a hundred thousand lines is half of it."""

DEPLOYMENT = "jam.toml"
"""The file beside a program that says who has which role; `cli.settings` reads the rest of it."""

MAX_FILES = 1000
"""The most files that one program imports, directly or not."""


class ProgramRefused(JamError):
    """A program has errors; `diagnostics` are all findings about it, in order."""

    def __init__(self, name: str, diagnostics: list[Diagnostic]) -> None:
        self.diagnostics = diagnostics
        errors = [d for d in diagnostics if d.severity == "error"]
        details = tuple(f"{d.span}: {d.code}: {d.message}" for d in errors[:20])
        if len(errors) > len(details):
            details += (f"and {len(errors) - len(details)} more",)
        super().__init__("JAMR004", f"{name} has {_count(len(errors))}", details=details)


def _count(n: int) -> str:
    return "an error" if n == 1 else f"{n} errors"


class CheckResult(NamedTuple):
    """What was found: `diagnostics` in the order of reporting, `suppressed` those that comments take back, and
    the analysis for whoever wants to know more (diagrams, editors, lowering)."""

    diagnostics: list[Diagnostic]
    suppressed: list[Suppressed]
    analysis: Analysis

    @property
    def has_errors(self) -> bool:
        """Whether the program cannot be compiled."""
        return any(d.severity == "error" for d in self.diagnostics)


# ---- reading


class _Problem(NamedTuple):
    """Why a file cannot be had: an error code for the main file, words for an import."""

    code: str
    message: str
    help: str


class _Folder:
    """Files below a folder of the file system."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.real = os.path.realpath(root or ".")

    def path(self, relative: str) -> str:
        """The path as people see it."""
        return os.path.normpath(os.path.join(self.root, relative)) if self.root else relative

    def read(self, relative: str) -> str | _Problem:
        """The text of an imported file; symbolic links may not lead out of the folder."""
        full = os.path.join(self.root, relative)
        real = os.path.realpath(full)
        if os.path.commonpath([self.real, real]) != self.real:
            return _Problem("JAMR001", "it is a link that leads out of the program's folder", "copy the file instead")
        return read_text(full)


class _Memory:
    """Files given as texts."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files = {posixpath.normpath(name): text for name, text in files.items()}

    def path(self, relative: str) -> str:
        return relative

    def read(self, relative: str) -> str | _Problem:
        text = self.files.get(relative)
        if text is None:
            return _Problem("JAMR001", "there is no such file", "check the path; it is relative to this file")
        return text


def read_text(path: str) -> str | _Problem:
    """The text of a file: at most `MAX_BYTES` of UTF-8, a byte order mark dropped."""
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return _Problem("JAMR001", "there is no such file", "check the path")
    except IsADirectoryError:
        return _Problem("JAMR001", "it is a folder", "name a file in it")
    except OSError as error:
        words = "its symbolic links go in a circle" if "symbolic" in str(error) else (error.strerror or "unreadable")
        return _Problem("JAMR001", words[0].lower() + words[1:], "check the path and its permissions")
    except ValueError:
        return _Problem("JAMR001", "its name is no path", "check the path")
    return decode(data)


def decode(data: bytes) -> str | _Problem:
    """The text of some bytes, or why they are no program."""
    if len(data) > MAX_BYTES:
        return _Problem("JAMR003", f"it is larger than {MAX_BYTES // 1024 // 1024} MiB", "split it into several files")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return _Problem("JAMR002", f"it is not UTF-8 text: the bytes of line {line} mean nothing", "save it as UTF-8")


class _Loader:
    """Parses a program and what it imports, each file once."""

    def __init__(self, files: _Folder | _Memory | None, report: Report) -> None:
        self.files = files
        self.report = report
        self.units: list[Unit] = []
        self.known: dict[str, ast.Program | None] = {}
        self.open: list[str] = []

    def main(self, source: SourceFile, relative: str) -> None:
        """Loads the main program; it and what it imports are then in `units`, the main one first."""
        self._parsed(source, relative)

    def _parsed(self, source: SourceFile, relative: str) -> ast.Program:
        parsed = parse(source)
        self.report.found.extend(map(_out_of_final, parsed.diagnostics))
        partial = parsed.incomplete
        unit = Unit(parsed.program, partial, {})
        self.units.append(unit)
        self.known[relative] = parsed.program
        self.open.append(relative)
        for node in parsed.program.imports:
            unit.imports[node] = self._import(node, relative)
        self.open.pop()
        return parsed.program

    def _import(self, node: ast.Import, importer: str) -> ast.Program | None:
        written = str(node.path.value)
        problem = _path_problem(written)
        relative = posixpath.normpath(posixpath.join(posixpath.dirname(importer), written))
        if problem is None and relative.startswith(".."):
            problem = _Problem(
                "JAMR001", "climbs out of the program's folder", "move the file into the folder of the main program"
            )
        if problem is None and self.files is None:
            problem = _Problem("JAMR001", "cannot be read: this text has no folder", "save the program as a file")
        if problem is None and relative in self.open:
            way = [*self.open[self.open.index(relative) :], relative]
            self._refuse(node, "is a cycle", " imports ".join(f"`{p}`" for p in way))
            return None
        if problem is None and relative in self.known:
            return self.known[relative]
        if problem is None and len(self.units) >= MAX_FILES:
            problem = _Problem("JAMR003", f"is one file too many: at most {MAX_FILES}", "merge some of the files")
        if problem is not None:
            self._refuse(node, problem.message, problem.help)
            return None
        assert self.files is not None
        text = self.files.read(relative)
        if isinstance(text, _Problem):
            self.known[relative] = None
            self._refuse(node, f"cannot be read: {text.message}", text.help)
            return None
        return self._parsed(SourceFile(self.files.path(relative), text), relative)

    def _refuse(self, node: ast.Import, message: str, help: str) -> None:
        self.report.add("JAM105", node.path.span, f"the import of {node.path.span.text} {message}", help=help)


_IN_FINAL = re.compile(r"(?:final|failed)\s+[A-Za-z_`]\w*`?\s*\{[^{}]{0,400}\Z")


def _out_of_final(found: Diagnostic) -> Diagnostic:
    """An edge in a final does not follow the grammar, but there is more to say of it (JAM205)."""
    if found.code != "JAM001" or found.span.text not in ("->", "on", "when", "otherwise"):
        return found
    if not _IN_FINAL.search(found.span.source.text[max(0, found.span.start - 500) : found.span.start]):
        return found
    return Diagnostic(
        "JAM205",
        "a final cannot be left",
        found.span,
        why="a run ends in a final, and nothing happens after it",
        help="make it a `state`, or remove the edge",
    )


def _path_problem(written: str) -> _Problem | None:
    if not written.startswith(("./", "../")) or "\\" in written or "\0" in written:
        return _Problem("JAMR001", "is no relative path", 'write `"./NAME.jam"`: imports are files beside this one')
    if not written.endswith(".jam"):
        return _Problem("JAMR001", "is no `.jam` file", "only programs are imported; tools are bound with `via`")
    return None


# ---- checking


def check_text(text: str, name: str = "<text>", files: dict[str, str] | None = None) -> list[Diagnostic]:
    """All findings about a text, in order. `files` are the texts it may import, by path relative to it."""
    return analyse_text(text, name, files=files).diagnostics


def analyse_text(
    text: str, name: str = "<text>", files: dict[str, str] | None = None, folder: str | None = None
) -> CheckResult:
    """Checks a text that may import `files`, or files below `folder` (as for a program read from stdin)."""
    place = _Memory(files) if files is not None else _Folder(folder) if folder is not None else None
    return _check(SourceFile(name, text), posixpath.basename(name) or name, place)


def check_file(path: str | os.PathLike[str]) -> CheckResult:
    """Checks a file and what it imports.

    Raises JamError JAMR001, JAMR002 or JAMR003 if the file itself cannot be read; an import that cannot be read
    is a finding (JAM105).
    """
    name = os.fspath(path)
    return _check(SourceFile(name, read_program(name)), os.path.basename(name), _Folder(os.path.dirname(name)))


def _check(source: SourceFile, relative: str, files: _Folder | _Memory | None) -> CheckResult:
    """Runs all phases. The garbage collector rests: it would walk again and again over tables that only grow."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _phases(source, relative, files)
    finally:
        if collecting:
            gc.enable()


def _phases(source: SourceFile, relative: str, files: _Folder | _Memory | None) -> CheckResult:
    from jamjet_dsl.analysis.checks import run_checks
    from jamjet_dsl.analysis.typecheck import typecheck

    report = Report()
    loader = _Loader(files, report)
    loader.main(source, relative)
    analysis, names = resolve(loader.units, report)
    typecheck(analysis, names, report)
    report_unused(analysis, names, report)
    analysis.roles = _roles_in(files.read(DEPLOYMENT)) if files is not None else None
    # `analysis.diagnostics` is the report's list: the checks see what was found before them.
    report.found.extend(_no_consequences(run_checks(analysis), report.found))
    whole = not any(unit.partial for unit in loader.units) and not any(info.broken for info in analysis.agents)
    comments = [c for unit in loader.units for c in unit.program.comments]
    left, suppressed = apply(_distinct(report.found), comments, evaluated=None if whole else frozenset())
    main = loader.units[0].program.source.name
    left.sort(key=lambda d: (d.span.file != main, *d.sort_key()))
    return CheckResult(left, suppressed, analysis)


def _roles_in(text: str | _Problem) -> dict[str, int] | None:
    """How many members each role of a `jam.toml` has; None without a list of roles. A file that says something else
    is refused when somebody is to answer (`cli.settings`), and here it says nothing."""
    if isinstance(text, _Problem) or "roles" not in text:
        return None
    import tomllib

    try:
        roles = tomllib.loads(text).get("roles")
    except tomllib.TOMLDecodeError:
        return None
    if not isinstance(roles, dict):
        return None
    return {name: len(members) for name, members in roles.items() if isinstance(members, list)}


def _no_consequences(checked: list[Diagnostic], before: list[Diagnostic]) -> list[Diagnostic]:
    """Without what the checks say about guards and values in which an error was found before."""
    wrong: dict[str, list[int]] = {}
    for d in before:
        if d.severity == "error":
            wrong.setdefault(d.span.file, []).append(d.span.start)
    for starts in wrong.values():
        starts.sort()
    kept = []
    for d in checked:
        starts = wrong.get(d.span.file, [])
        at = bisect_left(starts, d.span.start)
        inside = at < len(starts) and starts[at] < d.span.end
        if not (inside and d.code.startswith(("JAM4", "JAM5"))):
            kept.append(d)
    return kept


def _distinct(found: list[Diagnostic]) -> list[Diagnostic]:
    """Without repetitions: a part of a program that two phases look at is reported once."""
    seen: dict[tuple[str, str, int, int, str], Diagnostic] = {}
    for d in found:
        seen.setdefault((d.code, d.span.file, d.span.start, d.span.end, d.message), d)
    return list(seen.values())


# ---- compiling


def compile_file(path: str | os.PathLike[str], agent: str | None = None) -> Compiled:
    """Compiles a program for one of its agents (its only one, or else the first).

    Raises JamError: JAMR001 to JAMR003 if it cannot be read, `ProgramRefused` (JAMR004) if it has errors, JAMR005 if
    it has no such agent, JAMR501 for an expression that is too large to be evaluated.
    """
    return _compile(check_file(path), os.fspath(path), agent)


def compile_text(
    text: str,
    name: str = "<text>",
    agent: str | None = None,
    files: dict[str, str] | None = None,
    folder: str | None = None,
) -> Compiled:
    """Compiles a text; see `analyse_text` for what it may import and `compile_file` for what is raised."""
    return _compile(analyse_text(text, name, files, folder), name, agent)


def _compile(result: CheckResult, name: str, agent: str | None) -> Compiled:
    if result.has_errors:
        raise ProgramRefused(name, result.diagnostics)
    from jamjet_dsl.analysis.lower import lower_with_places
    from jamjet_dsl.kernel.expr import compile_expr

    compiled, expressions = lower_with_places(result.analysis, _chosen(result, name, agent))
    fns = {**compiled.definition.fns, **compiled.test_fns}
    for expr, span in expressions:  # so that what is too large is known before anything runs
        try:
            compile_expr(expr, fns)
        except JamError as error:
            raise JamError(error.code, f"{span}: {error.message}", error.help, error.details) from None
    return compiled


def _chosen(result: CheckResult, name: str, agent: str | None) -> AgentInfo:
    agents = result.analysis.main_agents()
    if not agents:
        raise JamError("JAMR005", f"{name} declares no agent", help="declare one: `agent NAME version 1 { … }`")
    chosen = next((a for a in agents if a.name == agent), None) if agent is not None else agents[0]
    if chosen is None:
        known = ", ".join(f"`{a.name}`" for a in agents)
        raise JamError("JAMR005", f"{name} has no agent `{agent}`", help=f"its agents are {known}")
    return chosen


def read_program(path: str) -> str:
    """The text of a program. Raises JamError JAMR001, JAMR002 or JAMR003 if it cannot be read."""
    text = read_text(path)
    if isinstance(text, _Problem):
        raise JamError(text.code, f"{path} cannot be read: {text.message}", help=text.help)
    return text


_MEANINGLESS = ("JAM0", "JAM1", "JAM401", "JAM402", "JAM409", "JAM412", "JAM501", "JAM205", "JAM207", "JAM201")
"""Findings after which there is nothing to lower: names, types or targets that mean nothing."""


def lower_for_drawing(result: CheckResult, agent: str | None = None) -> Compiled:
    """The definition of a program that checks may still refuse: a diagram shows best what a check objects to.

    Raises ProgramRefused (JAMR004) where names or types are wrong, so that there is nothing to draw; JAMR005 if it has
    no such agent.
    """
    blocking = [d for d in result.diagnostics if d.severity == "error" and d.code.startswith(_MEANINGLESS)]
    name = result.analysis.files[0].program.source.name if result.analysis.files else "the program"
    if blocking:
        raise ProgramRefused(name, result.diagnostics)
    from jamjet_dsl.analysis.lower import lower

    return lower(result.analysis, _chosen(result, name, agent))


def agents_with_tests(result: CheckResult) -> list[Compiled]:
    """The agents that a file declares, and those of other files that tests of it are for, each with the tests of it
    that stand in this file. The program has no errors."""
    from jamjet_dsl.analysis.lower import lower

    analysis = result.analysis
    main = analysis.files[0].program
    meant = [analysis.symbols.get(test.agent) for test in ast.clauses(main.items, ast.TestDecl)]
    imported = {symbol.node for symbol in meant if symbol is not None}
    return [lower(analysis, info) for info in analysis.agents if info.file is main or info.decl in imported]
