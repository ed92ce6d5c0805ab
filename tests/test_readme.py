"""The first page cannot rot: its commands run, its service answers, its excerpt is the program, its links exist."""

import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

from .examples.pages import ROOT, blocks, checkout, run_blocks

README = ROOT / "README.md"
PYTHON = ROOT / "docs" / "python.md"
POLICY = ROOT / "docs" / "policy.md"
PAGES = [
    README,
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").glob("*/README.md")),
]


@pytest.mark.skipif(shutil.which("bash") is None, reason="the page is written for bash")
def test_every_marked_command_does_what_the_page_says(tmp_path: Path) -> None:
    folder = checkout(tmp_path)
    run_blocks(README, folder, timeout=120)
    assert (folder / "examples" / "loan_underwriting" / "jam.db").exists()
    assert (folder / "refused.png").read_bytes().startswith(b"\x89PNG")


def test_the_two_commands_stand_there_exactly() -> None:
    text = README.read_text(encoding="utf-8")
    first = (
        "./dev jam run examples/loan_underwriting/loan_underwriting.jam "
        "--input @examples/loan_underwriting/application.json\n"
    )
    assert blocks(README)[0].commands == first
    assert "```sh\n./dev test tests/kernel\n./dev test\n```" in text


def python_blocks(page: Path) -> list[str]:
    """The marked Python blocks of a page."""
    return re.findall(r"<!-- run: python -->\n```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def python_block() -> str:
    (found,) = python_blocks(README)
    return found


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout to work in, with a bank and a shop of its own."""
    monkeypatch.chdir(checkout(tmp_path))
    monkeypatch.setenv("BANK_LEDGER", str(tmp_path / "ledger.db"))
    for name in ("BANK", "JAM_MODEL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize("number", range(len(python_blocks(PYTHON))))
def test_every_python_block_runs(number: int, elsewhere: Path) -> None:
    exec(compile(python_blocks(PYTHON)[number], f"{PYTHON.name}, block {number + 1}", "exec"), {"__name__": "page"})


@pytest.mark.parametrize("number", range(len(python_blocks(POLICY))))
def test_every_block_about_the_policy_runs(number: int, elsewhere: Path) -> None:
    exec(compile(python_blocks(POLICY)[number], f"{POLICY.name}, block {number + 1}", "exec"), {"__name__": "page"})


def test_the_service_is_short() -> None:
    lines = [line for line in python_block().splitlines() if line.strip() and not line.startswith(("from ", "import "))]
    assert len(lines) <= 20


def test_the_service_starts_answers_and_survives_a_restart(elsewhere: Path) -> None:
    pytest.importorskip("fastapi", reason="fastapi is not installed")
    testclient = pytest.importorskip("fastapi.testclient", reason="httpx is not installed")
    application = {
        "account": "acc-1",
        "name": "Ada",
        "ssn": "123-45-6789",
        "amount": "9000.00 USD",
        "income": "80000.00 USD",
        "months": 24,
    }

    def service() -> Any:
        place: dict[str, Any] = {"__name__": "service"}
        exec(compile(python_block(), str(README), "exec"), place)
        return testclient.TestClient(place["app"])

    with service() as client:
        first = client.put("/loans/loan-7", json=application).json()
        again = client.put("/loans/loan-7", json=application).json()
    assert (first["status"], first["state"]) == ("waiting", "officer_review")
    assert again["created_ms"] == first["created_ms"]
    with service() as client:
        done = client.post("/loans/loan-7/approve", params={"by": "olivia"}).json()
    assert done["status"] == "completed"
    assert done["output"]["outcome"] == "approved"


def test_the_excerpt_of_the_program_is_the_program() -> None:
    program = (ROOT / "examples" / "loan_underwriting" / "loan_underwriting.jam").read_text(encoding="utf-8")
    excerpts = re.findall(r"```jam\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S)
    assert excerpts
    for part in re.split(r"\n{2,}", "\n\n".join(excerpts)):
        assert part.strip("\n") in program, f"the program does not say\n{part}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_a_page_links_to_is_there(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_pictures_are_small() -> None:
    for picture in (ROOT / "docs" / "img").glob("*.png"):
        assert picture.stat().st_size < 200_000, picture.name


# ---- docs/architecture.md says what is there


ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_layers_are_those_of_the_import_contract() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = [c for c in project["tool"]["importlinter"]["contracts"] if c["type"] == "layers"]
    wanted = [{name.strip() for name in layer.split("|")} for layer in contract["layers"]]
    table = ARCHITECTURE.partition("## Layers")[2].partition("## ")[0]
    rows = [row.split("|")[2] for row in table.splitlines() if row.startswith("|")][2:]
    assert [set(re.findall(r"`(\w+)`", row)) for row in rows] == wanted


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_every_path_that_a_page_names_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"`((?:jamjet_dsl|specs|tests|grammar|docs|editors|engine|kernel|store)/[\w./-]*)`", text)
    assert named
    missing = [name for name in named if not (ROOT / name).exists() and not (ROOT / "jamjet_dsl" / name).exists()]
    assert missing == []


def test_every_chapter_of_the_specification_is_listed() -> None:
    chapters = {f"specs/{page.name}" for page in (ROOT / "specs").glob("*.md")}
    assert set(re.findall(r"`(specs/\d\d-[\w-]+\.md)`", ARCHITECTURE)) == chapters
