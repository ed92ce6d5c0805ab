"""The one table of codes. A code is stable once shipped; its page is `specs/diagnostics/CODE.md`."""

from __future__ import annotations

from typing import NamedTuple

from jamjet_dsl.diagnostics.model import Severity


class Code(NamedTuple):
    """A row of the catalogue. `title` is lower case without a full stop."""

    id: str
    slug: str
    severity: Severity
    title: str


_ROWS: tuple[tuple[str, str, Severity, str], ...] = (
    ("JAM001", "syntax", "error", "the program does not follow the grammar"),
    ("JAM002", "unclosed", "error", "a brace, bracket, string or comment is never closed"),
    ("JAM003", "conflict-marker", "error", "a merge conflict marker was left in the program"),
    ("JAM004", "bad-literal", "error", "a literal or unit that the language does not have"),
    ("JAM005", "confusable-text", "error", "bidirectional control, mixed-script or confusable identifier"),
    ("JAM006", "newer-language", "error", "the program needs a newer version of the language"),
    ("JAM007", "duplicate-clause", "error", "a clause is given twice"),
    ("JAM101", "unknown-name", "error", "a name that is not declared"),
    ("JAM102", "duplicate-name", "error", "a name is declared twice"),
    ("JAM103", "reserved-name", "error", "a reserved word is used as a name"),
    ("JAM104", "shadowing", "error", "a name hides another one"),
    ("JAM105", "import", "error", "an import is missing, cyclic, unused or climbs out of the folder"),
    ("JAM106", "recursive", "error", "a record, function, const or agent contains itself"),
    ("JAM107", "unused", "warning", "a declaration is never used"),
    ("JAM108", "arguments", "error", "the number or the names of arguments do not fit"),
    ("JAM201", "start", "error", "an agent needs exactly one start state"),
    ("JAM202", "unreachable", "warning", "a state that no path reaches"),
    ("JAM203", "trap", "error", "a state has no way on"),
    ("JAM204", "no-final", "error", "a state from which no final is reachable"),
    ("JAM205", "edge-out-of-final", "error", "a final cannot be left"),
    ("JAM207", "boundary", "error", "an edge crosses the boundary of a branch or item"),
    ("JAM208", "duplicate-edge", "error", "two edges wait for the same thing"),
    ("JAM209", "handler-order", "error", "a catch-all handler is not the last one"),
    ("JAM210", "impossible-error", "warning", "a handler for an error that cannot be raised"),
    ("JAM211", "unhandled-error", "warning", "an error that can be raised is not handled"),
    ("JAM212", "options", "error", "an option without an edge, or an edge without an option"),
    ("JAM213", "event-unused", "warning", "an event that is never awaited"),
    ("JAM214", "two-exits", "error", "two unguarded ways out of a state"),
    ("JAM215", "idle-cycle", "error", "a cycle that does nothing"),
    ("JAM304", "unbounded-cycle", "error", "a cycle that nothing bounds"),
    ("JAM305", "budget-bounded-cycle", "warning", "a cycle that only the step budget bounds"),
    ("JAM311", "retry-shape", "error", "a retry that makes no sense"),
    ("JAM314", "unbounded-each", "warning", "a fan-out over a list without an upper bound"),
    ("JAM315", "no-exceeded", "error", "a budget without a place to go when it is exceeded"),
    ("JAM317", "think-without-max-tokens", "error", "a model call without a bound under a token budget"),
    ("JAM401", "type-mismatch", "error", "a value of the wrong type"),
    ("JAM402", "unknown-field", "error", "a field that the record does not have"),
    ("JAM403", "optional-read", "error", "an optional value is read without asking whether it is there"),
    ("JAM404", "read-before-assign", "error", "a variable is read before any path assigns it"),
    ("JAM405", "unassigned-on-a-path", "error", "a variable is unassigned on some path"),
    ("JAM406", "dead-assignment", "warning", "a value that is never read"),
    ("JAM407", "output-unset", "error", "a final leaves an output unset"),
    ("JAM408", "out-of-range", "error", "a constant outside the declared range"),
    ("JAM409", "unknown-enum-member", "error", "a literal that the enum does not have"),
    ("JAM410", "unenforceable-output", "warning", "a type that no model provider can enforce"),
    ("JAM411", "secret-leak", "error", "a secret reaches a place that shows it"),
    ("JAM412", "unknown-placeholder", "error", "a placeholder in a text that names nothing"),
    ("JAM413", "branch-write-conflict", "error", "two branches write one variable"),
    ("JAM414", "cancelled-result", "error", "the result of a branch that may be cancelled is read"),
    ("JAM415", "braces-in-expression", "warning", "a placeholder in a text where none is filled in"),
    ("JAM501", "guard-not-bool", "error", "a guard that is not a truth value"),
    ("JAM502", "guard-never-true", "warning", "a guard that is never true"),
    ("JAM503", "guard-always-true", "warning", "a guard that is always true before others"),
    ("JAM504", "guard-shadowed", "warning", "a guard that an earlier one always wins over"),
    ("JAM505", "not-exhaustive", "error", "no edge is left for some case"),
    ("JAM507", "may-raise", "warning", "an expression that may fail at run time"),
    ("JAM509", "bad-regex", "error", "a regular expression that is invalid or too large"),
    ("JAM601", "unapproved-irreversible", "error", "an irreversible call is reachable without an approval"),
    ("JAM602", "approval-not-dominating", "error", "the required approval does not come before the call on every path"),
    ("JAM604", "grant-missing", "warning", "a granted call whose grant may be used up or was never given"),
    ("JAM605", "unsafe-retry", "warning", "a retry of an irreversible call without a key"),
    ("JAM606", "irreversible-again", "warning", "an irreversible call that can be repeated"),
    ("JAM607", "irreversible-cancelled", "warning", "an irreversible call in a branch that may be cancelled"),
    ("JAM608", "call-never-allowed", "error", "a call that no rule allows"),
    ("JAM609", "allow-unused", "warning", "an allow that no call uses"),
    ("JAM610", "forbid-fixed", "warning", "a forbid that is always or never true"),
    ("JAM611", "rules-overlap", "warning", "rules that contradict or subsume each other"),
    ("JAM612", "never-after", "error", "a call after something that it must never follow"),
    ("JAM613", "denied-unhandled", "warning", "a denied call is not handled"),
    ("JAM614", "unknown-role", "warning", "a role that nobody has"),
    ("JAM615", "limit-too-low", "error", "a limit below the calls of every path"),
    ("JAM616", "untrusted-argument", "warning", "untrusted text reaches an irreversible call without an approval"),
    ("JAM617", "approval-not-offered", "error", "an approval is required but not offered for the call"),
    ("JAM618", "constant-key", "warning", "a constant key on a call that can happen twice"),
    ("JAM701", "join-count", "error", "a join that counts more branches than there are"),
    ("JAM702", "join-unreachable", "error", "a join that can never be reached"),
    ("JAM703", "branch-too-slow", "warning", "a branch that cannot finish in the time of its join"),
    ("JAM704", "write-without-undo", "warning", "a write without `undo` before an `undo all`"),
    ("JAM705", "irreversible-undo", "warning", "an undo that cannot be undone itself"),
    ("JAM802", "state-removed", "error", "a run is in a state that the new program does not have"),
    ("JAM803", "variable-changed", "error", "a variable of a run does not fit the new program"),
    ("JAM804", "pending-question", "error", "a pending question would be asked differently"),
    ("JAM805", "timer-shortened", "error", "a run has waited longer than the new program lets it"),
    ("JAM807", "budget-below-spent", "error", "a run has used more than the new budget has"),
    ("JAM808", "undo-removed", "error", "what a run has done cannot be undone any more"),
    ("JAM901", "test-invalid", "error", "a test that does not fit its agent"),
    ("JAM902", "mock", "warning", "a mock that is not used, or one that is missing"),
    ("JAM903", "impossible-path", "error", "a test expects a path that is impossible"),
    ("JAM904", "not-covered", "info", "a state or an edge that no test passes"),
    ("JAM905", "property-refuted", "error", "a property does not hold"),
    ("JAM907", "not-verified", "warning", "a property that was not verified"),
    ("JAM990", "suppression", "warning", "a suppression that is unused or gives no reason"),
)

CODES: dict[str, Code] = {row[0]: Code(*row) for row in _ROWS}
