"""`jam test --generate`: what is printed holds, and nothing that a person wrote is written over."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Jam
from tests.cli.test_test_coverage import LARGE, SORT, write

TOOLS = """\
tool look(q: string) -> int { effect reads }
"""
AGENT = """\
import { look } from "./tools.jam"
agent reader {
  input  q: string
  output n: int
  event  go()
  policy { allow look }
  on error any -> bad
  start state s { call look(q) as found  when found == 42 -> good  otherwise -> waiting }
  state waiting { wait for event go timeout 1h  on timeout -> bad  -> good }
  final good { n = 1 }
  final bad { n = 0 }
}
"""


def test_what_is_printed_can_be_appended_and_passes_all_that_can_be(jam: Jam, tmp_path: Path) -> None:
    path = write(tmp_path, "sort.jam", SORT)
    said = jam("test", "--generate", "sort.jam")
    assert said.code == 0
    assert "sort.jam:sort: 2 tests, 5 of 5 states and edges" in said.err
    assert "not covered" not in said.out + said.err
    path.write_text(SORT + "\n" + said.out, "utf-8")
    assert jam("fmt", "-", given=said.out).out == said.out  # it is in canonical layout
    assert jam("check", "sort.jam", "--strict").code == 0
    again = jam("test", "sort.jam", "--min-coverage", "100")
    assert again.code == 0
    assert "2 passed, 0 failed" in again.out


def test_what_is_not_covered_is_named_with_the_reason(jam: Jam, tmp_path: Path) -> None:
    write(tmp_path, "tools.jam", TOOLS)
    write(tmp_path, "reader.jam", AGENT)
    said = jam("test", "--generate", "reader.jam")
    line = "the edge `->` of `waiting`: a test sends no events"
    assert f"// not covered: {line}" in said.out
    assert f"  not covered: {line}" in said.err


def test_tests_in_a_file_of_their_own_import_what_they_name(jam: Jam, tmp_path: Path) -> None:
    write(tmp_path, "in/tools.jam", TOOLS)
    write(tmp_path, "in/reader.jam", AGENT)
    for target in ("in/reader_test.jam", "all_test.jam"):
        said = jam("test", "--generate", "in/reader.jam", "-o", target)
        assert (said.code, said.out) == (0, "")
        assert f"wrote {target}" in said.err
        assert jam("check", target, "--strict").code == 0
        assert jam("fmt", "--check", target).code == 0
        told = jam("test", target, "--coverage", "--format", "json").json
        assert (told["failed"], told["passed"]) == (0, 3)
        (agent,) = told["coverage"]["agents"]
        assert (agent["agent"], agent["states"]) == ("reader", {"covered": 4, "all": 4})
    assert jam("test", "--generate", "in/reader.jam", "-o", "all_test.jam", "--seed", "1").code == 0  # over its own


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("in/reader.jam", "-o", "in/mine.jam"), "is there already, and was not generated"),
        (("in/reader.jam", "-o", "in/reader.jam"), "is there already, and was not generated"),
        (("in/reader.jam", "-o", "other/x.jam"), "cannot import in/reader.jam"),
        (("in/reader.jam", "-o", "x.txt"), "is no `.jam` file"),
        (("in/reader.jam", "-o", "no/x.jam"), "cannot import"),
        (("in", "-o", "x.jam"), "do not go into one file"),
        (("-", "-o", "x.jam"), "stdin"),
        (("gone.jam",), "there is no such file"),
        (("in/reader.jam:nobody",), "no agent `nobody`"),
        (("in/tools.jam",), "there is no agent to test"),
        (("in/reader.jam", "-k", "x"), "--generate"),
        (("in/reader.jam", "--coverage"), "--generate"),
        (("in/reader.jam", "--seed", "-1"), "--seed"),
        (("in/reader.jam", "--trials", "0"), "--trials"),
    ],
)
def test_what_cannot_be_done_is_said(jam: Jam, tmp_path: Path, args: tuple[str, ...], says: str) -> None:
    write(tmp_path, "in/tools.jam", TOOLS)
    write(tmp_path, "in/reader.jam", AGENT)
    mine = write(tmp_path, "in/mine.jam", SORT + LARGE)
    write(tmp_path, "other/y.jam", SORT)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.jam")}
    said = jam("test", "--generate", *args)
    assert said.code in (1, 2)
    assert says in said.err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.jam")} == before
    assert mine.exists()


def test_seed_and_trials_need_generate(jam: Jam, tmp_path: Path) -> None:
    write(tmp_path, "sort.jam", SORT + LARGE)
    for option in ("--seed", "--trials"):
        assert jam("test", "sort.jam", option, "3").code == 2


def test_stdin_several_agents_and_json(jam: Jam, tmp_path: Path) -> None:
    two = SORT + SORT.replace("agent sort", "agent other").replace("n > 100", "n < 0")
    said = jam("test", "--generate", "-", given=two)
    assert said.code == 0
    assert jam("test", "-", "--min-coverage", "100", given=two + said.out).code == 0
    told = jam("test", "--generate", "-", "--format", "json", "--seed", "7", given=two).json
    assert told["seed"] == 7
    assert [(a["agent"], a["covered"], a["all"], a["not_covered"]) for a in told["agents"]] == [
        ("sort", 5, 5, []),
        ("other", 5, 5, []),
    ]
    only = jam("test", "--generate", "-", given=SORT)
    assert only.out == jam("test", "--generate", "-", given=SORT).out


def test_a_program_with_errors_is_refused(jam: Jam, tmp_path: Path) -> None:
    write(tmp_path, "a.jam", SORT.replace("-> small", "-> smal"))
    said = jam("test", "--generate", "a.jam")
    assert said.code == 1
    assert "JAM101" in said.err


VALUES = """
enum Kind { gold  silver }
record R {
  text: string  kind: Kind  money: money  euro: money?  wait: duration  at: timestamp  ratio: decimal  share: float
  raw: bytes  any: any  names: map<string, int>  by: map<int, string>  more: list<R>  flag: bool
}
tool look() -> R { effect reads }
agent a {
  input r: R, price: money
  output kind: Kind?, text: string?, wait: duration?, ratio: decimal?, price: money?, none: string?
  policy { allow look }
  on error any -> bad
  start state s { call look() as x
    when x.text == "say \\"hi\\"\\n\\\\ {x}" && x.flag -> good
    when price == 3.50 EUR && size(r.names) == 2 && size(r.by) > 0 -> good2
    when r.more.exists(m, m.ratio < -1.5) -> good3
    otherwise -> bad }
  final good { kind = x.kind  text = x.text  wait = x.wait  ratio = x.ratio }
  final good2 { price = price }
  final good3 { ratio = r.ratio }
  final bad { kind = r.kind  wait = r.wait }
}
"""


def test_values_of_all_types_are_written_so_that_they_are_read_again(jam: Jam, tmp_path: Path) -> None:
    said = jam("test", "--generate", "-", "--trials", "1500", given=VALUES)
    assert said.code == 0
    assert "5 tests, 10 of 10 states and edges" in said.err
    again = jam("test", "-", given=VALUES + said.out)
    assert again.code == 0, again.out
