"""The support agent against its shop: the scripted conversation, the fences around it, and the shop's own guards."""

import json
import sqlite3
from contextlib import closing
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from jamjet_dsl import Engine, Scripted, compile_file
from jamjet_dsl.compiler import check_file
from jamjet_dsl.engine.testing import run_tests
from jamjet_dsl.engine.view import RunView
from tests.models.openai_server import OpenAIServer, says

from .pages import ROOT, checkout, run_blocks

FOLDER = ROOT / "examples" / "support_agent"
PROGRAM = FOLDER / "support_agent.jam"
QUESTION = json.loads((FOLDER / "question.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def _shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAM_MODEL", raising=False)
    monkeypatch.setenv("SHOP_DB", str(tmp_path / "shop.db"))


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The shop's module, as its tools import it."""
    monkeypatch.syspath_prepend(FOLDER)
    return import_module("shop")


def refunds(tmp_path: Path) -> list[tuple[str, str, str]]:
    with closing(sqlite3.connect(tmp_path / "shop.db")) as db:
        return [(k, o, a) for k, o, a in db.execute("SELECT key, order_id, amount FROM refunds ORDER BY id")]


def call(tool: str, **args: Any) -> dict[str, Any]:
    return {"call": {"tool": tool, "args": args}}


async def talk(tmp_path: Path, *answers: Any, option: str | None = None) -> RunView:
    """A run with these answers of the model (or those of the example), and one of a person."""
    models = {"*": Scripted(list(answers))} if answers else {}
    async with Engine(store=tmp_path / "jam.db", models=models) as jam:
        run = await jam.start(PROGRAM, QUESTION, id="t-1")
        view = await run.wait()
        if option is not None:
            assert view.state == "confirm_refund", view
            await jam.answer("t-1", option, by="lea")
            view = await run.wait()
        return view


def kinds(view: RunView, tmp_path: Path) -> list[tuple[str, dict[str, Any]]]:
    with closing(sqlite3.connect(tmp_path / "jam.db")) as db:
        rows = db.execute("SELECT kind, body FROM journal WHERE run_id = ? ORDER BY seq", (view.run_id,)).fetchall()
    return [(kind, json.loads(body)) for kind, body in rows]


def test_the_program_is_clean_and_its_own_tests_pass() -> None:
    found = [str(d.message) for d in check_file(str(PROGRAM)).diagnostics]
    assert found == []
    results = run_tests(compile_file(str(PROGRAM)))
    assert [(r.title, r.failures) for r in results if not r.passed] == []
    assert len(results) == 6


def test_every_command_of_the_page_does_what_the_page_says(tmp_path: Path) -> None:
    run_blocks(FOLDER / "README.md", checkout(tmp_path), SHOP_DB=str(tmp_path / "page.db"))


async def test_the_conversation_of_the_example(tmp_path: Path) -> None:
    view = await talk(tmp_path, option="approve")
    assert (view.status, view.state) == ("completed", "answered")
    assert view.output is not None
    assert "39.90 USD" in view.output["answer"]
    assert refunds(tmp_path) == [("t-1/o-1001", "o-1001", "39.90")]
    events = kinds(view, tmp_path)
    (malformed,) = [b for k, b in events if k == "failed"]
    assert malformed["error"] == "InvalidInput"
    (denied,) = [b for k, b in events if k == "denied"]
    assert denied["tool"] == "run_sql"
    assert [b["tool"] for k, b in events if k == "intent" and "tool" in b].count("run_sql") == 1


async def test_a_person_refuses_and_nothing_is_paid(tmp_path: Path) -> None:
    view = await talk(tmp_path, option="refuse")
    assert view.status == "completed"
    assert refunds(tmp_path) == []
    assert view.output is not None
    assert {"role": "user", "text": "A person refused the refund."}.items() <= view.output["chat"][-2].items()


async def test_the_shop_rejects_and_the_model_is_told(tmp_path: Path) -> None:
    view = await talk(
        tmp_path,
        call("refund", order="o-9", amount="10.00 USD"),
        {"text": "I cannot find this order."},
        option="approve",
    )
    assert (view.state, refunds(tmp_path)) == ("answered", [])
    assert view.output is not None
    assert "there is no order o-9" in json.dumps(view.output["chat"])


async def test_an_answer_outside_the_closed_set_of_tools_is_repaired(tmp_path: Path) -> None:
    view = await talk(tmp_path, call("delete_shop"), call("search", q="delivery"), {"text": "Two to four days."})
    assert view.state == "answered"
    errors = [(b["error"], b["message"]) for k, b in kinds(view, tmp_path) if k == "failed"]
    assert [error for error, _ in errors] == ["InvalidInput"]
    assert "delete_shop" in errors[0][1]


async def test_a_query_that_writes_is_refused_by_the_shop_and_the_model_is_told(tmp_path: Path) -> None:
    view = await talk(
        tmp_path, call("run_sql", role="read_only", query="DELETE FROM orders"), {"text": "I must not do that."}
    )
    assert view.state == "answered"
    (failed,) = [b for k, b in kinds(view, tmp_path) if k == "failed"]
    assert failed["error"] == "BadQuery"


async def test_a_query_under_another_role_is_denied(tmp_path: Path) -> None:
    view = await talk(tmp_path, call("run_sql", role="admin", query="SELECT 1"), {"text": "I must not do that."})
    assert [b["tool"] for k, b in kinds(view, tmp_path) if k == "denied"] == ["run_sql"]
    assert view.state == "answered"


async def test_a_refund_above_the_limit_is_denied_before_anybody_is_asked(tmp_path: Path) -> None:
    view = await talk(tmp_path, call("refund", order="o-1003", amount="420.00 USD"), {"text": "I cannot do that."})
    found = [kind for kind, _ in kinds(view, tmp_path)]
    assert "denied" in found
    assert "asked" not in found
    assert view.state == "answered"


async def test_a_model_that_never_stops_is_stopped_by_the_budget(tmp_path: Path) -> None:
    view = await talk(tmp_path, call("read_page", url="https://help.example/returns"))
    assert (view.status, view.state) == ("failed", "give_up")
    assert view.spent["steps"] <= 24


async def test_the_same_agent_with_the_real_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pydantic_ai", reason="pydantic-ai-slim is not installed: pip install jamjet-dsl[models]")
    server = OpenAIServer([
        says(None, calls=[("search", '{"q": "broken"}')]),
        says(None, calls=[("refund", '{"order": "o-1001", "amount": "39.90 USD"}')]),
        says("You get 39.90 USD back."),
    ])  # fmt: skip
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("JAM_MODEL", "openai:gpt-4.1")
    try:
        view = await talk(tmp_path, option="approve")
    finally:
        server.close()
    assert view.output is not None
    assert view.output["answer"] == "You get 39.90 USD back."
    assert refunds(tmp_path) == [("t-1/o-1001", "o-1001", "39.90")]
    assert view.spent["tokens"] == 3 * 18
    offered = {tool["function"]["name"] for tool in server.requests[0]["tools"]}
    assert offered == {"search", "read_page", "run_sql", "refund"}
    assert "help.example/damaged" in json.dumps(server.requests[1]["messages"])


# ---- the shop


def test_one_key_is_paid_back_once(shop: Any) -> None:
    assert shop.pay_back("k", "o-1001", Decimal("10"), "USD") == shop.pay_back("k", "o-1001", Decimal("10"), "USD")
    assert shop.pay_back("other", "o-1001", Decimal("29.90"), "USD") == "refund 2"
    with pytest.raises(shop.Rejected, match=r"0\.00 USD are left"):
        shop.pay_back("third", "o-1001", Decimal("0.01"), "USD")


@pytest.mark.parametrize(
    "query",
    [
        "DROP TABLE orders",
        "SELECT 1; SELECT 2",
        "ATTACH 'x.db' AS x",
        "PRAGMA table_info(orders)",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
        "no query",
    ],
)
def test_only_one_short_select_is_run(shop: Any, query: str) -> None:
    with pytest.raises(shop.BadQuery):
        shop.select(query)
    assert shop.select("SELECT count(*) AS n FROM orders") == [{"n": 3}]
