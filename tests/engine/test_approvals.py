"""An approval by several people, through the engine and both stores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from jamjet_dsl import Engine, compile_text
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.ports import Store
from jamjet_dsl.store.memory import MemoryStore
from jamjet_dsl.store.sqlite import SqliteStore

TWO = """
tool pay(to: string) -> int { effect irreversible  key run.id  timeout 5s }
agent payer {
  output by: string
  budget { steps 9  exceeded -> stopped }
  policy { allow pay  require approval by 2 of "officer" not principal before pay }
  on error any -> stopped
  on denied    -> stopped
  on in_doubt  -> stopped
  start state review {
    ask role "officer" to pay("bob") "Pay?" options approve approves, no  timeout 1h  as a
    on approve -> paying
    on no      -> stopped
    on timeout -> stopped
  }
  state  paying { call approved pay  -> paid }
  final  paid { by = a.by }
  failed stopped { by = "" }
}
"""

Make = Callable[[Path], Store]
STORES = pytest.mark.parametrize(
    "make", [lambda _: MemoryStore(), lambda folder: SqliteStore(folder / "t.db")], ids=["memory", "sqlite"]
)


async def pay(to: str) -> int:
    return 1


@STORES
async def test_a_question_for_two_people_stays_open_until_both_have_approved(make: Make, tmp_path: Path) -> None:
    async with Engine(make(tmp_path), tools={"pay": pay}) as jam:
        run = await jam.start(compile_text(TWO), {}, principal={"id": "ann", "roles": ["officer"]})
        (question,) = jam.inbox()

        async def refused(who: str) -> str:
            with pytest.raises(JamError) as caught:
                await jam.answer(question.id, "approve", by=who)
            return caught.value.code

        assert await refused("ann") == "JAMR409"
        await jam.answer(question.id, "approve", by="bob")
        assert [row.id for row in jam.inbox()] == [question.id]
        assert await refused("bob") == "JAMR409"
        await jam.answer(question.id, "approve", by="cid")
        assert (await run.wait()).output == {"by": "cid"}
        assert jam.inbox() == []
        assert await refused("dan") == "JAMR402"


@STORES
async def test_one_refusal_closes_a_question_for_two_people(make: Make, tmp_path: Path) -> None:
    async with Engine(make(tmp_path), tools={"pay": pay}) as jam:
        run = await jam.start(compile_text(TWO), {})
        (question,) = jam.inbox()
        await jam.answer(question.id, "approve", by="bob")
        await jam.answer(question.id, "no", by="cid")
        assert (await run.wait()).state == "stopped"
        assert jam.inbox() == []
