"""`./dev wheel`: builds the wheel, installs it into an environment of its own, and uses it outside the checkout.

The environment sees the dependencies of the one it is started from, but not the checkout: what works here works
for somebody who ran `pip install`. Nothing is fetched. Ends with `N passed, N failed`; 1 if something failed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MUST_HAVE = (
    "jamjet_dsl/py.typed",
    "jamjet_dsl/grammar/jam.lark",
    "jamjet_dsl/grammar/jam.grammar.bin",
    "jamjet_dsl/render/page.html",
    "jamjet_dsl/diagnostics/pages/JAM602.md",
)


class Place:
    """A built wheel, an environment with it, and an empty folder to work in."""

    def __init__(self, base: Path) -> None:
        self.wheel = _build(base / "dist")
        self.env = base / "env"
        self.work = base / "empty"
        self.work.mkdir()
        _install(self.wheel, self.env)
        self.jam = self.env / ("Scripts/jam.exe" if os.name == "nt" else "bin/jam")

    def run(self, *args: str, code: int = 0, given: str = "") -> str:
        """What `jam ARGS` prints to stdout, in the empty folder; its exit code must be `code`."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "JAM_", "VIRTUAL_ENV"))}
        done = subprocess.run(
            [str(self.jam), *args], cwd=self.work, env=clean, input=given, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, f"`jam {' '.join(args)}` gave {done.returncode}, not {code}:\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout


def _build(target: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = target.glob("*.whl")
    return wheel


def _install(wheel: Path, env: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(env)], check=True)
    places = sysconfig.get_paths(vars={"base": str(env), "platbase": str(env)}, scheme="venv")
    packages = Path(places["purelib"])
    _unpack(wheel, packages, Path(places["scripts"]))
    # The dependencies alone: links to everything installed here but the editable install of the checkout.
    for found in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if not re.match(r"(__editable__|_editable_impl_)?_?jamjet", found.name) and found.suffix != ".pth":
            target = packages / found.name
            if not target.exists():
                target.symlink_to(found, target_is_directory=found.is_dir())
    for found in Path(sysconfig.get_path("scripts")).iterdir():
        # Programs that come with dependencies, such as the renderer of diagrams.
        target = Path(places["scripts"]) / found.name
        if "graphviz" in found.name and not target.exists():
            target.symlink_to(found)


def _unpack(wheel: Path, packages: Path, scripts: Path) -> None:
    """Install with pip where there is one; else as pip would: unpack, and make the commands of `entry_points.txt`."""
    pip = [sys.executable, "-m", "pip", "--python", str(scripts / "python")]
    if subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode == 0:
        more = ("install", "-q", "--no-deps", "--no-index", "--disable-pip-version-check", str(wheel))
        subprocess.run([*pip, *more], check=True)
        return
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    (entry,) = packages.glob("jamjet_dsl-*.dist-info/entry_points.txt")
    module, function = re.search(r"^jam = ([\w.]+):(\w+)$", entry.read_text(), re.M).groups()  # type: ignore[union-attr]
    script = scripts / "jam"
    script.write_text(f"#!{scripts / 'python'}\nfrom {module} import {function}\n{function}()\n")
    script.chmod(0o755)


# ---- what is tried


def it_holds_what_is_needed_and_nothing_else(place: Place) -> None:
    """Grammar (compiled too), pages, type marker; no tests, and no path of this machine in any file."""
    with zipfile.ZipFile(place.wheel) as archive:
        names = archive.namelist()
        for wanted in MUST_HAVE:
            assert wanted in names, f"{wanted} is missing"
        pages = [n for n in names if n.startswith("jamjet_dsl/diagnostics/pages/")]
        have = sorted(p.name for p in (ROOT / "specs/diagnostics").glob("*.md"))
        assert sorted(n.rpartition("/")[2] for n in pages) == have
        assert len(names) == len(set(names)), "a file is in the wheel twice"
        for name in names:
            assert name.startswith(("jamjet_dsl/", "jamjet_dsl-")), f"{name} does not belong into the wheel"
            assert not re.search(r"(^|/)(tests?|specs|examples)/|__pycache__|\.pyc$|\.db$", name), name
            data = archive.read(name)
            assert str(ROOT).encode() not in data, f"{name} holds a path of this machine"


def it_does_not_see_the_checkout(place: Place) -> None:
    """The package that is imported is the installed one."""
    done = subprocess.run(
        [str(place.jam.parent / "python"), "-c", "import jamjet_dsl; print(jamjet_dsl.__file__)"],
        cwd=place.work, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(done.stdout.strip()).resolve().is_relative_to(place.env.resolve()), done.stdout


def new_makes_a_program_that_checks_and_tests(place: Place) -> None:
    place.run("new", "hello")
    assert "no problems" in place.run("check", "hello/hello.jam")
    assert "1 passed, 0 failed" in place.run("test", "hello")
    text = (place.work / "hello/hello.jam").read_text()
    assert place.run("fmt", "-", given=text) == text, "`jam new` does not write the canonical layout"


def check_finds_errors(place: Place) -> None:
    found = json.loads(place.run("check", "-", "--format", "json", given="agent a { state }", code=1))
    assert found["errors"] >= 1


def explain_has_its_pages(place: Place) -> None:
    page = place.run("explain", "JAM602")
    assert "JAM602" in page
    assert "## Accepted" in page


def graph_draws_without_a_system_dot(place: Place) -> None:
    place.run("graph", "hello/hello.jam", "-o", "hello.svg")
    assert "<svg" in (place.work / "hello.svg").read_text()
    place.run("graph", "hello/hello.jam", "-o", "hello.html")
    assert "<svg" in (place.work / "hello.html").read_text()


def run_waits_and_an_answer_finishes_it(place: Place) -> None:
    started = place.run(
        "run", "hello/hello.jam", "--input", '{"name": "Ada"}', "--id", "r1", "--format", "json", code=4
    )
    assert json.loads(started)["status"] == "waiting"
    db = ("--db", "hello/jam.db")
    ended = json.loads(place.run("answer", "r1", "approve", "--by", "host", "--format", "json", *db))
    assert (ended["status"], ended["output"]) == ("completed", {"greeting": "Hello, Ada!"})
    assert "Ada" in (place.work / "hello/guest_book.txt").read_text()


TRIED: tuple[Callable[[Place], None], ...] = (
    it_holds_what_is_needed_and_nothing_else,
    it_does_not_see_the_checkout,
    new_makes_a_program_that_checks_and_tests,
    check_finds_errors,
    explain_has_its_pages,
    graph_draws_without_a_system_dot,
    run_waits_and_an_answer_finishes_it,
)


def main() -> int:
    """Build, install, try; gives the exit code."""
    base = Path(tempfile.mkdtemp(prefix="jam-wheel-"))
    failed = 0
    try:
        place = Place(base)
        print(f"{place.wheel.name}, {place.wheel.stat().st_size // 1024} KiB")
        for tried in TRIED:
            try:
                tried(place)
                print(f"passed  {tried.__name__.replace('_', ' ')}")
            except (AssertionError, OSError, subprocess.CalledProcessError, ValueError) as error:
                failed += 1
                print(f"FAILED  {tried.__name__.replace('_', ' ')}\n        {error}")
    finally:
        shutil.rmtree(base, ignore_errors=True)
    print(f"{len(TRIED) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
