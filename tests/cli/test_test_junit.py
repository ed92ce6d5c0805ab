"""`jam test --junit` and `--jobs`: what CI reads, and that nothing depends on how many processes run the tests."""

from __future__ import annotations

import pickle
import re
import xml.etree.ElementTree as ET
from pathlib import Path

from jamjet_dsl.compiler import ProgramRefused
from jamjet_dsl.diagnostics.errors import JamError
from tests.cli.conftest import Jam
from tests.cli.test_test_coverage import LARGE, SMALL, SORT, write

WRONG = (
    'test "wrong <&\\"\\u0007\\u001b> 漢" for sort { input n = 1  expect path sorting, large  expect big == true }\n'
)


def read(path: Path) -> ET.Element:
    return ET.fromstring(path.read_bytes())


def test_a_suite_for_each_file_and_a_case_for_each_test(jam: Jam, tmp_path: Path) -> None:
    write(tmp_path, "a.jam", SORT + LARGE + SMALL)
    write(tmp_path, "b.jam", SORT + WRONG)
    said = jam("test", ".", "--junit", "out.xml")
    assert said.code == 1
    root = read(tmp_path / "out.xml")
    assert root.tag == "testsuites"
    assert {k: root.get(k) for k in ("tests", "failures", "errors")} == {"tests": "3", "failures": "1", "errors": "0"}
    a, b = root
    assert [(s.get("name"), s.get("tests"), s.get("failures")) for s in root] == [
        ("./a.jam", "2", "0"),
        ("./b.jam", "1", "1"),
    ]
    assert [c.get("name") for c in a] == ["large", "small"]
    assert [(c.get("classname"), c.get("file"), c.get("line")) for c in a] == [
        ("./a.jam:sort", "./a.jam", "11"),
        ("./a.jam:sort", "./a.jam", "12"),
    ]
    assert all(re.fullmatch(r"\d+\.\d{3}", c.get("time", "")) for c in [*a, *b])
    assert not list(a.iter("failure"))


def test_a_failure_has_the_text_that_a_person_is_shown_and_nothing_that_xml_cannot_hold(
    jam: Jam, tmp_path: Path
) -> None:
    write(tmp_path, "b.jam", SORT + WRONG)
    said = jam("test", "b.jam", "--junit", "out.xml")
    data = (tmp_path / "out.xml").read_text("utf-8")
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f]", data)
    (case,) = read(tmp_path / "out.xml").iter("testcase")
    assert case.get("name") == 'wrong <&"\\x07\\x1b> 漢'
    failure = case.find("failure")
    assert failure is not None
    assert failure.get("type") == "path"
    assert failure.get("message") == "the path differs at step 2: expected large, found small"
    assert failure.text == said.out.split("\n", 1)[1].rsplit("\n", 2)[0]


def test_simulated_time_is_a_property_beside_the_real_time(jam: Jam, tmp_path: Path) -> None:
    text = """agent a { output n: int  start state s { wait 48h -> done }  final done { n = 1 } }
test "two days" for a { expect path s, done }
"""
    write(tmp_path, "a.jam", text)
    jam("test", "a.jam", "--junit", "out.xml")
    (case,) = read(tmp_path / "out.xml").iter("testcase")
    (found,) = case.iter("property")
    assert (found.get("name"), found.get("value")) == ("simulated_seconds", "172800.000")
    assert float(case.get("time", "")) < 172_800


def test_a_program_that_is_refused_is_an_error_with_its_findings(jam: Jam, tmp_path: Path) -> None:
    write(tmp_path, "a.jam", SORT.replace("-> small", "-> smal"))
    write(tmp_path, "b.jam", SORT + LARGE)
    assert jam("test", "a.jam", "b.jam", "gone.jam", "--junit", "out.xml").code == 2
    root = read(tmp_path / "out.xml")
    assert (root.get("tests"), root.get("errors")) == ("3", "2")
    first, _, last = root
    error = first.find("testcase/error")
    assert error is not None
    assert "error[JAM101]: there is no state `smal`" in (error.text or "")
    error = last.find("testcase/error")
    assert error is not None
    assert error.get("type") == "JAMR001"


def test_a_file_that_cannot_be_written_is_said(jam: Jam, tmp_path: Path) -> None:
    write(tmp_path, "b.jam", SORT + LARGE)
    said = jam("test", "b.jam", "--junit", "no/such/out.xml")
    assert said.code == 2
    assert "JAMR001" in said.err


def test_results_are_the_same_however_many_run_at_once(jam: Jam, tmp_path: Path) -> None:
    other = SORT.replace("agent sort", "agent other") + LARGE.replace("for sort", "for other").replace("large", "o", 1)
    write(tmp_path, "a.jam", SORT + LARGE + other + SMALL)
    write(tmp_path, "b.jam", SORT + WRONG + LARGE)
    one = jam("test", ".", "--coverage", "--format", "json")
    two = jam("test", ".", "--coverage", "--format", "json", "--jobs", "3")
    assert one.json == two.json
    assert one.code == two.code == 1
    assert [t["title"] for t in two.json["tests"]][:3] == ["large", "o", "small"]
    human = [jam("test", ".", "-j", n).out.rsplit("\n", 2)[0] for n in ("1", "2", "64")]
    assert human[0] == human[1] == human[2]


def test_a_number_of_jobs_that_is_none_is_refused(jam: Jam, tmp_path: Path) -> None:
    write(tmp_path, "b.jam", SORT + LARGE)
    for bad in ("0", "-1", "many"):
        assert jam("test", "b.jam", "--jobs", bad).code == 2


def test_an_error_is_the_same_when_it_comes_from_another_process() -> None:
    for error in (JamError("JAMR006", "no", "do", ("a", "b")), ProgramRefused("x.jam", [])):
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
