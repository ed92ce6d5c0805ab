"""Writes random programs: every construct of the language that an engine can get wrong, nested as it comes."""

from __future__ import annotations

import random

from tests.sim.library import CALLED, Library

LEVELS = "ijkl"
"""The counter of each level of nesting: what a state is about is named by those of all the levels around it."""


class Writer:
    """Writes one agent, and the child that it may run. Every choice is drawn from `chance`."""

    def __init__(self, chance: random.Random, library: Library | None = None, name: str = "sim") -> None:
        self.chance = chance
        self.library = library or Library(chance)
        self.name = name
        self.count = chance.randint(3, 8) if name == "sim" else chance.randint(1, 3)
        self.asks: list[tuple[str, str]] = []
        self.child: Writer | None = None
        self.child_text = ""
        self.names = 0

    def maybe(self, chance: float, text: str) -> str:
        """The text, or nothing."""
        return text if self.chance.random() < chance else ""

    def pick(self, *texts: str) -> str:
        """One of them."""
        return self.chance.choice(texts)

    def fresh(self) -> str:
        """A name that nothing else has."""
        self.names += 1
        return f"v{self.names}"

    # ---- states of the agent

    def target(self, at: int) -> str:
        """Somewhere else: mostly the next state."""
        later = [f"s{n}" for n in range(at + 1, self.count)]
        if later and self.chance.random() < 0.7:
            return later[0]
        return self.pick(*later, "done", *(["lost"] if self.chance.random() < 0.3 else []))

    def back(self, at: int) -> str:
        """An edge that may go back, a bounded number of times."""
        if self.chance.random() < 0.5 or at == 0:
            return self.target(at)
        return f"s{self.chance.randrange(at + 1)} limit {self.chance.randint(1, 3)} else {self.target(at)}"

    def _path(self, at: int) -> str:
        return f'"/s{at}." + string(i)'

    def ref(self, at: int) -> str:
        """What no other visit of any state calls the same."""
        return f"run.id + {self._path(at)}"

    def state(self, at: int) -> str:
        """One state with its action and edges."""
        kinds = ["call"] * 9 + ["think", "wait", "event", "ask", "emit", "plain", "approval", "approval"]
        if self.name == "sim":
            kinds += ["parallel", "parallel", "each", "each", "run", "run", "undo"]
        kind = self.chance.choice(kinds)
        if kind == "approval":
            if at + 1 < self.count:
                return self.approval(at)
            kind = "call"
        start = "start " if at == 0 else ""
        if kind == "parallel":
            return f"  {start}parallel s{at} {{ {self._parallel(self._path(at), 1)} {self._after(at)} }}"
        return f"  {start}state s{at} {{ {getattr(self, f'_in_{kind}')(at)} }}"

    def _errors(self, at: int, call: bool = True) -> str:
        again = "{ set i = i + 1 }"
        named = self.maybe(0.3, f"on error Unavailable, RateLimited -> {self.back(at)} {again} ")
        every = self.maybe(0.4, f"on error any -> {self.back(at)} {again} ")
        denied = self.maybe(0.4, f"on denied -> {self.target(at)} ") if call else ""
        doubt = self.maybe(0.3, f"on in_doubt -> {self.target(at)} {again} ") if call else ""
        return named + every + denied + doubt

    def _after(self, at: int) -> str:
        """The edges of a parallel state, which has no `set`."""
        again = "{ set i = i + 1 }"
        return f"on join -> {self.target(at)} {again} " + self.maybe(0.6, f"on error any -> {self.back(at)} {again} ")

    def _way(self, at: int, value: str) -> str:
        guard = self.maybe(0.4, f"when {value} % {self.chance.randint(2, 3)} == 0 -> {self.back(at)} ")
        return f"{guard}{'otherwise ' if guard else ''}-> {self.target(at)}"

    def _in_call(self, at: int) -> str:
        call = self.call(self.ref(at), f"r{at}")
        return f"{call} set i = i + 1 {self._errors(at)}{self._way(at, f'r{at}')}"

    def call(self, ref: str, name: str) -> str:
        """A call of some tool about that, bound to a name."""
        tool = self.library.tool(self.chance.choice(CALLED))
        return f"call {tool}({ref}, {self.chance.randint(1, 9)}) as {name} {self.maybe(0.2, 'timeout 6s')}"

    def _in_think(self, at: int) -> str:
        retry = self.pick("", "", "retry InvalidOutput, Unavailable 2 times backoff 1s")
        think = f'think "What about {{i}}?" model m max prompt 200 max tokens 100 timeout 20s {retry} as t{at}: int'
        return f"{think} set i = i + 1 {self._errors(at, False)}{self._way(at, f't{at}')}"

    def _in_wait(self, at: int) -> str:
        return f"wait {self.pick('3s', '30s', '10m', '2h')} set i = i + 1 -> {self.target(at)}"

    def _in_event(self, at: int) -> str:
        limit = self.maybe(0.6, "timeout 30m ")
        late = f"on timeout -> {self.target(at)} " if limit and self.chance.random() < 0.8 else ""
        return f"wait for event go(e{at}) {limit}set i = i + 1 {late}-> {self.target(at)}"

    def _in_ask(self, at: int) -> str:
        more = self.maybe(0.5, "answer { k: int } ") + self.maybe(0.3, "remind every 20m ")
        more += self.maybe(0.7, "timeout 2h ")
        late = f"on timeout -> {self.target(at)} " if "timeout" in more else ""
        event = self.maybe(0.3, f"on event go(x{at}) -> {self.target(at)} ")
        ask = f'ask role "officer" "Sure about {{i}}?" options yes, no {more}as a{at} set i = i + 1'
        return f"{ask} {late}{event}on yes -> {self.target(at)} on no -> {self.back(at)}"

    def _in_emit(self, at: int) -> str:
        return f"emit note(i) set i = i + 1 -> {self.target(at)}"

    def _in_plain(self, at: int) -> str:
        return f"set i = i + 1 {self._way(at, 'i')}"

    def _in_undo(self, at: int) -> str:
        return f"undo all set i = i + 1 -> {self.target(at)}"

    def _in_run(self, at: int) -> str:
        if self.child is None:
            self.child = Writer(self.chance, self.library, "helper")
            self.child_text = self.child.agent()
        budget = self.maybe(
            0.5, f"budget {{ cost ${self.pick('0.40', '1', '4')} steps {self.chance.randint(2, 20)} }} "
        )
        more = self.maybe(0.4, "timeout 5m ") + self.maybe(0.2, "retry ChildFailed 1 times ")
        edges = self.maybe(0.7, f"on error any -> {self.back(at)} {{ set i = i + 1 }} ")
        return f"run helper({self.ref(at)}) as h{at} {budget}{more}set i = i + 1 {edges}-> {self.target(at)}"

    def _in_each(self, at: int) -> str:
        error = self.maybe(0.5, f"on error any -> {self.back(at)} {{ set i = i + 1 }} ")
        return f"{self._each(self._path(at), 1)} as l{at} set i = i + 1 {error}-> {self.target(at)}"

    # ---- branches and items

    def _parallel(self, path: str, level: int) -> str:
        count = self.chance.randint(2, 3)
        branches = []
        for n in range(count):
            bound = self.maybe(0.5, f"as {self.fresh()} or 0 ")
            branches.append(f"branch b{n} {bound}{{ {self.body(path, f'/b{n}', level)} }}")
        join = self.pick("all", "all", "any", f"{self.chance.randint(1, count)} of {count}")
        within = self.maybe(0.3, self.pick(" within 3s", " within 1m", " within 1h"))
        return f"{' '.join(branches)} join {join}{within}"

    def _each(self, path: str, level: int) -> str:
        item = self.fresh()
        items = ", ".join(map(str, range(1, self.chance.randint(2, 5))))
        at_once = self.pick("", ", 2 at once", ", 3 at once")
        inside = self.body(path, "/", level, f" + string({item})")
        return f"each {item} in [{items}]{at_once} {{ {inside} }}"

    def body(self, path: str, name: str, level: int, item: str = "") -> str:
        """What a branch or an item does: one action, or states of its own."""
        place = f'{path} + "{name}"{item}'
        if self.chance.random() < 0.5:
            value = self.fresh()
            return f"{self._act(place, value, level)} {self._body_errors()}yields {value}"
        return self._body_states(place, level)

    def _body_errors(self) -> str:
        return (
            self.maybe(0.4, self.pick("on error any skip ", "on error any yields 0 "))
            + self.maybe(0.3, "on denied yields 0 ")
            + self.maybe(0.3, "on in_doubt yields 0 ")
        )

    def _act(self, place: str, value: str, level: int) -> str:
        return self.call(f"run.id + {place}", value)

    def _body_states(self, place: str, level: int) -> str:
        """Two or three states in a row, one of which may open frames again."""
        counter = LEVELS[level]
        count = self.chance.randint(2, 3)
        names = [self.fresh() for _ in range(count)]
        texts = []
        for n, name in enumerate(names):
            start = "start " if n == 0 else ""
            here = f'{place} + "/{name}." + string({counter})'
            target = f"-> {names[n + 1]}" if n + 1 < count else "yields 1"
            step = f"set {counter} = {counter} + 1"
            kind = self.pick("call", "call", "call", "wait", "ask", "event", "parallel", "each")
            if kind == "parallel" and level < 2:
                texts.append(
                    f"{start}parallel {name} {{ {self._parallel(here, level + 1)} on join {target} "
                    f"{self.maybe(0.5, 'on error any skip ')}}}"
                )
                continue
            action = self._body_action(kind, here, level)
            errors = self._body_errors() if action.startswith("call") else ""
            late = "on timeout skip " if kind in ("ask", "event") else ""
            ways = f"on yes {target} on no skip" if action.startswith("ask") else target
            texts.append(f"{start}state {name} {{ {action} {step} {errors}{late}{ways} }}")
        return " ".join(texts)

    def _body_action(self, kind: str, here: str, level: int) -> str:
        value = self.fresh()
        match kind:
            case "wait":
                return f"wait {self.pick('1s', '20s', '10m')}"
            case "ask":
                return f'ask role "officer" "Really?" options yes, no timeout 1h as {value}'
            case "event":
                return f"wait for event go({value}) timeout 1h"
            case "each" if level < 2:
                return f"{self._each(here, level + 1)} as {value}"
        return self._act(here, value, level)

    # ---- approvals

    def approval(self, at: int) -> str:
        """Two states: a person is asked about a call, and the call that was granted."""
        name = self.library.tool(self.pick("pay", "wire", "post", "put"))
        ask, do = f"s{at}", f"p{at}"
        self.asks.append((name, ask))
        start = "start " if at == 0 else ""
        call = f"{name}({self.ref(at)}, {self.chance.randint(1, 9)})"
        return (
            f'  {start}state {ask} {{ ask role "officer" to {call} "Do {name}?" options approve approves, no '
            f"timeout 3h as g{at} set i = i + 1 on approve -> {do} on no -> {self.target(at)} "
            f"on denied -> {self.target(at)} on timeout -> {self.target(at)} }}\n"
            f"  state {do} {{ call approved g{at} as r{at} {self._errors(at)}-> {self.target(at)} }}"
        )

    # ---- the agent

    def policy(self) -> str:
        """Rules of many kinds; most calls are allowed, or nothing would happen."""
        rules, names = [], self.library.names()
        for name in names:
            free = ' without approval because "simulated"' if self.chance.random() < 0.75 else ""
            small = self.maybe(0.1, f" when args.n <= {self.chance.randint(3, 8)}")
            if self.chance.random() < 0.97:
                rules.append(f"allow {name}{small}{free}")
            if self.chance.random() < 0.08:
                rules.append(f"forbid {name} when args.n > {self.chance.randint(4, 9)}")
            if self.chance.random() < 0.15:
                per = self.maybe(0.5, f" per {self.pick('hour', 'day', 'minute')}")
                rules.append(f"limit {name} {self.chance.randint(1, 3)} calls{self.maybe(0.4, ' per principal')}{per}")
            if self.chance.random() < 0.1:
                whose = self.maybe(0.4, " per principal")
                rules.append(f"limit {name} total args.n <= {self.chance.randint(5, 25)}{whose}")
        if len(names) > 1 and self.chance.random() < 0.2:
            first, second = self.chance.sample(names, 2)
            rules.append(f"never {first} after {second}")
        for name, ask in self.asks:
            if self.chance.random() < 0.4:
                rules.append(f"require approval {ask} before {name}")
            elif self.chance.random() < 0.3:
                rules.append(f'require approval by 2 of "officer"{self.maybe(0.5, " not principal")} before {name}')
        return f"  policy {{ {'  '.join(rules)} }}"

    def budget(self) -> str:
        """Limits that are sometimes in the way."""
        large = self.chance.random() < 0.5
        limits = [f"steps {self.chance.randint(20, 80) if large else self.chance.randint(3, 30)}"]
        limits += [f"cost ${self.pick('0.30', '0.90', '2', '8')}"] if self.chance.random() < 0.6 else []
        limits += [f"tokens {self.pick('350', '1k', '9k')}"] if self.chance.random() < 0.4 else []
        limits += [f"time {self.pick('20m', '5h', '3d')}"] if self.chance.random() < 0.3 else []
        limits += [f"active {self.pick('1m', '10m', '4h')}"] if self.chance.random() < 0.3 else []
        limits += ["warn at 50%"] if self.chance.random() < 0.2 else []
        limits += [f"reserve {{ steps 1  cost ${self.pick('0.10', '0.20')} }}"] if self.chance.random() < 0.3 else []
        limits += ["exceeded -> over"] if self.chance.random() < 0.7 else []
        return f"  budget {{ {'  '.join(limits)} }}"

    def agent(self) -> str:
        """The whole agent."""
        states = [self.state(at) for at in range(self.count)]
        rolls = self.library.undoing and self.chance.random() < 0.6
        away = "rolling" if rolls else "lost"
        finish = f'  finally {{ call {self.library.tool("close")}(run.id + "/end", 1) }}'
        handlers = [
            f"  on {what} -> {away}"
            for what, chance in (("error any", 0.6), ("denied", 0.5), ("in_doubt", 0.3), ("cancel", 0.5))
            if self.chance.random() < chance and (what != "cancel" or self.name == "sim")
        ]
        closing = [finish] if self.chance.random() < 0.3 else []
        return "\n".join(
            [
                f"agent {self.name} version 1 {{",
                "  input  x: int" if self.name == "sim" else "  input  p: string",
                "  output out: int",
                *(f"  var {name}: int = 0" for name in LEVELS),
                "  event go(k: int)",
                "  emits note(k: int)",
                budget := self.budget(),
                self.policy(),
                *handlers,
                *closing,
                *states,
                *(["  state rolling { undo all -> lost }"] if rolls else []),
                "  final done { out = i }",
                "  failed lost { out = i }",
                *(["  failed over { out = i }"] if "-> over" in budget else []),
                "}",
                "",
            ]
        )

    def program(self) -> str:
        """The whole program."""
        agent = self.agent()
        return "\n".join([*self.library.declared.values(), "model m { }", agent, self.child_text])
