"""Programs for the simulator: random ones, made of the constructs that an engine can get wrong, as `.jam` text.

Whatever a tool is told to do is named by its argument `ref`, which is another one for every visit of a state: so the
world can tell a step that was repeated from one that was taken again. Results are numbers that no two calls share.
"""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jamjet_dsl.compiler import analyse_text, lower_for_drawing
from jamjet_dsl.definition import Compiled, Definition, Tool
from jamjet_dsl.diagnostics.errors import JamError
from tests.sim.writer import Writer

VARIANTS = 600
"""So many different programs are made; a seed draws some of them, or one of the fixed ones."""
FIXED = Path(__file__).parent / "programs"


class Fixed(Definition):
    """A definition that computes its canonical form once: a simulation starts the same few programs all the time."""

    def canonical(self) -> bytes:
        return _canonical(self)

    @property
    def digest(self) -> str:
        return _digest(self)

    def model_dump_json(self, **how: Any) -> str:
        return _dumped(self) if not how else super().model_dump_json(**how)


_KNOWN: dict[tuple[int, str], tuple[Fixed, Any]] = {}


def _once(definition: Fixed, what: str, make: Any) -> Any:
    known = _KNOWN.get((id(definition), what))
    if known is None:
        known = _KNOWN[id(definition), what] = (definition, make())
    return known[1]


def _canonical(definition: Fixed) -> bytes:
    return bytes(_once(definition, "canonical", lambda: Definition.canonical(definition)))


def _digest(definition: Fixed) -> str:
    import hashlib

    return str(_once(definition, "digest", lambda: hashlib.sha256(definition.canonical()).hexdigest()))


def _dumped(definition: Fixed) -> str:
    return str(_once(definition, "json", lambda: Definition.model_dump_json(definition)))


class Subject(NamedTuple):
    """A program of the simulation."""

    name: str
    text: str
    compiled: Compiled

    @property
    def definition(self) -> Definition:
        return self.compiled.definition

    def tool(self, name: str) -> Tool:
        """One of its tools."""
        return self.compiled.definition.tools[name]


def fixed_names() -> list[str]:
    """The programs written by hand, in order."""
    return sorted(path.stem for path in FIXED.glob("*.jam"))


@cache
def subject(name: str) -> Subject:
    """A program by its name: `g17` is the seventeenth variant, anything else a file in `programs/`."""
    if name[0] == "g" and name[1:].isdigit():
        for salt in range(20):
            text = Writer(random.Random(f"{name}/{salt}")).program()
            try:
                return Subject(name, text, _compile(text, name))
            except (JamError, KeyError):
                continue
        raise RuntimeError(f"no program can be made of {name}")
    text = (FIXED / f"{name}.jam").read_text()
    return Subject(name, text, _compile(text, name))


def _compile(text: str, name: str) -> Compiled:
    """The program, even if the checks object to what its policy may refuse: to be refused is what is wanted here."""
    compiled = lower_for_drawing(analyse_text(text, f"{name}.jam"))
    made = compiled.definition
    fixed = Fixed.model_construct(made.model_fields_set, **{n: getattr(made, n) for n in type(made).model_fields})
    return compiled.model_copy(update={"definition": fixed})
