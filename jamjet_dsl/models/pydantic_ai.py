"""Real models, through pydantic-ai: any of its providers, and any server that speaks OpenAI's chat protocol.

`openai:NAME` speaks the chat protocol to `OPENAI_BASE_URL` (OpenAI itself if that is not set). Every request is
one attempt: clients do not retry behind the journal's back. This module is imported only when a model is bound,
pydantic-ai itself (half a second) only when one is asked.
"""

from __future__ import annotations

import json
import os
from decimal import Decimal
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from jamjet_dsl import definition as d
from jamjet_dsl.kernel.model import Think
from jamjet_dsl.kernel.values import to_public
from jamjet_dsl.models.schema import object_of, schema_of
from jamjet_dsl.ports import ThinkResult, ToolError

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, ModelResponse
    from pydantic_ai.models import Model, ModelRequestParameters

ANSWER = "answer"
"""The tool through which a model gives a value of the declared type."""
_KEYS = {
    "openai": ("OPENAI_API_KEY", "OPENAI_BASE_URL"),
    "openai-chat": ("OPENAI_API_KEY", "OPENAI_BASE_URL"),
    "openai-responses": ("OPENAI_API_KEY", "OPENAI_BASE_URL"),
    "anthropic": ("ANTHROPIC_API_KEY",),
    "google": ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
    "groq": ("GROQ_API_KEY",),
    "mistral": ("MISTRAL_API_KEY",),
    "openrouter": ("OPENROUTER_API_KEY",),
    "deepseek": ("DEEPSEEK_API_KEY",),
    "cohere": ("CO_API_KEY",),
    "xai": ("XAI_API_KEY",),
}
_PACKAGES = {
    "anthropic": "anthropic",
    "google": "google",
    "groq": "groq",
    "mistral": "mistralai",
    "cohere": "cohere",
}


def problem(source: str) -> str | None:
    """Why a model cannot be asked, or None. Looks for packages and keys, and imports nothing."""
    provider, _, name = source.partition(":")
    if not provider or not name:
        return f'"{source}" names no model; write PROVIDER:NAME, like openai:gpt-4.1'
    if find_spec("pydantic_ai") is None:
        return 'models need an extra: pip install "jamjet-dsl[models]"'
    package = _PACKAGES.get(provider, "openai")
    if find_spec(package) is None:
        return f'{provider} needs a package: pip install "pydantic-ai-slim[{provider}]"'
    keys = _KEYS.get(provider, ())
    if keys and not any(os.environ.get(key) for key in keys):
        return f"{provider} needs {keys[0]} in the environment, or use JAM_MODEL or --model-script"
    return None


class PydanticModel:
    """A model of pydantic-ai, or `provider:name`."""

    def __init__(self, source: str | Model, definition: d.Definition) -> None:
        self._source = source
        self._definition = definition
        self._model: Model | None = None

    async def ask(self, think: Think, run_id: str) -> ThinkResult:
        """One request, one answer. Raises ToolError for whatever went wrong."""
        from pydantic_ai.direct import model_request

        settings: dict[str, Any] = {"parallel_tool_calls": False} if think.tools else {}
        if think.max_tokens is not None:
            settings["max_tokens"] = think.max_tokens
        if think.temperature is not None:
            settings["temperature"] = float(think.temperature)
        try:
            if self._model is None:
                self._model = _make(self._source) if isinstance(self._source, str) else self._source
            response = await model_request(
                self._model,
                self._messages(think),
                model_settings=settings,  # type: ignore[arg-type]
                model_request_parameters=self._parameters(think),
            )
        except Exception as error:
            raise _as_tool_error(error) from error
        return self._result(think, response)

    # ---- what is sent

    def _messages(self, think: Think) -> list[ModelMessage]:
        from pydantic_ai.messages import ModelRequest, UserPromptPart

        told = "\n\n".join(f"{label}:\n{_text(value)}" for label, value in think.given)
        correction = "" if think.previous_error is None else f"Your last answer was refused: {think.previous_error}"
        if think.messages is None:
            text = "\n\n".join(part for part in (think.prompt, told, correction) if part)
            return [ModelRequest(parts=[UserPromptPart(text)])]
        messages = _history(think.messages)
        extra = "\n\n".join(part for part in (told, correction) if part)
        if extra or not messages:
            messages.append(ModelRequest(parts=[UserPromptPart(extra or think.prompt)]))
        last = messages[-1]
        if not isinstance(last, ModelRequest):
            last = ModelRequest(parts=[UserPromptPart("Go on.")])
            messages.append(last)
        last.instructions = think.prompt
        return messages

    def _parameters(self, think: Think) -> ModelRequestParameters:
        from pydantic_ai.models import ModelRequestParameters
        from pydantic_ai.tools import ToolDefinition

        if think.tools:
            tools = [
                ToolDefinition(
                    name=name, description=tool.doc, parameters_json_schema=object_of(tool.params, self._definition)
                )
                for name, tool in ((n, self._definition.tools[n]) for n in think.tools)
            ]
            return ModelRequestParameters(function_tools=tools, allow_text_output=True)
        if _is_text(think.result_type):
            return ModelRequestParameters(allow_text_output=True)
        schema, _ = self._answer_schema(think.result_type)
        answer = ToolDefinition(
            name=ANSWER, description="Give the answer.", parameters_json_schema=schema, kind="output"
        )
        return ModelRequestParameters(output_mode="tool", output_tools=[answer], allow_text_output=False)

    def _answer_schema(self, type: d.Type) -> tuple[dict[str, Any], bool]:
        """The schema of the answer, and whether the value is wrapped in an object of its own."""
        schema = schema_of(type, self._definition)
        if schema.get("type") == "object" and "properties" in schema:
            return schema, False
        wrapped = {
            "type": "object",
            "properties": {"value": schema},
            "required": ["value"],
            "additionalProperties": False,
        }
        return wrapped, True

    # ---- what comes back

    def _result(self, think: Think, response: ModelResponse) -> ThinkResult:
        usage = {
            "tokens_in": response.usage.input_tokens,
            "tokens_out": response.usage.output_tokens,
            "cost": None,
        }
        cut = response.finish_reason == "length"
        try:
            value, kept = self._value(think, response)
        except ValueError as error:
            reason = "the answer was cut off at max tokens" if cut else str(error)
            raise ToolError("InvalidOutput", reason, usage=usage) from error
        if cut and not think.tools and _is_text(think.result_type):
            raise ToolError("InvalidOutput", "the answer was cut off at max tokens", usage=usage)
        items = _dump(kept) if think.messages is not None else ()
        return ThinkResult(
            value, usage["tokens_in"] or 0, usage["tokens_out"] or 0, None, response.model_name or "", items
        )

    def _value(self, think: Think, response: ModelResponse) -> tuple[Any, ModelResponse]:
        """The value, and the response with one call at most: what the conversation keeps."""
        from pydantic_ai.messages import TextPart, ToolCallPart

        text = "".join(part.content for part in response.parts if isinstance(part, TextPart))
        calls = [part for part in response.parts if isinstance(part, ToolCallPart)]
        if think.tools:
            kept = [p for p in response.parts if not isinstance(p, ToolCallPart) or p is calls[0]]
            response.parts = kept
            move: dict[str, Any] = {"text": text or None, "call": None}
            if calls:
                move["call"] = {"tool": calls[0].tool_name, "args": _object(calls[0].args)}
            return move, response
        if _is_text(think.result_type):
            return text, response
        _, wrapped = self._answer_schema(think.result_type)
        if calls:
            answer = _object(calls[0].args)
            return (answer.get("value") if wrapped and set(answer) == {"value"} else answer), response
        # Some servers know no tools and write the JSON as text, often in a fence.
        answer = _loads(_unfenced(text))
        if wrapped and isinstance(answer, dict) and set(answer) == {"value"}:
            answer = answer["value"]
        return answer, response


def _make(source: str) -> Model:
    from pydantic_ai.models import infer_model

    provider, _, name = source.partition(":")
    if provider == "openai":
        source = f"openai-chat:{name}"
    return infer_model(source, provider_factory=_provider)


def _provider(name: str) -> Any:
    """A provider whose client makes one attempt: retries are the program's, and journaled."""
    if name in ("openai", "openai-chat", "openai-responses"):
        from openai import AsyncOpenAI
        from pydantic_ai.providers.openai import OpenAIProvider

        # A server of one's own needs no key, but the client insists on one.
        return OpenAIProvider(
            openai_client=AsyncOpenAI(api_key=os.environ.get("OPENAI_API_KEY") or "none", max_retries=0)
        )
    if name == "anthropic":
        from pydantic_ai.providers.anthropic import AnthropicProvider

        # Not a dependency of ours, so not an import statement.
        client = import_module("anthropic").AsyncAnthropic(max_retries=0)
        return AnthropicProvider(anthropic_client=client)
    from pydantic_ai.providers import infer_provider

    return infer_provider(name)


def _history(items: tuple[Any, ...]) -> list[ModelMessage]:
    """A conversation as messages. An answer of a model is given back as its provider wrote it."""
    from pydantic_ai.messages import (
        ModelMessagesTypeAdapter,
        ModelRequest,
        ModelResponse,
        TextPart,
        ToolCallPart,
        ToolReturnPart,
        UserPromptPart,
    )

    messages: list[ModelMessage] = []
    ids: dict[str, str] = {}
    for item in items:
        text, call = item.get("text"), item.get("call")
        match item["role"]:
            case "assistant" if item.get("items"):
                messages += ModelMessagesTypeAdapter.validate_python(list(item["items"]))
                parts = [p for m in messages[-1:] for p in m.parts if isinstance(p, ToolCallPart)]
                if call is not None and parts:
                    ids[call["id"]] = parts[0].tool_call_id
            case "assistant":
                said: list[Any] = [TextPart(text)] if text else []
                if call is not None:
                    said.append(ToolCallPart(call["tool"], to_public(call["args"]), call["id"]))
                messages.append(ModelResponse(parts=said))
            case "tool" if call is not None:
                result = ToolReturnPart(item.get("tool", ""), text or "", ids.get(call, call))
                messages.append(ModelRequest(parts=[result]))
            case _:
                messages.append(ModelRequest(parts=[UserPromptPart(text or "")]))
    return messages


def _dump(response: ModelResponse) -> tuple[Any, ...]:
    from pydantic_ai.messages import ModelMessagesTypeAdapter

    items: list[Any] = ModelMessagesTypeAdapter.dump_python([response], mode="json", exclude_defaults=True)
    for item in items:
        item["kind"] = "response"
        for part, source in zip(item.get("parts", []), response.parts, strict=True):
            part["part_kind"] = source.part_kind
    return tuple(items)


def _is_text(type: d.Type) -> bool:
    return isinstance(type, d.Scalar) and type.kind == "string"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(to_public(value), ensure_ascii=False)


def _loads(text: str) -> Any:
    try:
        return json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the answer is not JSON: {error}") from None


def _object(args: Any) -> dict[str, Any]:
    value = _loads(args) if isinstance(args, str) else {} if args is None else args
    if not isinstance(value, dict):
        raise ValueError("the answer is not a JSON object")
    return value


def _unfenced(text: str) -> str:
    body = text.strip()
    if body.startswith("```"):
        body = body.partition("\n")[2].rpartition("```")[0]
    return body


def _as_tool_error(error: Exception) -> ToolError:
    """What a failed request means to a program. Nothing here can have had an effect."""
    from pydantic_ai import exceptions as e

    text = str(error)[:2000] or type(error).__name__
    match error:
        case ToolError():
            return error
        case e.ModelHTTPError():
            wait = None if error.retry_after is None else max(int(error.retry_after * 1000), 0)
            if error.status_code == 429:
                return ToolError("RateLimited", text, definite=True, retry_after_ms=wait)
            if error.status_code in (408, 504):
                return ToolError("Timeout", text)
            if error.status_code >= 500:
                return ToolError("Unavailable", text, definite=True, retry_after_ms=wait)
            return ToolError("InvalidInput", text, definite=True)
        case e.ModelTimeoutError() | e.ModelRequestTimeout() | TimeoutError():
            return ToolError("Timeout", text)
        case e.ModelConnectionError() | e.ModelAPIError() | ConnectionError():
            return ToolError("Disconnected", text)
        case e.UnexpectedModelBehavior():
            return ToolError("InvalidOutput", text)
        case e.UserError():
            return ToolError("InvalidInput", text, definite=True)
    return ToolError("Crashed", f"{type(error).__name__}: {text}")
