"""Random programs as source text, which the compiler accepts: every construct of the language, nested.

A program follows from its seed alone. What leads back in it has a limit, so every run of it ends.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from tests.reference.world import Outside, World

ERRORS = ("Timeout", "RateLimited", "Unavailable", "Mine", "InvalidInput", "Crashed", "any", "any")
READS = ("rd", "dear", "list_")
WRITES = ("wr", "keyed", "sure", "both")
FINALS = ("done", "bad")
ALL = frozenset({"parallel", "each", "run", "undo", "finally", "think", "ask", "wait", "emit"})
SEQUENTIAL = frozenset({"think", "ask", "wait", "emit"})


@dataclass
class Maker:
    """Writes one program. `parts` are the constructs that may be in it."""

    seed: int
    parts: frozenset[str] = ALL
    chance: random.Random = field(init=False)
    aside: random.Random = field(init=False)
    """For what was added later: all else in the program of a seed stays as it was."""
    number: int = 0
    lines: list[str] = field(default_factory=list)
    asks: list[str] = field(default_factory=list)
    children: set[str] = field(default_factory=set)
    below: list[str] = field(default_factory=list)
    """The agents that the one being written may run."""

    def __post_init__(self) -> None:
        self.chance = random.Random(f"program {self.seed}")
        self.aside = random.Random(f"everybody {self.seed}")

    # ---- odds and ends

    def odds(self, percent: int) -> bool:
        return self.chance.randrange(100) < percent

    def pick(self, *choices: str) -> str:
        return self.chance.choice(choices)

    def new(self, prefix: str) -> str:
        self.number += 1
        return f"{prefix}{self.number}"

    def time(self, low: int = 1, high: int = 60) -> str:
        """A duration that hardly anything else has."""
        return f"{self.chance.randint(low * 1000, high * 1000)}ms"

    # ---- expressions

    def int_(self, names: list[str], depth: int = 2) -> str:
        kind = self.chance.randrange(12 if depth else 4)
        if kind < 2:
            return str(self.chance.randint(-2, 9))
        if kind < 6:
            return self.pick(*names)
        a, b = self.int_(names, depth - 1), self.int_(names, depth - 1)
        if kind < 9:
            return f"({a} {self.pick('+', '-', '*')} {b})"
        if kind == 9:
            return f"({a} {self.pick('/', '%')} {b})"
        if kind == 10:
            return f"({self.bool_(names, depth - 1)} ? {a} : {b})"
        return self.pick(f"size(l + [{a}])", f"min({a}, {b})", f"max([{a}, {b}])", "l[0]")

    def bool_(self, names: list[str], depth: int = 2) -> str:
        kind = self.chance.randrange(10 if depth else 5)
        a, b = self.int_(names, 1), self.int_(names, 1)
        if kind < 6:
            return f"{a} {self.pick('<', '<=', '>', '>=', '==', '!=')} {b}"
        if kind == 6:
            return f"!({self.bool_(names, depth - 1)})"
        if kind == 7:
            return f"({self.bool_(names, depth - 1)} {self.pick('&&', '||')} {self.bool_(names, depth - 1)})"
        return self.pick(
            f"l.exists(e, e {self.pick('<', '>')} {a})",
            f"l.all(e, {b} / e > 0)",
            f"m > ${self.chance.randint(0, 9)}.50",
            f"{a} in l",
            f's == "{self.pick("a", "ž")}"',
            f"spent.steps > {self.chance.randint(1, 9)}",
            f"spent.cost >= $0.{self.chance.randint(1, 9)}0",
        )

    def set_(self, names: list[str]) -> str:
        kind = self.chance.randrange(9)
        if kind < 5:
            return f"set {self.pick('x', 'y', 'z')} = {self.int_(names)}"
        if kind == 5:
            return f"set l = l + [{self.int_(names, 1)}]"
        if kind == 6:
            return f"set m = m + $0.{self.chance.randint(10, 99)}"
        if kind == 7:
            return f'set s = {self.bool_(names, 1)} ? s : "a"'
        return f"set l = l.{self.pick('filter', 'filter')}(e, e > {self.int_(names, 1)})"

    # ---- tools, models, agents

    def tools(self) -> None:
        def more(tool: str) -> str:
            found = " raises Mine"
            if self.odds(60):
                found += f"  timeout {self.time(5, 45)}"
            if self.odds(30):
                found += f"  {self.retry()}"
            return found

        self.lines += [
            f"tool rd(x: int) -> int {{ effect reads {more('rd')} }}",
            f"tool dear(x: int) -> int {{ effect reads  cost $0.30 {more('dear')} }}",
            f"tool list_(x: int) -> list<int> {{ effect reads {more('list_')} }}",
            f"tool wr(x: int) -> int {{ effect writes {more('wr')} }}",
            f"tool keyed(x: int) -> int {{ effect writes  key run.id + string(x % 4)  cost $0.10  undo un(x, result)"
            f" {more('keyed')} }}",
            f"tool sure(x: int) -> int {{ effect writes  confirm look(x)  undo un(x, 10 / x) {more('sure')} }}",
            f"tool both(x: int) -> int {{ effect writes  key run.id + string(x)  confirm look(x)  cost $0.05"
            f" {more('both')} }}",
            f"tool pay(amount: money) -> bool {{ effect irreversible  key run.id + string(amount)  cost $0.02"
            f" {more('pay')} }}",
            f"tool look(x: int) -> int? {{ effect reads {self.pick('', 'cost $0.01')} }}",
            f"tool un(x: int, y: int) {{ effect writes  key string(x) {more('un')} }}",
            "model big { price $3 in $15 out per 1M tokens }",
        ]

    def retry(self) -> str:
        errors = self.pick(*ERRORS) if self.odds(50) else f"{self.pick('Timeout', 'Mine')}, Unavailable"
        found = f"retry {errors} {self.chance.randint(1, 3)} times"
        if self.odds(60):
            found += f" backoff {self.time(1, 9)}"
            if self.odds(40):
                found += f" x {self.chance.randint(1, 3)}"
            if self.odds(30):
                found += f" max {self.time(10, 12)}"
            if self.odds(20):
                found += " jitter full"
        return found

    def budget(self, steps: tuple[int, int]) -> str:
        found = [f"steps {self.chance.randint(*steps)}"]
        if self.odds(40):
            found.append(f"cost ${self.chance.randint(2, 30) / 10:.2f}")
        if self.odds(30):
            found.append(f"tokens {self.chance.randint(100, 2000)}")
        if self.odds(30):
            found.append(f"time {self.time(60, 600)}")
        if self.odds(30):
            kept = [f"steps {self.chance.randint(1, 2)}"]
            if any(part.startswith("cost") for part in found):
                kept.append("cost $0.20")
            found.append(f"reserve {{ {'  '.join(kept)} }}")
        return "  ".join(found)

    def whose(self) -> str:
        """Over all runs: in this world there is one, with all that its agents are run for."""
        return " per principal" if self.aside.random() < 0.4 else ""

    def policy(self) -> list[str]:
        when = f" when args.x < {self.chance.randint(4, 30)}" if self.odds(25) else ""
        rules = ["allow any reads", f"allow wr, keyed{when}", "allow sure, both, un", "allow pay"]
        if self.odds(15):
            rules.append(
                f"forbid {self.pick(*WRITES)} when {self.pick('args.x', 'x', '10 / x')} > {self.chance.randint(3, 9)}"
            )
        if self.odds(25):
            calls = f"{self.pick(*READS, *WRITES)} {self.chance.randint(1, 4)} calls"
            rules.append("// jam: ignore JAM615 because chance does not count the calls of a path")
            rules.append(f"limit {calls}{self.pick('', ' per minute', ' per args.x')}{self.whose()}")
        if self.odds(12):
            rules.append(f"limit {self.pick('keyed', 'wr')} total args.x <= {self.chance.randint(3, 20)}{self.whose()}")
        if self.odds(12):
            rules.append(f"never {self.pick(*WRITES)} after {self.pick(*READS)} when x > {self.chance.randint(0, 5)}")
        if self.odds(12):
            before = f"{self.pick('rd', 'dear')}(x = args.x) before {self.pick(*WRITES)}"
            rules.append(f"require {before} when y > {self.chance.randint(0, 4)}")
        if self.odds(12):
            counted = f"{self.pick('attempted', 'succeeded', 'failed')}({self.pick(*READS, *WRITES)}, x = args.x)"
            rules.append(f"forbid {self.pick(*WRITES)} when {counted} > 1")
        if self.odds(12):
            rules.append(f"require any of rd, dear before {self.pick(*WRITES)}")
        if self.asks and self.odds(60):
            rules.append(f"require approval {self.asks[0]} before pay")
        elif self.asks and self.odds(60):
            rules.append('require approval by 2 of "o" before pay')
        return rules

    # ---- states

    def action(self, names: list[str], bodies: int) -> tuple[str, str | None, str]:
        """The action, the name it binds (an int), and its kind."""
        kinds = ["read"] * 4 + ["write"] * 4 + ["none"] * 2
        kinds += [kind for kind in ("think", "wait", "event", "emit", "ask") if kind in self.parts or kind == "event"]
        if bodies:
            kinds += [kind for kind in ("parallel", "each") if kind in self.parts for _ in range(4)]
            kinds += ["run"] * 3 if "run" in self.parts and self.below else []
            kinds += ["undo"] if "undo" in self.parts else []
        kind = self.chance.choice(kinds)
        bound = self.pick("x", "y") if self.odds(30) else self.new("r")
        options = f" {self.retry()}" if self.odds(40) else ""
        options += f" timeout {self.time(5, 45)}" if self.odds(30) else ""
        match kind:
            case "read":
                return f"call {self.pick('rd', 'dear')}({self.int_(names)}) as {bound}{options}", bound, "call"
            case "write":
                return f"call {self.pick(*WRITES)}({self.int_(names)}) as {bound}{options}", bound, "call"
            case "think":
                limits = f"max prompt {self.chance.randint(20, 60)}  max tokens {self.chance.randint(50, 100)}"
                return f'think "say {{x}}" given y  model big  {limits}  as {bound}: int{options}', bound, "think"
            case "wait":
                return self.pick(f"wait {self.time(1, 90)}", f"wait until now + {self.time(1, 90)}"), None, "wait"
            case "event":
                event = self.new("w")
                limit = f" timeout {self.time(1, 90)}" if self.odds(80) else ""
                return f"wait for event e0({event}){limit}", f"{event}.v", "event"
            case "emit":
                return f"emit told({self.int_(names)})", None, "emit"
        return "", None, kind

    def state(self, name: str, names: list[str], ahead: list[str], back: list[str], start: bool, bodies: int) -> str:
        text, bound, kind = self.action(names, bodies)
        head = f"  {'start ' if start else ''}"
        if kind == "parallel":
            return head + self.parallel(name, names, ahead, back, bodies)
        if kind == "ask":
            return head + self.question(name, names, ahead, back)
        if kind == "each":
            text, bound = self.each(names, ["x", "y", "z"], bodies)
        if kind == "run":
            text, bound = self.run(names)
        if kind == "undo":
            text, bound = "undo all", None
        after = [*names, bound] if bound is not None else names
        clauses = [text] if text else []
        clauses += [self.set_(after) for _ in range(self.chance.choice([0, 0, 1, 1, 2]))]
        back = back if text else []  # a cycle without an action does nothing
        clauses += self.edges(kind, after, names, ahead, back)
        return f"{head}state {name} {{\n    " + "\n    ".join(clauses) + "\n  }"

    # ---- frames

    def each(self, names: list[str], own: list[str], bodies: int) -> tuple[str, str]:
        item, flat, bound = self.new("it"), self.odds(20), self.new("r")
        source = self.pick(
            "l", f"[{self.int_(names, 1)}, {self.int_(names, 1)}, 2]", f"range({self.chance.randint(0, 4)})"
        )
        inside = self.body([*names, item], own, bodies - 1, "each", flat)
        at_once = f", {self.chance.randint(1, 3)} at once" if self.odds(60) else ""
        collect = " collect flat" if flat else ""
        return f"each {item} in {source}{at_once}{collect} {{\n{inside}\n    }} as {bound}", f"size({bound})"

    def run(self, names: list[str]) -> tuple[str, str]:
        bound, child = self.new("r"), self.pick(*self.below)
        self.children.add(child)
        options = f" budget {{ {self.budget((2, 9))} }}" if self.odds(40) else ""
        options += f" timeout {self.time(20, 90)}" if self.odds(30) else ""
        errors = self.pick("ChildFailed", "Timeout", "any")
        options += f" retry {errors} {self.chance.randint(1, 2)} times" if self.odds(30) else ""
        options += f" backoff {self.time(1, 9)}" if options.endswith("times") and self.odds(50) else ""
        return f"run {child}({self.int_(names, 1)}) as {bound}{options}", f"{bound}.x"

    def parallel(self, name: str, names: list[str], ahead: list[str], back: list[str], bodies: int) -> str:
        count = self.chance.randint(2, 3)
        mode = self.chance.choice(["all", "all", "any", f"{self.chance.randint(1, count)} of {count}"])
        lines, after = [], list(names)
        for n in range(count):
            inside = self.body(names, ["xyz"[n]], bodies - 1, "branch", False)
            default = self.odds(50)
            bound = self.new("v") if self.odds(80) else None
            head = f"branch {self.new('b')}" + (f" as {bound}" if bound else "")
            head += f" or {self.chance.randint(-3, 9)}" if bound and default else ""
            lines.append(f"{head} {{\n{inside}\n    }}")
            if bound and (mode == "all" or default):
                after.append(bound)
        lines.append("// jam: ignore JAM702 because chance does not see to it that branches can be done")
        lines.append(f"join {mode}" + (f" within {self.time(10, 90)}" if self.odds(40) else ""))
        lines.append(f"on join -> {self.way(after, ahead, back)}")
        if self.odds(60):
            lines.append(f"on error any -> {self.way(names, ahead, back)}")
        return f"parallel {name} {{\n    " + "\n    ".join(lines) + "\n  }"

    def question(self, name: str, names: list[str], ahead: list[str], back: list[str]) -> str:
        limit = f" timeout {self.time(20, 120)}" if self.odds(80) else ""
        lines = [f'ask role "o" "Is it {{x}}?" options good, poor{limit}']
        lines += [self.set_(names)] if self.odds(50) else []
        lines += [f"on {option} -> {self.way(names, ahead, back)}" for option in ("good", "poor")]
        lines += [f"on timeout -> {self.way(names, ahead, back)}"] if limit and self.odds(60) else []
        lines += [f"on event e0(ev) -> {self.way(['ev.v', *names], ahead, back)}"] if self.odds(30) else []
        return f"state {name} {{\n    " + "\n    ".join(lines) + "\n  }"

    def worth(self, names: list[str], flat: bool) -> str:
        return f"[{self.int_(names, 1)}, {self.int_(names, 1)}]" if flat else self.int_(names, 1)

    def inner_set(self, names: list[str], own: list[str]) -> str:
        return f"set {self.pick(*own)} = {self.int_(names, 1)}"

    def inner_action(self, names: list[str], own: list[str], bodies: int) -> tuple[str, str | None]:
        """The action of a state in a body, and the name that it binds."""
        kinds = ["read", "read", "write", "write", "think", "wait", "event", "none"]
        if bodies > 0:
            kinds += ["each"] + (["run"] if self.below else [])
        kind = self.chance.choice(kinds)
        bound = self.new("r")
        options = f" {self.retry()}" if self.odds(40) else ""
        match kind:
            case "read":
                return f"call {self.pick('rd', 'dear')}({self.int_(names, 1)}) as {bound}{options}", bound
            case "write":
                return f"call {self.pick(*WRITES)}({self.int_(names, 1)}) as {bound}{options}", bound
            case "think":
                return f'think "say {{x}}" model big  max prompt 40  max tokens 60  as {bound}: int{options}', bound
            case "wait":
                return f"wait {self.time(1, 60)}", None
            case "event":
                event = self.new("w")
                return f"wait for event e0({event}) timeout {self.time(1, 60)}", f"{event}.v"
            case "each":
                return self.each(names, own, bodies)
            case "run":
                return self.run(names)
        return "", None

    def inner_ends(self, names: list[str], after: list[str], ways: list[str], kind: str, flat: bool) -> list[str]:
        """The edges of a state in a body: they end it, or lead on in it."""

        def end(seen: list[str], leave: bool = True) -> str:
            if ways and self.odds(60):
                return f"-> {self.pick(*ways)}"
            if kind == "each" and leave and self.odds(30):
                return "skip"
            return f"yields {self.worth(seen, flat)}"

        found = []
        if self.odds(45):
            found.append(f"on error {self.pick('any', 'any', 'Mine', 'Timeout')} {end(names)}")
        if self.odds(35):
            found.append(f"on in_doubt {end(names)}")
        if self.odds(25):
            found.append(f"on denied {end(names)}")
        if self.odds(45):
            found.append(f"when {self.bool_(after, 1)} {end(after)}")
        last = end(after) if ways and len(ways) > 1 else f"yields {self.worth(after, flat)}"
        guarded = last == "skip" or any(f.startswith("when") for f in found)
        found.append(f"otherwise {last}" if guarded else last)
        return found

    def body(self, names: list[str], own: list[str], bodies: int, kind: str, flat: bool) -> str:
        """What an item or a branch does."""
        if self.odds(55):
            text, bound = self.inner_action(names, own, bodies)
            after = [*names, bound] if bound else names
            lines = [text] if text else []
            lines += [self.inner_set(after, own)] if self.odds(30) else []
            if self.odds(40):
                lines += self.inner_ends(names, after, [], kind, flat)
            elif self.odds(70) or flat or not text.startswith(("call", "think")):
                lines.append(f"yields {self.worth(after, flat)}")
            return "\n".join(f"      {line}" for line in lines)
        states = [self.new("t") for _ in range(self.chance.randint(1, 3))]
        end = self.new("end")
        lines = []
        for n, state in enumerate(states):
            text, bound = self.inner_action(names, own, bodies)
            after = [*names, bound] if bound else names
            clauses = [text] if text else []
            clauses += [self.inner_set(after, own)] if self.odds(40) else []
            ways = [*states[n + 1 :], *([end] if self.odds(25) else [])]
            clauses += self.inner_ends(names, after, ways, kind, flat)
            lines.append(f"state {state} {{ " + "  ".join(clauses) + " }")
        if any(f"-> {end}" in line for line in lines):
            lines.append(f"failed {end} {{}}")
        return "\n".join(f"      {line}" for line in lines)

    def edges(self, kind: str, after: list[str], names: list[str], ahead: list[str], back: list[str]) -> list[str]:
        found = []
        if kind in ("call", "think") and self.odds(50):
            errors = self.pick(*ERRORS) if kind == "call" and self.odds(60) else "any"
            found.append(f"on error {errors} -> {self.way(names, ahead, back)}")
        if kind == "call" and self.odds(35):
            found.append(f"on denied -> {self.way(names, ahead, back)}")
        if kind == "call" and self.odds(35):
            found.append(f"on in_doubt -> {self.way(names, ahead, back)}")
        if kind == "event" and self.odds(70):
            found.append(f"on timeout -> {self.way(names, ahead, back)}")
        if kind != "event" and self.odds(15):
            found.append(f"on event e0(ev) -> {self.way(['ev.v', *names], ahead, back)}")
        for _ in range(self.chance.choice([0, 0, 1, 1, 2])):
            found.append(f"when {self.bool_(after)} -> {self.way(after, ahead, back)}")
        found.append(f"-> {self.way(after, ahead, back)}")
        return found

    def way(self, names: list[str], ahead: list[str], back: list[str]) -> str:
        target = self.pick(*back) if back and self.odds(30) else self.pick(*ahead)
        found = target
        if target in back or self.odds(20):
            found += f" limit {self.chance.randint(1, 3)}"
            found += f" else {self.pick(*ahead)}" if self.odds(60) else ""
        sets = [self.set_(names) for _ in range(self.chance.choice([0, 0, 0, 1, 2]))]
        return found + (f" {{ {'  '.join(sets)} }}" if sets else "")

    def approval(self, ask: str, pay: str, ahead: list[str], back: list[str]) -> list[str]:
        """A question that offers a call, and the state that makes it."""
        names = ["x", "y", "z"]
        answers = f"on no -> {self.way(names, ahead, back)}"
        limit = f" timeout {self.time(20, 120)}" if self.odds(80) else ""
        remind = f" remind every {self.time(10, 30)}" if self.odds(30) else ""
        more = [f"on timeout -> {self.way(names, ahead, back)}"] if limit and self.odds(70) else []
        more += [f"on event e0(ev) -> {self.way(['ev.v', *names], ahead, back)}"] if self.odds(25) else []
        bound, result = self.new("q"), self.new("p")
        cents = self.chance.randint(10, 99)
        rest = f"{ask}_rest" if cents % 3 == 0 else ""
        between = [f"  state {rest} {{ wait {1987 * cents}ms  -> {pay} }}"] if rest else []
        return [
            *between,
            f'  state {ask} {{\n    ask role "o" to pay(m + $0.{cents}) "Pay {{x}}?" options ok approves, no{limit}'
            f"{remind} as {bound}\n    on ok -> {rest or pay}\n    {answers}\n    " + "\n    ".join(more) + "\n  }",
            f"  state {pay} {{\n    call approved {self.pick('pay', bound)} as {result}\n    "
            f"on denied -> {self.way(names, ahead, back)}\n    -> {self.way(names, ahead, back)}\n  }}",
        ]

    def last(self, names: list[str]) -> str:
        calls = [f"call {self.pick('rd', *WRITES)}({self.int_(names, 1)})" for _ in range(self.chance.randint(1, 3))]
        return "  ".join(calls)

    def agent(self, name: str, count: int, bodies: int, main: bool) -> None:
        names = ["x", "y", "z", "i"]
        states = [f"s{n}" for n in range(count)]
        asks = "ask" in self.parts and self.odds(40)
        self.asks = ["review"] if asks else []
        finals = [*FINALS, "over"]
        body: list[str] = []
        for n, state in enumerate(states):
            ahead = [*states[n + 1 :], "done", "bad", *(["review"] if asks else [])]
            back = states[: n + 1]
            body.append(self.state(state, names, ahead, back, n == 0, bodies))
        if asks:
            body += self.approval("review", "pay_it", list(FINALS), states)
        handlers = []
        if self.odds(50):
            handlers.append(f"on error any -> {self.pick(*finals)}")
        if self.odds(40):
            handlers.append(f"on denied -> {self.pick(*finals)}")
        if self.odds(40):
            handlers.append(f"on in_doubt -> {self.pick(*finals)}")
        if main and self.odds(40):
            handlers.append(f"on cancel -> {self.pick(*finals, *states[-1:])}")
        self.lines += [
            f"agent {name} version 1 {{",
            "  input i: int",
            "  output x: int, y: int?, l: list<int>, m: money",
            "  var x: int = 0",
            f"  var y: int {'-99..99 ' if self.odds(30) else ''}= i",
            f"  var z: int = {self.chance.randint(-2, 5)}",
            "  var l: list<int> = [1]",
            "  var m: money = $1.00",
            '  var s: string = "ž"',
            "  event e0(v: int)",
            "  emits told(v: int)",
            f"  budget {{ {self.budget((3, 25))}  exceeded -> {self.pick(*finals)} }}",
            "  policy {",
            *(f"    {rule}" for rule in self.policy()),
            "  }",
            *(f"  {handler}" for handler in handlers),
            *([f"  finally {{ {self.last(names)} }}"] if "finally" in self.parts and self.odds(30) else []),
            *body,
            "  final done { x = x  y = y  l = l  m = m }",
            f"  failed bad {{ x = {self.int_(names, 1)}  l = l  m = m }}",
            "  failed over { x = z  l = []  m = $0 }",
            "}",
        ]

    def text(self) -> str:
        """The program."""
        self.tools()
        self.below = ["kid", "grandkid"]
        self.agent("main", self.chance.randint(2, 6), 2, True)
        for child in ("kid", "grandkid"):
            self.below = ["grandkid"] if child == "kid" else []
            if child in self.children:
                self.agent(child, self.chance.randint(1, 3), 1, False)
        return "\n".join(self.lines) + "\n"


def program(seed: int, parts: frozenset[str] = ALL) -> str:
    """The program of a seed."""
    return Maker(seed, parts).text()


def world(seed: int, crash: bool = False) -> World:
    """The world of a seed: what fails, who sends what, when somebody cancels."""
    chance = random.Random(f"world {seed}")
    outside = [
        Outside(chance.randint(1, 300_000), "event", "e0", {"v": chance.randint(-3, 9)})
        for _ in range(chance.choice([0, 1, 1, 2, 4]))
    ]
    if chance.randrange(100) < 25:
        outside.append(Outside(chance.randint(1, 200_000), "cancel", value=chance.randrange(4) == 0))
    moves = ("retry", "retry", "happened", "did_not_happen", "cancel")
    operator = tuple(chance.choice(moves) for _ in range(chance.choice([0, 0, 1, 2, 3])))
    return World(
        seed,
        failing=chance.choice([0, 10, 20, 40]),
        outside=tuple(outside),
        operator=operator,
        crash_at=chance.randint(1, 200_000) if crash else None,
        input={"i": chance.randint(-3, 9)},
    )
