"""Imports: relative files below the folder of the program, each read once."""

from __future__ import annotations

from pathlib import Path

import pytest

from jamjet_dsl import compiler
from jamjet_dsl.diagnostics.errors import JamError
from tests.analysis.helpers import agent, codes, findings

MAIN = 'import { A } from "./x.jam"\n' + agent("input a: A\nstart state s { wait 1h -> done }\nfinal done {}")
LIBRARY = "record A { x: int }\n"


def test_an_imported_record_is_a_type() -> None:
    assert codes(MAIN, {"x.jam": LIBRARY}) == []


def test_what_is_wrong_in_an_imported_file_is_reported_there() -> None:
    found = compiler.check_text(MAIN, files={"x.jam": "record A { x: intt }\n"})
    assert [(d.code, d.span.file, d.span.line) for d in found] == [("JAM101", "x.jam", 1)]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("./missing.jam", "cannot be read: there is no such file"),
        ("../x.jam", "climbs out of the program's folder"),
        ("./sub/../../x.jam", "climbs out of the program's folder"),
        ("/etc/x.jam", "is no relative path"),
        ("x.jam", "is no relative path"),
        ("https://example.org/x.jam", "is no relative path"),
        (".\\\\x.jam", "is no relative path"),
        ("./x.py", "is no `.jam` file"),
    ],
)
def test_a_path_that_is_not_below_the_program_is_refused(path: str, message: str) -> None:
    text = MAIN.replace("./x.jam", path)
    found = findings(text, files={"x.jam": LIBRARY})
    assert [m.split(" ", 2)[2] for m in found] == [f'the import of "{path}" {message}']


def test_a_name_that_could_not_be_imported_is_not_reported_again() -> None:
    assert codes(MAIN, {}) == ["JAM105"]


def test_a_name_that_the_file_does_not_declare_is_reported() -> None:
    found = findings(MAIN.replace("{ A }", "{ B, A }"), files={"x.jam": LIBRARY})
    assert found == ['JAM105 1:10 "./x.jam" does not declare `B`']


def test_a_name_that_is_imported_and_not_used_is_reported() -> None:
    text = MAIN.replace("{ A }", "{ A, B }")
    assert findings(text, files={"x.jam": LIBRARY + "record B { y: int }\n"}) == [
        "JAM105 1:13 `B` is imported and never used"
    ]


def test_what_a_file_imports_itself_cannot_be_imported_from_it() -> None:
    files = {"x.jam": 'import { A } from "./y.jam"\nrecord C { a: A }\n', "y.jam": LIBRARY}
    assert codes(MAIN, files) == ["JAM105"]


def test_a_cycle_shows_the_way_round() -> None:
    files = {
        "x.jam": 'import { B } from "./y.jam"\n' + LIBRARY,
        "y.jam": 'import { A } from "./x.jam"\nrecord B { a: A }\n',
    }
    found = [d for d in compiler.check_text(MAIN, "main.jam", files=files) if "cycle" in d.message]
    assert [(d.code, d.span.file) for d in found] == [("JAM105", "y.jam")]
    assert found[0].help == "`x.jam` imports `y.jam` imports `x.jam`"


def test_a_program_that_imports_itself_is_a_cycle() -> None:
    found = compiler.check_text('import { A } from "./main.jam"\n' + LIBRARY, "main.jam", files={})
    assert [d.code for d in found] == ["JAM105"]


def test_a_file_that_two_import_is_read_once() -> None:
    files = {
        "x.jam": 'import { C } from "./z.jam"\nrecord A { c: C }\n',
        "y.jam": 'import { C } from "./z.jam"\nrecord B { c: C }\n',
        "z.jam": "record C { x: intt }\n",
    }
    text = 'import { B } from "./y.jam"\n' + MAIN.replace("input a: A", "input a: A, b: B")
    assert codes(text, files) == ["JAM101"]


def test_two_files_may_declare_the_same_name() -> None:
    files = {
        "x.jam": 'import { C } from "./y.jam"\nrecord Part { n: int }\nrecord A { part: Part  c: C }\n',
        "y.jam": "record Part { text: string }\nrecord C { part: Part }\n",
    }
    text = MAIN.replace("input a: A\n", "input a: A\noutput n: int, t: string\n").replace(
        "final done {}", "final done { n = a.part.n  t = a.c.part.text }"
    )
    assert codes(text, files) == []
    records = compiler.compile_text(text, files=files).definition.records
    assert sorted(records) == ["A", "C", "Part", "Part@y"]
    assert [f.name for f in records["Part@y"].fields] == ["text"]


def test_a_text_without_a_folder_cannot_import() -> None:
    found = compiler.check_text(MAIN)
    assert [d.code for d in found] == ["JAM105"]
    assert "no folder" in found[0].message


# ---- the file system


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.jam").write_text(text, "utf-8")
    return folder / "main.jam"


def test_files_below_the_program_are_found(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.jam").write_text('import { B } from "../y.jam"\nrecord A { b: B }\n')
    main = write(tmp_path, main=MAIN.replace("./x.jam", "./sub/x.jam"), y="record B { x: int }\n")
    assert compiler.check_file(main).diagnostics == []
    sources = compiler.compile_file(main).sources
    assert sorted(sources) == ["main.jam", "sub/x.jam", "y.jam"]


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret.jam").write_text(LIBRARY)
    (inside / "x.jam").symlink_to(tmp_path / "secret.jam")
    found = compiler.check_file(write(inside, main=MAIN)).diagnostics
    assert [d.code for d in found] == ["JAM105"]
    assert "link that leads out" in found[0].message


def test_a_link_in_a_circle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.jam").symlink_to(tmp_path / "y.jam")
    (tmp_path / "y.jam").symlink_to(tmp_path / "x.jam")
    found = compiler.check_file(write(tmp_path, main=MAIN)).diagnostics
    assert [d.code for d in found] == ["JAM105"]
    assert "circle" in found[0].message


def test_an_import_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.jam").write_bytes(b"record A { x: int }\n// \xff\xfe\n")
    found = compiler.check_file(write(tmp_path, main=MAIN)).diagnostics
    assert [d.code for d in found] == ["JAM105"]
    assert "not UTF-8 text: the bytes of line 2" in found[0].message


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda p: None, "JAMR001"),
        (lambda p: p.mkdir(), "JAMR001"),
        (lambda p: p.symlink_to(p), "JAMR001"),
        (lambda p: p.write_bytes(b"\xff\xfe"), "JAMR002"),
        (lambda p: p.write_bytes(b" " * (compiler.MAX_BYTES + 1)), "JAMR003"),
    ],
)
def test_a_program_that_cannot_be_read_is_a_coded_error(tmp_path: Path, make: object, code: str) -> None:
    path = tmp_path / "main.jam"
    make(path)  # type: ignore[operator]
    with pytest.raises(JamError) as caught:
        compiler.check_file(path)
    assert caught.value.code == code
    assert caught.value.help


def test_an_empty_file_and_a_byte_order_mark_are_nothing_special(tmp_path: Path) -> None:
    path = tmp_path / "main.jam"
    path.write_bytes(b"")
    assert compiler.check_file(path).diagnostics == []
    path.write_bytes(b"\xef\xbb\xbf" + LIBRARY.encode())
    assert compiler.check_file(path).diagnostics == []


def test_a_path_with_a_null_byte_is_a_coded_error() -> None:
    with pytest.raises(JamError) as caught:
        compiler.check_file("a\0b.jam")
    assert caught.value.code == "JAMR001"
