"""What a definition needs of the world, found and checked before anything of it runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jamjet_dsl.definition import Definition, State, Think
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.loading import needed_vault
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.models.host import Models
from jamjet_dsl.tools.python import Function, PythonTools
from jamjet_dsl.tools.threads import Threads


@dataclass(frozen=True, slots=True)
class Bound:
    """A definition with its tools and models."""

    program: Program
    tools: PythonTools
    models: Models
    digest: str


def bind(
    definition: Definition,
    tools: Mapping[str, Function],
    models: Mapping[str, Any],
    folder: Path | None,
    threads: Threads,
) -> Bound:
    """Bind a definition. Raises JamError: JAMR306 for secrets without a key, JAMR303 naming everything that is missing
    at once, JAMR304 for a tool's module that cannot be imported."""
    needed_vault(Program.of(definition))
    host, asked = PythonTools(definition, tools, folder, threads), Models(definition, models, folder)
    names = list(dict.fromkeys(_models(definition)))
    problems = host.missing(definition.tools) + asked.missing(names)
    if problems:
        raise JamError("JAMR303", "the program cannot be run as it is bound", details=tuple(problems))
    bound_to = {
        "tools": {n: "given" if n in tools else t.via.target if t.via else "" for n, t in definition.tools.items()},
        "models": asked.bindings(names),
    }
    digest = hashlib.sha256(json.dumps(bound_to, sort_keys=True).encode()).hexdigest()
    return Bound(Program.of(definition), host, asked, digest)


def _models(definition: Definition) -> Iterator[str | None]:
    program = Program.of(definition)
    for plan in (program.main, *program.plans.values()):
        for states in plan.regions.values():
            for state in states.values():
                if isinstance(state, State) and isinstance(state.action, Think):
                    yield state.action.model
