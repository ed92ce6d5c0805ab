"""Runs cases of the CEL conformance suite (google/cel-spec `tests/simple`) against our evaluator.

    python -m tests.conformance.cel [FILE]

A file holds one case a line: `file`, `section`, `name`, `expr`, optional `container`, `bindings`, `typeEnv`,
`disableCheck`, `disableMacros`, and `value`, `evalError` or `typedResult` in protobuf JSON; `type` is the type
that a checker has to find. Results are compared by class as well as by value: `1`, `1u` and `1.0` differ. Where
a case may be checked, our table of overloads has to give the same type. Exits with 1 if a case fails that is not
excluded, or if an excluded one passes.
"""

from __future__ import annotations

import base64
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jamjet_dsl.analysis.lower_expr import Dynamic, lower_expr
from jamjet_dsl.kernel.expr import EvalError, compile_expr
from jamjet_dsl.kernel.scalars import (
    TypeValue,
    UInt,
    of_key,
    parse_duration,
    parse_timestamp,
    to_key,
)
from jamjet_dsl.source import SourceFile
from jamjet_dsl.syntax.parser import parse_expression
from tests.conformance import deduce
from tests.conformance.cel_excluded import EXCLUDED

Case = Mapping[str, Any]
TYPE_URL = "type.googleapis.com/google.protobuf."


class Unsupported(Exception):
    """The case needs something that the language leaves out, such as protocol buffer messages."""


class Failure(Exception):
    """The case gave something else than it has to."""


def default_file() -> Path:
    """The cases that the project is measured with."""
    root = Path(__file__).resolve().parents[2]
    return Path(os.environ.get("JAM_SHARED_DATA") or root.parent / "shared" / "data") / "cel" / "cel_core.jsonl"


def cases(path: Path) -> Iterator[Case]:
    """The cases of a file."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                yield json.loads(line)


# ---- values in protobuf JSON


def read_value(value: Mapping[str, Any]) -> Any:
    """The run-time value that a `cel.expr.Value` stands for."""
    if len(value) != 1:
        raise Unsupported(f"a value of the form {sorted(value)}")
    ((kind, content),) = value.items()
    match kind:
        case "nullValue":
            return None
        case "boolValue" | "stringValue":
            return content
        case "int64Value":
            return int(content)
        case "uint64Value":
            return UInt(content)
        case "doubleValue":
            return float(content)
        case "bytesValue":
            return base64.b64decode(content)
        case "typeValue":
            return TypeValue(content)
        case "listValue":
            return [read_value(item) for item in content.get("values", ())]
        case "mapValue":
            entries = content.get("entries", ())
            return {to_key(read_value(e["key"])): read_value(e["value"]) for e in entries}
        case "objectValue":
            return read_object(content)
    raise Unsupported(f"a {kind}")


def read_object(content: Mapping[str, Any]) -> Any:
    """The messages that have a value of their own in CEL."""
    name = str(content.get("@type", "")).removeprefix(TYPE_URL)
    inner = content.get("value")
    match name:
        case "Duration":
            return parse_duration(str(inner))
        case "Timestamp":
            return parse_timestamp(str(inner))
        case "Int64Value" | "Int32Value":
            return int(inner or 0)
        case "UInt64Value" | "UInt32Value":
            return UInt(inner or 0)
        case "DoubleValue" | "FloatValue":
            return float(inner or 0)
        case "StringValue" | "BoolValue":
            return inner
        case "BytesValue":
            return base64.b64decode(inner or "")
    raise Unsupported(f"a message of type {content.get('@type')}")


def same(a: Any, b: Any) -> bool:
    """Whether two values are identical: of one class, and NaN the same as NaN. The JSON form of the suite has no
    minus zero."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or a == b
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        if len(a) != len(b):
            return False
        stored = {key: key for key in b}
        return all(k in b and same(of_key(k), of_key(stored[k])) and same(v, b[k]) for k, v in a.items())
    return bool(a == b)


# ---- one case


class Outcome(NamedTuple):
    """What an expression gave: a value, or the error that says why there is none."""

    value: Any = None
    error: str | None = None


def evaluate(expr: list[Any], case: Case) -> Outcome:
    """Evaluates a lowered expression with the case's bindings."""
    env = {name: read_value(bound.get("value", bound)) for name, bound in (case.get("bindings") or {}).items()}
    try:
        return Outcome(compile_expr(expr)(env))
    except EvalError as problem:
        return Outcome(error=f"{problem.reason}: {problem.message}")


def run(case: Case) -> None:
    """Runs one case. Raises Failure or Unsupported."""
    parsed, found = parse_expression(SourceFile("<case>", case["expr"]))
    errors = [d for d in found if d.severity == "error"]
    if errors:
        raise Failure(f"does not parse: {errors[0].code} {errors[0].message}")
    try:
        lowered = lower_expr(parsed, None, Dynamic(case.get("container") or "", cel=True))
    except ValueError as problem:
        if "evalError" in case:
            return
        raise Failure(str(problem)) from None
    expected = case
    if "typedResult" in case:
        expected = {"value": case["typedResult"].get("result")}
    if not case.get("checkOnly"):
        compare(evaluate(lowered, case), expected)
    if case.get("type") is not None and not case.get("disableCheck"):
        try:
            deduced = deduce.text(deduce.deduce(lowered, deduce.environment(case.get("typeEnv") or ())))
        except deduce.NoType as problem:
            raise Failure(str(problem)) from None
        if deduced != deduce.normal(case["type"]):
            raise Failure(f"has the type {deduced}, expected {case['type']}")


def compare(outcome: Outcome, expected: Case) -> None:
    """Raises Failure where the outcome is not the one that the case demands."""
    if "evalError" in expected or "anyEvalErrors" in expected:
        if outcome.error is None:
            raise Failure(f"gave {outcome.value!r}, expected an error")
        return
    if expected.get("value") is None:
        wanted: Any = True  # the suite's default for a case that states no result
    else:
        wanted = read_value(expected["value"])
    if outcome.error is not None:
        raise Failure(f"failed with {outcome.error}, expected {wanted!r}")
    if not same(outcome.value, wanted):
        raise Failure(f"gave {outcome.value!r}, expected {wanted!r}")


def identity(case: Case) -> tuple[str, str, str]:
    """What names a case in the list of exclusions: names are often missing, so it is the expression."""
    return case.get("file") or "", case.get("section") or "", case["expr"]


def main(arguments: list[str]) -> int:
    """Runs a file and prints what failed. Returns the exit code."""
    path = Path(arguments[0]) if arguments else default_file()
    if not path.is_file():
        print(f"no such file: {path}; name a file of cases, or set JAM_SHARED_DATA")  # noqa: T201
        return 2
    passed = failed = excluded = 0
    for number, case in enumerate(cases(path), 1):
        reason = EXCLUDED.get(identity(case))
        place = f"{path.name}:{number} {case.get('file')}/{case.get('section')}"
        try:
            run(case)
        except (Failure, Unsupported) as problem:
            if reason is not None:
                excluded += 1
                print(f"excluded {place}: {case['expr']}: {reason}")  # noqa: T201
            else:
                failed += 1
                print(f"FAILED {place}: {case['expr']}: {problem}")  # noqa: T201
            continue
        if reason is not None:
            failed += 1
            print(f"FAILED {place}: {case['expr']}: it passes; remove its exclusion")  # noqa: T201
        else:
            passed += 1
    print(f"{passed} passed, {failed} failed, {excluded} excluded")  # noqa: T201
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
