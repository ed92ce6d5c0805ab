"""The real client against a server that speaks the protocol: what is sent, and what every failure becomes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jamjet_dsl import Engine, SimClock, compile_text
from jamjet_dsl.engine.view import RunView
from jamjet_dsl.store.memory import MemoryStore
from tests.models.openai_server import OpenAIServer, says

Serve = Callable[..., OpenAIServer]

JUDGE = """
/// What the bureau says.
record Risk {{
  /// How bad it is.
  level: string
  score: int 0..100
  limit: money?
}}
model large {{ via openai "tiny"  price $3 in $15 out per 1M tokens }}
agent judge {{
  input name: string
  output answer: {type}?
  budget {{ steps 9  tokens 50k  cost $1  exceeded -> over }}
  start state judging {{
    think "Judge {{name}}." given name  model large  max prompt 2k  max tokens 300  temperature 0  timeout {timeout}
      as answer: {type}  {retry}
    on error any -> over
    -> done
  }}
  final done {{ answer = answer }}
  failed over {{ }}
}}
"""


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    servers: list[OpenAIServer] = []

    def make(*script: Any) -> OpenAIServer:
        server = OpenAIServer(list(script))
        servers.append(server)
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        monkeypatch.delenv("JAM_MODEL", raising=False)
        return server

    yield make
    for server in servers:
        server.close()


async def judge(type: str = "Risk", retry: str = "", timeout: str = "20s", **engine: Any) -> tuple[RunView, list[Any]]:
    async with Engine(MemoryStore(), **engine) as jam:
        run = await jam.start(compile_text(JUDGE.format(type=type, retry=retry, timeout=timeout)), {"name": "ann"})
        view = await run.wait()
        return view, [e.body for e in jam.history(run.id) if e.kind in ("succeeded", "failed")]


async def test_a_record_is_asked_for_by_its_schema_and_comes_back_typed(serve: Serve) -> None:
    server = serve(says(None, calls=[("answer", '{"level": "low", "score": 7, "limit": "5.50 USD"}')]))
    view, (outcome,) = await judge()
    assert view.output == {"answer": {"level": "low", "score": 7, "limit": "5.50 USD"}}
    assert outcome["usage"]["tokens_in"] == 11
    assert view.spent["tokens"] == 18
    assert view.spent["cost"] == "0.000138 USD"
    (sent,) = server.requests
    assert sent["model"] == "tiny"
    assert sent["temperature"] == 0
    assert 300 in (sent.get("max_completion_tokens"), sent.get("max_tokens"))
    assert sent["messages"] == [{"role": "user", "content": "Judge ann.\n\nname:\nann"}]
    (tool,) = sent["tools"]
    schema = tool["function"]["parameters"]
    assert schema["properties"]["level"]["description"] == "How bad it is."
    assert schema["properties"]["score"]["maximum"] == 100
    assert sent["tool_choice"] == "required"


@pytest.mark.parametrize(
    ("type", "completion", "value"),
    [
        ("string", says("All is well."), "All is well."),
        ("int", says(None, calls=[("answer", '{"value": 42}')]), 42),
        ("list<string>", says(None, calls=[("answer", '{"value": ["a", "b"]}')]), ["a", "b"]),
        ("decimal", says(None, calls=[("answer", '{"value": 0.1}')]), "0.1"),
        ("Risk", says('```json\n{"level": "low", "score": 1}\n```'), {"level": "low", "score": 1, "limit": None}),
    ],
)
async def test_values_of_every_shape_are_understood(serve: Serve, type: str, completion: Any, value: Any) -> None:
    serve(completion)
    view, _ = await judge(type)
    assert view.output == {"answer": value}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((429, {"Retry-After": "3"}, {"error": {"message": "slow"}}), "RateLimited"),
        ((500, {}, {"error": {"message": "broken"}}), "Unavailable"),
        ((503, {}, {"error": {"message": "busy"}}), "Unavailable"),
        ((400, {}, {"error": {"message": "bad"}}), "InvalidInput"),
        ((401, {}, {"error": {"message": "key"}}), "InvalidInput"),
        ("hang up", "Disconnected"),
        (says(None, calls=[("answer", '{"level": "lo')], finish="length"), "InvalidOutput"),
        (says("Sure! Here it is: level low"), "InvalidOutput"),
        (says(None, calls=[("answer", '{"level": "low", "score": 700}')]), "InvalidOutput"),
        (says(None, calls=[("answer", "[1]")]), "InvalidOutput"),
        ((200, {}, {"nonsense": True}), "InvalidOutput"),
    ],
)
async def test_every_failure_has_the_name_that_programs_know(serve: Serve, answer: Any, error: str) -> None:
    server = serve(answer)
    view, (outcome,) = await judge()
    assert outcome["error"] == error, outcome
    assert view.state == "over"
    assert len(server.requests) == 1, "the client does not try again behind the journal's back"


async def test_a_model_that_does_not_answer_in_time_is_a_timeout(serve: Serve) -> None:
    serve(("sleep", 2))
    _, (outcome,) = await judge(timeout="200ms")
    assert outcome["error"] == "Timeout"


async def test_retry_after_is_kept_for_the_retry(serve: Serve) -> None:
    serve((429, {"Retry-After": "3"}, {"error": {"message": "slow"}}), says("fine"))
    clock = SimClock()
    program = compile_text(JUDGE.format(type="string", retry="retry RateLimited 2 times", timeout="20s"))
    async with Engine(MemoryStore(), clock=clock) as jam:
        run = await jam.start(program, {"name": "ann"})
        async for event in run.events():
            if event.kind == "retry":
                break
        failed = next(e for e in jam.history(run.id) if e.kind == "failed")
        assert failed.body["retry_after_ms"] == 3000
        await clock.advance(3_500)
        view = await run.wait_ended()
    assert view.output == {"answer": "fine"}


async def test_an_answer_that_does_not_fit_is_shown_to_the_model_and_asked_again(serve: Serve) -> None:
    server = serve(
        says(None, calls=[("answer", '{"level": "low", "score": 700}')]),
        says(None, calls=[("answer", '{"level": "low", "score": 70}')]),
    )
    view, _ = await judge(retry="retry InvalidOutput 2 times")
    assert view.output == {"answer": {"level": "low", "score": 70, "limit": None}}
    assert "score" in server.requests[1]["messages"][-1]["content"]
    assert "700" in server.requests[1]["messages"][-1]["content"]


CHAT = """
tool search(q: string) -> list<string> untrusted { effect reads  raises NotFound }
model large { via openai "tiny" }
agent helper {
  input question: string
  output answer: string
  var chat: conversation = [user(question)]
  budget { steps 9  tokens 90k  exceeded -> over }
  policy { allow search }
  on error any -> over
  start state decide {
    think "Answer, or search." in chat tools search model large max prompt 8k max tokens 500 as move
    when has(move.call) -> act
    otherwise -> answered
  }
  state act { call proposed move  on denied -> over  -> decide limit 3 else over }
  final answered { answer = has(move.text) ? move.text : "" }
  failed over { answer = "" }
}
"""


async def test_tools_are_offered_and_their_results_go_back_to_the_model(serve: Serve) -> None:
    server = serve(
        says("Let me look.", calls=[("search", '{"q": "jam"}'), ("search", '{"q": "second"}')]),
        says("It is sweet."),
    )
    searched: list[str] = []

    async def search(q: str) -> list[str]:
        searched.append(q)
        return ["jam is sweet"]

    async with Engine(MemoryStore(), tools=[search]) as jam:
        view = await (await jam.start(compile_text(CHAT), {"question": "What is jam?"})).wait()
    assert view.output == {"answer": "It is sweet."}
    assert searched == ["jam"], "one call per answer"
    first, second = server.requests
    assert [tool["function"]["name"] for tool in first["tools"]] == ["search"]
    assert first["messages"][0] == {"role": "system", "content": "Answer, or search."}
    roles = [message["role"] for message in second["messages"]]
    assert roles == ["system", "user", "assistant", "tool"]
    called, result = second["messages"][2], second["messages"][3]
    assert len(called["tool_calls"]) == 1
    assert called["tool_calls"][0]["id"] == result["tool_call_id"]
    assert json.loads(result["content"]) == ["jam is sweet"]


async def test_one_variable_puts_another_model_in_place_of_all(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(says("fine"))
    monkeypatch.setenv("JAM_MODEL", "openai:other")
    view, _ = await judge("string")
    assert server.requests[0]["model"] == "other"
    assert view.output == {"answer": "fine"}


async def test_a_model_of_pydantic_ai_can_be_given(serve: Serve) -> None:
    from pydantic_ai.models.test import TestModel

    view, _ = await judge("string", models={"large": TestModel(custom_output_text="canned")})
    assert view.output == {"answer": "canned"}


async def test_a_prompt_larger_than_its_bound_is_refused_before_it_is_sent(serve: Serve) -> None:
    server = serve(says("never"))
    async with Engine(MemoryStore()) as jam:
        program = compile_text(JUDGE.format(type="string", retry="", timeout="20s"))
        run = await jam.start(program, {"name": "x" * 50_000})
        view = await run.wait()
    assert view.state == "over"
    assert server.requests == []


def test_binding_a_model_imports_no_provider() -> None:
    code = (
        "import os, sys; os.environ['OPENAI_API_KEY'] = 'k';"
        "from jamjet_dsl.models.pydantic_ai import problem;"
        "assert problem('openai:gpt') is None; assert 'pydantic_ai' not in sys.modules and 'openai' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
