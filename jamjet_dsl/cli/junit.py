"""Results as JUnit XML, the form that CI systems read: a `testsuite` for each file, a `testcase` for each test.

`time` is the real time a test took, in seconds, as everywhere else in such files; how long it took in the simulated
time of the run is a property of the test, `simulated_seconds`.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from jamjet_dsl.cli.tested import failed
from jamjet_dsl.diagnostics.errors import JamError

if TYPE_CHECKING:
    from jamjet_dsl.cli.tested import TestedFile
    from jamjet_dsl.engine.suite import Ran

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(files: Sequence[TestedFile]) -> bytes:
    """The document. A file that could not be tested is a suite with one test that could not be run (`error`)."""
    root = ET.Element("testsuites", name="jam test")
    for file in files:
        _suite(root, file)
    for name in ("tests", "failures", "errors"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    root.set("time", _seconds(sum(ran.seconds for file in files for ran in file.ran)))
    ET.indent(root)
    text: bytes = ET.tostring(root, "utf-8", xml_declaration=True)
    return text + b"\n"


def _suite(root: ET.Element, file: TestedFile) -> None:
    errors = int(file.refused is not None)
    failures = sum(not result.passed for result in file.results)
    suite = ET.SubElement(root, "testsuite", name=_text(file.name), tests=str(len(file.ran) + errors))
    suite.set("failures", str(failures))
    suite.set("errors", str(errors))
    suite.set("skipped", "0")
    suite.set("time", _seconds(sum(ran.seconds for ran in file.ran)))
    if file.refused is not None:
        case = ET.SubElement(suite, "testcase", name="check", classname=_text(file.name), time="0.000")
        error = ET.SubElement(case, "error", message=_text(file.refused.message), type=file.refused.code)
        error.text = _text(_why(file.refused))
    for ran in file.ran:
        _case(suite, file, ran)


def _why(error: JamError) -> str:
    """An error as the command says it; a refused program with its findings in full."""
    found = getattr(error, "diagnostics", None)
    if not found:
        return str(error)
    from jamjet_dsl.diagnostics.render import render

    return render(found, "human", files=1)


def _case(suite: ET.Element, file: TestedFile, ran: Ran) -> None:
    result = ran.result
    case = ET.SubElement(suite, "testcase", name=_text(result.title), classname=_text(f"{file.path}:{result.agent}"))
    case.set("file", _text(result.file))
    case.set("line", str(result.line))
    case.set("time", _seconds(ran.seconds))
    properties = ET.SubElement(case, "properties")
    ET.SubElement(properties, "property", name="simulated_seconds", value=_seconds(result.simulated_ms / 1000))
    if not result.passed:
        first = result.failures[0]
        failure = ET.SubElement(case, "failure", message=_text(first.message), type=first.code or first.kind)
        failure.text = _text(click.unstyle("\n".join(failed(result))))


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}"


def _text(text: str) -> str:
    """What XML cannot hold, not even as an entity, as the escape that people know: `\\x1b`, `\\ud800`."""
    return _NO_XML.sub(lambda found: repr(found[0])[1:-1], text)


def write_junit(files: Sequence[TestedFile], target: str) -> None:
    """Write the document to a file. Raises JamError JAMR001 if that cannot be done."""
    try:
        with open(target, "wb") as stream:
            stream.write(junit(files))
    except OSError as error:
        raise JamError("JAMR001", f"{target} cannot be written: {error.strerror}") from None
