"""Scripted answers in place of a model: for tests and demonstrations, chosen by name and never by accident.

A script is JSON: a list of answers, or an object that gives lists by state or by model (`"*"` for the rest).

    {"explain": ["Low risk.", {"error": "RateLimited", "retry_after_ms": 500}, "Low risk."], "*": [...]}

An answer is the value itself (text, or JSON of the declared type); an object with `error` fails the attempt; an
object with `value` may give `tokens_in`, `tokens_out`, `cost` too, and `delay_ms`. After the last answer the last
one repeats.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel.model import Event, Think
from jamjet_dsl.kernel.values import loads_public
from jamjet_dsl.ports import ThinkResult, ToolError

_ERROR_FIELDS = {"error", "message", "retry_after_ms", "delay_ms"}
_VALUE_FIELDS = {"value", "tokens_in", "tokens_out", "cost", "delay_ms"}


class Scripted:
    """A model that answers from a script, per run: every run starts at the first answer."""

    def __init__(self, answers: Sequence[Any] | Mapping[str, Sequence[Any]]) -> None:
        self._answers = (
            {"*": list(answers)} if isinstance(answers, Sequence) else {k: list(v) for k, v in answers.items()}
        )
        self._given: dict[tuple[str, str], int] = {}
        for name, script in self._answers.items():
            if not script:
                raise JamError("JAMR301", f"the model script gives no answer for {name}")

    @classmethod
    def from_file(cls, path: str | Path) -> Scripted:
        """Read a script. Raises JamError JAMR001, JAMR002 or JAMR301."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise JamError("JAMR002", f"{path} is not UTF-8 text") from error
        except OSError as error:
            raise JamError("JAMR001", f"{path} cannot be read: {error.strerror}") from error
        data = loads_public(text, what=str(path))
        lists = data.values() if isinstance(data, dict) else [data]
        if not all(isinstance(script, list) for script in lists):
            raise JamError(
                "JAMR301", f"{path} is no model script", "give a list of answers, or lists by state or model"
            )
        return cls(data)

    def recall(self, run_id: str, events: Iterable[Event], start: str) -> None:
        """Count the answers that a run was given before: another process goes on where its journal ends.

        `start` is the agent's first state; where later intents stand follows from the transitions.
        """
        for key in [k for k in self._given if k[0] == run_id]:
            del self._given[key]
        thinks: dict[str, str | None] = {}
        state = start
        for event in events:
            body = event.body
            if event.kind == "moved":
                state = body["to"]
            elif event.kind == "intent" and "prompt" in body:
                thinks[body["cmd"]] = self._name(state, body.get("model"))
            elif event.kind in ("succeeded", "failed"):
                name = thinks.pop(body["cmd"], None)
                if name is not None:
                    self._given[run_id, name] = self._given.get((run_id, name), 0) + 1

    def _name(self, state: str, model: str | None) -> str | None:
        return next((n for n in (state, model or "", "*") if n in self._answers), None)

    async def ask(self, think: Think, run_id: str) -> ThinkResult:
        """The next answer for the state, else for the model, else for `*`."""
        name = self._name(think.state, think.model)
        if name is None:
            raise ToolError("Unavailable", f"the model script has no answer for {think.state}", definite=True)
        script = self._answers[name]
        at = self._given.get((run_id, name), 0)
        self._given[run_id, name] = at + 1
        return await _play(script[min(at, len(script) - 1)])


async def _play(answer: Any) -> ThinkResult:
    fields: Iterable[str] = answer.keys() if isinstance(answer, dict) else ()
    if "error" in fields and set(fields) <= _ERROR_FIELDS:
        await asyncio.sleep(answer.get("delay_ms", 0) / 1000)
        message = str(answer.get("message", "scripted"))
        raise ToolError(answer["error"], message, retry_after_ms=answer.get("retry_after_ms"))
    if "value" in fields and set(fields) <= _VALUE_FIELDS:
        await asyncio.sleep(answer.get("delay_ms", 0) / 1000)
        cost = answer.get("cost")
        return ThinkResult(
            answer["value"],
            int(answer.get("tokens_in", 0)),
            int(answer.get("tokens_out", 0)),
            None if cost is None else str(cost),
            "scripted",
        )
    return ThinkResult(answer, provider="scripted")
