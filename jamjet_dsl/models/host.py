"""Which model answers for which name.

In this order: what the Engine was given under the model's name, what it was given as `"*"`, the environment
variable `JAM_MODEL` (`openai:gpt-4.1`, for all models of the program), the `via` of the program, where
`via script "answers.json"` is a file of scripted answers beside the program. A state without `model` asks for the
name `default`; a program's only model stands for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jamjet_dsl.definition import Definition
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel.model import Think
from jamjet_dsl.models.scripted import Scripted
from jamjet_dsl.ports import Model, ThinkResult, ToolError

DEFAULT = "default"
SCRIPT = "script:"


class Models:
    """The models of one definition."""

    def __init__(self, definition: Definition, given: Mapping[str, Any], folder: Path | None = None) -> None:
        self._definition = definition
        self._given = given
        self._folder = folder or Path()
        self._made: dict[str, Model] = {}

    def missing(self, models: Iterable[str | None]) -> list[str]:
        """What is wrong with the bindings of these models, one sentence each. Imports no provider."""
        found = []
        for name in dict.fromkeys(self._name(m) for m in models):
            source = self._source(name)
            if source is None:
                found.append(f"model {name}: no provider; add via, set JAM_MODEL, or pass it to the Engine")
            elif isinstance(source, str):
                reason = self._problem(source)
                if reason is not None:
                    found.append(f"model {name}: {reason}")
        return found

    def bindings(self, models: Iterable[str | None]) -> dict[str, str]:
        """What each of these models is bound to, for the digest in the journal."""
        names = dict.fromkeys(self._name(m) for m in models)
        return {n: s if isinstance(s := self._source(n), str) else type(s).__name__ for n in names}

    async def think(self, think: Think, run_id: str) -> ThinkResult:
        """Ask the model that `think` names. A prompt above `max prompt` is refused before it is sent."""
        _check_size(think)
        name = self._name(think.model)
        model = self._made.get(name)
        if model is None:
            source = self._source(name)
            if source is None:
                raise ToolError("Unavailable", f"the model {name} has no provider", definite=True)
            if isinstance(source, str) and source.startswith(SCRIPT):
                model = self.script(name)
            elif isinstance(source, str):
                from jamjet_dsl.models.pydantic_ai import PydanticModel

                model = PydanticModel(source, self._definition)
            else:
                model = _as_model(source, self._definition)
            self._made[name] = model
        return await model.ask(think, run_id)

    def script(self, name: str) -> Scripted:
        """The scripted model that a program binds a name to. Raises JamError as `Scripted.from_file` does."""
        made = self._made.get(name)
        if not isinstance(made, Scripted):
            made = Scripted.from_file(self._folder / str(self._source(name)).removeprefix(SCRIPT))
            self._made[name] = made
        return made

    def scripts(self) -> list[Scripted]:
        """The scripts that the program binds its models to: a run goes on in them where its journal says it was."""
        return [
            self.script(name)
            for name in self._definition.models
            if isinstance(source := self._source(name), str) and source.startswith(SCRIPT)
        ]

    def _problem(self, source: str) -> str | None:
        if source.startswith(SCRIPT):
            try:
                Scripted.from_file(self._folder / source.removeprefix(SCRIPT))
            except JamError as error:
                return error.message
            return None
        from jamjet_dsl.models.pydantic_ai import problem

        return problem(source)

    def _name(self, model: str | None) -> str:
        if model is not None:
            return model
        declared = list(self._definition.models)
        return declared[0] if len(declared) == 1 else DEFAULT

    def _source(self, name: str) -> Any:
        """A model object, `provider:name`, or None."""
        if name in self._given or "*" in self._given:
            return self._given.get(name, self._given.get("*"))
        override = os.environ.get("JAM_MODEL")
        if override:
            return override
        declared = self._definition.models.get(name)
        if declared is None or declared.via is None:
            return None
        return f"{declared.via.kind}:{declared.via.target}"


def _check_size(think: Think) -> None:
    """No tokenizer is at hand for every model: four bytes of UTF-8 are taken for a token, as English text has it."""
    if think.max_prompt is None:
        return
    told = [think.prompt, *(str(part) for pair in think.given for part in pair), *map(str, think.messages or ())]
    tokens = sum(len(text.encode(errors="replace")) for text in told) // 4
    if tokens > think.max_prompt:
        text = f"the prompt has about {tokens} tokens; max prompt is {think.max_prompt}"
        raise ToolError("InvalidInput", text, definite=True)


def _as_model(source: Any, definition: Definition) -> Model:
    """What has `ask` is a model; anything else is taken for one of pydantic-ai."""
    if hasattr(source, "ask"):
        model: Model = source
        return model
    from jamjet_dsl.models.pydantic_ai import PydanticModel

    return PydanticModel(source, definition)
