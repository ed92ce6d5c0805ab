"""The programs of one engine: compiled, stored, bound to its tools and models, and remembered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jamjet_dsl.definition import Compiled, Definition
from jamjet_dsl.engine.bindings import Bound, bind
from jamjet_dsl.engine.loading import Pinned, pin, pinned
from jamjet_dsl.engine.recordings import calls_nothing
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.models.host import Models
from jamjet_dsl.ports import Store
from jamjet_dsl.tools.python import Function, PythonTools, by_name
from jamjet_dsl.tools.threads import Threads

MOST_PINS = 64
"""How many programs that callers hold compiled are remembered."""


class Programs:
    """What runs of an engine execute. `folder` overrides where tools' modules are looked for; `calls` says whether any
    tool or model is called at all, which only then has to be there."""

    def __init__(
        self,
        store: Store,
        tools: Mapping[str, Function] | Iterable[Function],
        models: Mapping[str, Any],
        folder: Path | None,
        threads: Threads,
        calls: bool,
    ) -> None:
        self.threads = threads
        self._store = store
        self._tools = by_name(tools)
        self._models = dict(models)
        self._folder = folder
        self._calls = calls
        self._bound: dict[str, tuple[Pinned, Bound]] = {}
        self._pins: dict[int, tuple[Compiled | Definition, Pinned]] = {}

    def pin(self, program: str | Path | Compiled | Definition, agent: str | None, now_ms: int) -> Pinned:
        """The program, stored. A program that is given compiled is digested and stored once. Raises JamError
        JAMR0xx for one that does not compile."""
        known = self._pins.get(id(program))
        if known is not None and known[0] is program:
            return known[1]
        compiled, folder = _compiled(program, agent)
        place = pin(self._store, compiled, self._folder or folder, now_ms)
        if not isinstance(program, str | Path):
            if len(self._pins) >= MOST_PINS:
                self._pins.clear()
            self._pins[id(program)] = (program, place)
        return place

    def pinned(self, definition: str, source: str) -> Pinned:
        """The program with these digests, as it is stored."""
        known = self._bound.get(source)
        return known[0] if known is not None else pinned(self._store, definition, source)

    def bound(self, place: Pinned) -> Bound:
        """The program with its tools and models. Raises JamError as `bind`."""
        known = self._bound.get(place.source)
        if known is None:
            folder = self._folder or place.folder
            made = bind(place.compiled.definition, self._tools, self._models, folder, self.threads)
            known = self._bound[place.source] = (place, made)
        return known[1]

    def bound_for(self, run_id: str) -> Bound:
        """What a run that exists executes. Raises JamError as `bind`."""
        summary = self._store.summary(run_id)
        place = self.pinned(summary.definition, summary.source)
        if not self._calls or (summary.parent is not None and calls_nothing(self._store, run_id)):
            # Nothing is called, or its journal answers: nothing has to be bound, and nothing is imported.
            defn = place.compiled.definition
            tools, models = PythonTools(defn, {}, None, self.threads), Models(defn, {}, place.folder)
            return Bound(Program.of(defn), tools, models, "")
        return self.bound(place)

    def recall_scripts(self, run_id: str, bound: Bound) -> None:
        """A scripted model goes on where the run's journal says it was."""
        for model in (*self._models.values(), *bound.models.scripts()):
            recall = getattr(model, "recall", None)
            if recall is not None:
                recall(run_id, self._store.history(run_id), bound.program.agent.body.start)


def _compiled(program: str | Path | Compiled | Definition, agent: str | None) -> tuple[Compiled, Path | None]:
    """The program, and the folder in which it lies if it is a file."""
    if isinstance(program, Compiled):
        return program, None
    if isinstance(program, Definition):
        return Compiled(definition=program), None
    from jamjet_dsl.compiler import compile_file

    return compile_file(program, agent), Path(program).resolve().parent
