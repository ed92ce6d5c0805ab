"""What somebody says of a program's odds, in words: read, checked against the program, and put together.

Each layer overrides the one before it: what journals tell, what `[forecast]` in jam.toml says, what the command says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from jamjet_dsl import definition as d
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.diagnostics.suggest import did_you_mean
from jamjet_dsl.forecast.assumed import EVERY, HAPPENED, TIMEOUT, Assumed, Given
from jamjet_dsl.forecast.numbers import percent, share, times
from jamjet_dsl.forecast.skeleton import Place, places
from jamjet_dsl.kernel.errors import STANDARD_ERRORS
from jamjet_dsl.kernel.program import WRITES

KINDS = ("reliability", "errors", "latency", "tokens", "items", "take", "crash")
_NOT_OF_CALLS = frozenset({"JoinFailed", "ChildFailed"})


class Said(NamedTuple):
    """One thing that was said: `kind` is of `KINDS`, `where` says who said it, for an error."""

    kind: str
    name: str
    value: Any
    where: str


def of_option(kind: str, text: str) -> Said:
    """`NAME=VALUE` of an option. Raises JamError JAMR006."""
    name, equals, value = text.rpartition("=")
    where = f"--{kind} {text}"
    if not equals or not name.strip() or not value.strip():
        raise JamError("JAMR006", f"{where}: this is not {_SHAPE[kind]}", f"write --{kind} {_EXAMPLE[kind]}")
    return Said(kind, name.strip(), value.strip(), where)


_SHAPE = {
    "reliability": "NAME=PERCENT",
    "errors": "NAME=ERROR:SHARE,…",
    "latency": "NAME=DURATION",
    "tokens": "STATE=IN+OUT",
    "items": "STATE=NUMBER",
    "take": "STATE/EDGE=PERCENT",
}
_EXAMPLE = {
    "reliability": "search=99%",
    "errors": "search=Timeout:1,Unavailable:3",
    "latency": "search=2s",
    "tokens": "plan=1200+300",
    "items": "check_all=8",
    "take": "review/approve=60%",
}


def of_table(table: object, where: str) -> list[Said]:
    """`[forecast]` of a jam.toml. Raises JamError JAMR006 for what it does not know."""
    if not isinstance(table, dict):
        raise JamError("JAMR006", f"{where}: `forecast` is no table", "write [forecast]")
    found: list[Said] = []
    for kind, rows in table.items():
        if kind not in KINDS:
            near = did_you_mean(kind, KINDS)
            help = f"did you mean `{near}`?" if near else f"known are: {', '.join(KINDS)}"
            raise JamError("JAMR006", f"{where}: `{kind}` means nothing under [forecast]", help)
        if kind == "crash":
            found.append(Said(kind, "", rows, f"{where}: crash"))
            continue
        if not isinstance(rows, dict):
            name, _, value = _EXAMPLE[kind].partition("=")
            raise JamError("JAMR006", f"{where}: `{kind}` is no table", f'write {kind} = {{ "{name}" = "{value}" }}')
        found += [Said(kind, name, value, f"{where}: {kind}.{name}") for name, value in rows.items()]
    return found


class Reader:
    """Checks what is said against one definition."""

    def __init__(self, defn: d.Definition) -> None:
        self.defn = defn
        self.places: dict[str, Place] = places(defn)

    def given(self, layers: Iterable[Iterable[Said]], fitted: Given | None = None) -> Given:
        """All of it together. Raises JamError JAMR006 for a name that the program does not have, and for a number that
        cannot be."""
        found = fitted if fitted is not None else Given()
        for layer in layers:
            taken: dict[str, dict[str, float]] = {}
            for said in layer:
                self._take_in(found, said, taken)
            for place, odds in taken.items():
                # What one layer says of a state's choices is all that holds of them: shares of two would not add up.
                found.take[place] = odds
                self._adds_up(place, odds)
        return found

    def _take_in(self, found: Given, said: Said, taken: dict[str, dict[str, float]]) -> None:
        match said.kind:
            case "reliability":
                found.reliability[self._caller(said)] = percent(said.value, said.where)
            case "errors":
                name = self._caller(said)
                found.errors[name] = self._shares(name, said)
            case "latency":
                found.latency[self._taking_time(said)] = times(said.value, said.where)
            case "tokens":
                place = self._place(said.name, said.where, _thinks, "asks a model")
                found.tokens[place.name] = _tokens(said)
            case "items":
                place = self._place(said.name, said.where, _repeats, "has an `each`")
                found.items[place.name] = _number(said)
            case "take":
                place, choice = self._choice(said)
                taken.setdefault(place.name, {})[choice] = percent(said.value, said.where)
            case "crash":
                found.crash = percent(said.value, said.where)

    # ---- names

    def _caller(self, said: Said) -> str:
        """A tool, a model, a state that calls one, or `*`."""
        if said.name == EVERY or said.name in self.defn.tools or said.name in self.defn.models:
            return said.name
        return self._named(said, lambda p: isinstance(p.state.action, _CALLS))

    def _taking_time(self, said: Said) -> str:
        """The same, or a state that asks a person or waits."""
        if said.name == EVERY or said.name in self.defn.tools or said.name in self.defn.models:
            return said.name
        return self._named(said, lambda p: isinstance(p.state.action, (*_CALLS, d.Ask)) or _waits_outside(p))

    def _named(self, said: Said, fits: Any) -> str:
        found = self._found(said.name)
        if len(found) > 1:
            raise _ambiguous(said.name, found, said.where)
        if found and fits(found[0]):
            return found[0].name
        if found:
            message = f"{said.where}: `{found[0].name}` calls nothing, so it has no {said.kind}"
            raise JamError("JAMR006", message, f"say it of {_list(p.name for p in self.places.values() if fits(p))}")
        known = [*self.defn.tools, *self.defn.models, *(p.name for p in self.places.values() if fits(p))]
        raise _unknown(said.name, known, said.where, "tool, model or state")

    def _found(self, name: str) -> list[Place]:
        """The states of that name: in full, or as the end of a longer one."""
        if name in self.places:
            return [self.places[name]]
        return [p for key, p in self.places.items() if key.endswith((f"/{name}", f".{name}"))]

    def _place(self, name: str, where: str, fits: Any, what: str) -> Place:
        found = self._found(name)
        if len(found) > 1:
            raise _ambiguous(name, found, where)
        fitting = [p.name for p in self.places.values() if fits(p)]
        if not found:
            raise _unknown(name, fitting, where, "state")
        if not fits(found[0]):
            hint = f"those that do: {_list(fitting)}" if fitting else "no state of this program does"
            raise JamError("JAMR006", f"{where}: no state `{found[0].name}` {what}", hint)
        return found[0]

    def _choice(self, said: Said) -> tuple[Place, str]:
        """A state and what may be taken there."""
        state, slash, edge = said.name.rpartition("/")
        if not slash:
            raise JamError("JAMR006", f"{said.where}: this names no edge", f"write {_EXAMPLE['take']}")
        place = self._place(state, said.where, lambda p: True, "")
        return place, self._edge(place, edge, said.where)

    def _edge(self, place: Place, name: str, where: str) -> str:
        choices = self._choices(place)
        if name in choices:
            return name
        exits = {edge.id: edge for edge in place.exits}
        for edge in place.state.edges:
            if edge.id == name and edge.option in choices:
                return str(edge.option)
        fits = [i for i, edge in exits.items() if name in (edge.trigger, edge.target)]
        if len(fits) == 1:
            return fits[0]
        if len(fits) > 1:
            help = f"name one of: {', '.join(fits)}"
            raise JamError("JAMR006", f"{where}: `{place.name}` has several edges `{name}`", help)
        if any(name in (edge.id, edge.trigger, edge.target) for edge in place.state.edges):
            message = f"{where}: `{name}` is not a choice of `{place.name}`: it follows from how an attempt turns out"
            raise JamError("JAMR006", message, "say it with --reliability and --errors")
        targets = [str(edge.target) for edge in exits.values() if edge.target is not None]
        raise _unknown(name, [*choices, *targets], where, f"edge or option of `{place.name}`")

    def _choices(self, place: Place) -> list[str]:
        found = [edge.id for edge in place.exits]
        match place.state.action:
            case d.Ask(options=options, timeout_ms=limit):
                found += [option.name for option in options] + ([TIMEOUT] if limit is not None else [])
            case d.Wait(event=str(), timeout_ms=int()):
                found.append(TIMEOUT)
            case d.Think(tools=tools):
                found += tools
            case d.Call(tool=tool) if self._told(tool):
                found.append(HAPPENED)
            case d.CallApproved() | d.CallProposed() if any(map(self._told, self.defn.tools)):
                found.append(HAPPENED)
        return found

    def _told(self, tool: str) -> bool:
        declared = self.defn.tools[tool]
        return declared.effect in WRITES and declared.confirm is not None

    def _adds_up(self, place: str, odds: Mapping[str, float]) -> None:
        """The choices of one kind are all of what may happen."""
        for group in self._groups(self.places[place]):
            said = [odds[name] for name in group if name in odds]
            whole, all_said = math.fsum(said), all(name in odds or name == TIMEOUT for name in group)
            if whole > 1.0 + 1e-9 or (said and all_said and whole < 1.0 - 1e-9):
                raise JamError(
                    "JAMR006",
                    f"take: the odds of `{place}` add up to {whole:.6g}, not to 1",
                    f"its choices are {', '.join(group)}; what is left out shares the rest",
                )

    def _groups(self, place: Place) -> list[list[str]]:
        exits = [edge.id for edge in place.exits]
        others = [name for name in self._choices(place) if name not in exits and name != HAPPENED]
        return [group for group in (exits, others) if group and group != [TIMEOUT]]

    def _shares(self, name: str, said: Said) -> dict[str, float]:
        """Errors and their shares: `Timeout:1,Unavailable:3`, or a table."""
        tool = self.defn.tools.get(name)
        action = self.places[name].state.action if name in self.places else None
        if isinstance(action, d.Call):
            tool = self.defn.tools[action.tool]
        raised = tool.raises if tool is not None else ()
        known = sorted((STANDARD_ERRORS - _NOT_OF_CALLS) | set(raised))
        rows = said.value.items() if isinstance(said.value, dict) else _pairs(said)
        found: dict[str, float] = {}
        for error, part in rows:
            if error not in known:
                raise _unknown(str(error), known, said.where, f"error of `{name}`")
            found[error] = share(part, said.where)
        if not math.fsum(found.values()) > 0.0:
            raise JamError("JAMR006", f"{said.where}: no share is more than 0", f"write {_EXAMPLE['errors']}")
        return found


def _thinks(place: Place) -> bool:
    return isinstance(place.state.action, d.Think)


def _repeats(place: Place) -> bool:
    return isinstance(place.state.action, d.Each)


_CALLS = (d.Call, d.CallProposed, d.CallApproved, d.Think)


def _waits_outside(place: Place) -> bool:
    """Whether a state waits for something whose time the program does not say."""
    return isinstance(place.state.action, d.Wait) and place.state.action.duration_ms is None


def _pairs(said: Said) -> list[tuple[str, str]]:
    rows = [part.partition(":") for part in str(said.value).split(",")]
    return [(error.strip(), size.strip() or "1") for error, _, size in rows]


def _tokens(said: Said) -> tuple[int, int]:
    parts = said.value if isinstance(said.value, list) else str(said.value).split("+")
    numbers = [str(part).strip() for part in parts]
    if len(numbers) != 2 or not all(number.isdecimal() and len(number) < 10 for number in numbers):
        raise JamError("JAMR006", f"{said.where}: this is not IN+OUT", f"write {_EXAMPLE['tokens']}")
    return int(numbers[0]), int(numbers[1])


MOST_ITEMS = 1_000


def _number(said: Said) -> int:
    text = str(said.value).strip()
    if isinstance(said.value, bool) or not text.isdecimal() or len(text) > 4 or int(text) > MOST_ITEMS:
        raise JamError("JAMR006", f"{said.where}: `{said.value}` is no number of items", f"write 0 to {MOST_ITEMS}")
    return int(text)


def _unknown(name: str, known: Iterable[str], where: str, what: str) -> JamError:
    names = sorted(set(known))
    near = did_you_mean(name, names)
    help = f"did you mean `{near}`?" if near else f"known are: {_list(names)}" if names else "it has none"
    return JamError("JAMR006", f"{where}: there is no {what} `{name[:80]}`", help)


def _ambiguous(name: str, found: Iterable[Place], where: str) -> JamError:
    names = ", ".join(place.name for place in found)
    return JamError("JAMR006", f"{where}: there are several states `{name}`", f"name one of: {names}")


def _list(names: Iterable[str], most: int = 12) -> str:
    known = list(names)
    return ", ".join(known[:most]) + (f" and {len(known) - most} more" if len(known) > most else "")


def undeclared(assumed: Assumed) -> list[str]:
    """What of a model's use neither the program nor anybody says: it counts as nothing, and that is told."""
    found: list[str] = []
    for place in assumed.places.values():
        action = place.state.action
        if not isinstance(action, d.Think) or place.name in assumed.given.tokens:
            continue
        missing = [
            name
            for name, most in (("max prompt", action.max_prompt), ("max tokens", action.max_tokens))
            if most is None
        ]
        if missing:
            found.append(
                f"`{place.name}` declares no `{'` and no `'.join(missing)}`: that part counts as 0 tokens"
                f" (--tokens {place.name}=IN+OUT)"
            )
    return found
