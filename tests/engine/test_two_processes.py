"""One process drives a run, another one answers, signals and watches."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jamjet_dsl import Engine, JamError, Money
from jamjet_dsl.engine.owner import durability_of, is_dead, this_owner

ROOT = Path(__file__).parents[2]


@pytest.fixture
def driver(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    mode = getattr(request, "param", "fast")
    command = [sys.executable, "-m", "tests.engine.other_process", str(tmp_path / "t.db"), "t", mode]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    yield process
    process.kill()
    process.wait()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.read()


async def test_an_answer_without_tools_is_carried_out_by_the_process_that_has_them(
    tmp_path: Path, driver: subprocess.Popen[str]
) -> None:
    async with Engine(tmp_path / "t.db") as jam:
        summary = await jam.answer("t", "approve", by="olga")
        assert summary.status in ("running", "completed")
        view = await asyncio.wait_for(jam.run("t").wait_ended(), 20)
        assert view.output is not None
        assert view.output["receipt"] == "paid 9.50 USD"
        with pytest.raises(JamError) as caught:
            await jam.answer("t", "decline", by="pete")
        assert caught.value.code == "JAMR402"
        assert "olga" in caught.value.message
    assert "paying\ncompleted paid" in said(driver)


async def test_an_answer_with_tools_drives_the_run_on_and_the_other_process_sees_it(
    tmp_path: Path, driver: subprocess.Popen[str]
) -> None:
    async def pay(to: str, amount: Money) -> str:
        return "paid here"

    async with Engine(tmp_path / "t.db", tools={"pay": pay}) as jam:
        await jam.answer("t", "approve", by="olga")
        view = await jam.run("t").wait_ended()
        assert view.output is not None
    # Either process may have been first; the call was made once, and both see the same end.
    receipt = view.output["receipt"]
    output = said(driver)
    assert receipt in ("paid here", "paid 9.50 USD")
    assert receipt in output
    assert ("paying" in output) == (receipt == "paid 9.50 USD")


@pytest.mark.parametrize("driver", ["slow"], indirect=True)
async def test_a_busy_run_cannot_be_resumed_but_takes_messages(tmp_path: Path, driver: subprocess.Popen[str]) -> None:
    async with Engine(tmp_path / "t.db") as jam:
        await jam.answer("t", "approve", by="olga")
        run = jam.run("t")
        async for event in run.events():
            if event.kind == "intent":
                break
        async with Engine(tmp_path / "t.db", tools={"pay": lambda to, amount: "never"}) as other:
            with pytest.raises(JamError) as caught:
                await other.resume("t")
            assert caught.value.code == "JAMR205"
        await jam.cancel("t", by="ops")
        view = await asyncio.wait_for(run.wait_ended(), 20)
        # A write in flight is waited for: it was made, and then the run was cancelled.
        assert view.status == "cancelled"
        assert "succeeded" in [e.kind for e in jam.history("t")]


def test_an_owner_says_what_its_commits_are_worth() -> None:
    assert durability_of(this_owner()) == "full"
    assert durability_of(this_owner("normal")) == "normal"
    assert durability_of("host:1/2/3/cafe") == "full", "as engines were called before they said so"
    assert durability_of("") is None
    assert not is_dead(this_owner("normal"))


def test_an_owner_is_known_to_be_dead_only_when_it_is() -> None:
    assert not is_dead(this_owner())
    assert not is_dead("elsewhere.example/1/2/3")
    assert not is_dead("nonsense")
    host = this_owner().split("/")[0]
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    assert is_dead(f"{host}/{child.pid}/0/x")
    import os

    assert is_dead(f"{host}/{os.getpid()}/12345/x"), "another process had this number"
