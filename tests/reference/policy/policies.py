"""Random policies, as text, and what happens to them. All of it follows from a seed."""

from __future__ import annotations

import random
from typing import Any

TOOLS = """
model m { via openai "x" }
record Info { level: int  tag: string  open: bool }
tool info(id: string, n: int) -> Info { effect reads  timeout 5s  raises Gone }
tool score(id: string, n: int) -> int { effect reads  timeout 5s  raises Gone, Timeout }
tool page(id: string, n: int) -> string untrusted { effect reads  timeout 5s }
tool note(id: string, n: int, m: money) { effect writes  timeout 5s }
tool move(id: string, n: int, m: money) { effect writes  timeout 5s }
tool pay(id: string, n: int, m: money) { effect irreversible  timeout 5s }
tool wipe(id: string, n: int, m: money) { effect irreversible  timeout 5s }
"""
STATES = """
  budget { steps 10  exceeded -> done }
  on error any -> done
  start state sign { ask role "boss" "Sign?" options yes, no  on yes -> seal  on no -> done }
  state seal { ask role "boss" "Seal?" options yes, no  on yes -> look  on no -> done }
  state look {
    think "?" model m max prompt 1k max tokens 99 tools info, score, page, note, move, pay, wipe as it
    -> done
  }
  final done {}
"""
"""States to be named, and a model that is offered every tool: what nobody names is no part of a definition."""
READS, WRITES = ("info", "score", "page"), ("note", "move", "pay", "wipe")
PAIRS = (READS, WRITES)
CLASSES = ("any writes", "any irreversible", "any reads", "any")
FACTS = ("fi", "fs", "fd")
IDS = ("a", "b", "c")


class Policies:
    """Makes one policy."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.facts: list[str] = []
        self.bound = 0
        self.within = chance.random() < 0.5
        """Whether facts are kept for a while: then they are read as in a run, else as by a fence."""

    def pick(self, *of: Any) -> Any:
        return self.chance.choice(of)

    def odds(self, percent: int) -> bool:
        return self.chance.random() * 100 < percent

    def text(self) -> str:
        """A program with nothing but tools, variables and a policy."""
        facts, rules = self.declared_facts(), self.rules()
        self.chance.shuffle(rules)
        lines = "\n".join(f"    {rule}" for rule in [*facts, *rules])
        tools = TOOLS
        for said in ("-> Info", "-> int"):
            tools = tools.replace(said, f"{said} untrusted") if self.odds(40) else tools
        return f"""{tools}
agent a version 1 {{
  input lim: int
  var v: int = 3
  var w: string?
  policy {{
{lines}
  }}
{STATES}}}
"""

    def declared_facts(self) -> list[str]:
        found = []
        for name, call in (("fi", "info(id = args.id, n = 1)"), ("fs", f"score(id = args.id, n = {self.number()})")):
            if self.odds(45):
                found.append(self.fact(name, call))
        if "fs" in self.facts and self.odds(40):
            found.append(self.fact("fd", "score(id = args.id, n = fs)"))
        return found

    def fact(self, name: str, call: str) -> str:
        self.facts.append(name)
        within = f" within {self.pick('10s', '1m', '1h')}" if self.within and self.odds(70) else ""
        tools = f" for {self.tools()}" if self.odds(25) else ""
        return f"fact {name} = {call}{within}{tools}"

    def number(self) -> str:
        return self.pick("args.n", "2", "v", "lim", "10 / args.n")

    def tools(self, of: tuple[str, ...] | None = None) -> str:
        if of is None and self.odds(30):
            return str(self.pick(*CLASSES))
        names = of if of is not None else self.pick(*PAIRS)
        return ", ".join(self.chance.sample(names, self.chance.randint(1, 3)))

    def rules(self) -> list[str]:
        found = [f"allow {self.tools()}{self.when(30)}" for _ in range(self.chance.randint(1, 3))]
        found += ["allow any"] if self.odds(50) else []
        if self.odds(40):
            found.append(f'allow {self.tools(WRITES)}{self.when(60)} without approval because "small"')
        for _ in range(self.chance.randint(0, 4)):
            found.append(self.restriction())
        return found

    def restriction(self) -> str:
        match self.chance.randrange(8):
            case 0 | 1:
                return f"forbid {self.tools()} when {self.condition()}"
            case 2:
                return f"never {self.tools()} after {self.tools()}{self.when(40)}"
            case 3:
                return self.limit()
            case 4:
                args = self.pick("id = args.id", "id = args.id, n = args.n", "n = 10 / args.n", 'id = "a"')
                read = f"{self.pick('info', 'score')}({args})"
                if "id =" not in args:
                    read = f'score(id = "b", {args})'
                elif "n =" not in args:
                    read = read.replace(")", ", n = 1)")
                bound = self.alias(50)
                asked = [
                    *(f"{bound}.{one}" for one in self.got(read)),
                    f"!untrusted({bound}.{self.pick('result', 'args')})",
                ]
                when = self.when(60, asked if bound else None)
                return f"require {read}{f' as {bound}' if bound else ''} before {self.tools()}{when}"
            case 5:
                bound = self.alias(40)
                when = self.when(40, [f"{bound}.args.n > 1", f"untrusted({bound})"] if bound else None)
                read = f"any of score, {self.pick('note', 'page')}"
                return f"require {read}{f' as {bound}' if bound else ''} before {self.tools()}{when}"
            case 6:
                return f"require approval {self.pick('sign', 'seal')} before {self.tools()}{self.when(40)}"
        who = " not principal" if self.odds(50) else ""
        count, role = self.pick(1, 2), self.pick("boss", "clerk")
        return f'require approval by {count} of "{role}"{who} before {self.tools()}{self.when(40)}'

    def alias(self, percent: int) -> str:
        """A new name for what was read, or none."""
        if not self.odds(percent):
            return ""
        self.bound += 1
        return f"got{self.bound}"

    def got(self, read: str) -> list[str]:
        return ["result.level > 1", "result.open"] if read.startswith("info") else ["result > 1"]

    def limit(self) -> str:
        per = self.pick("", " per args.id", " per minute", " per args.id per minute", " per args.n per hour")
        per += " per principal" if self.odds(30) else ""
        if self.odds(50):
            return f"limit {self.pick(*READS, *WRITES)} {self.chance.randint(1, 4)} calls{per}"
        if self.odds(50):
            return f"limit {self.pick(*WRITES)} total args.m <= {self.pick('$5', '$2.50')}{per}"
        facts = ["fs"] if "fs" in self.facts and self.within else []
        return f"limit {self.pick(*READS, *WRITES)} total args.n <= {self.pick('6', 'lim', '10 / v', *facts)}{per}"

    def when(self, percent: int, more: list[str] | None = None) -> str:
        return f" when {self.condition(more)}" if self.odds(percent) else ""

    def condition(self, more: list[str] | None = None, deep: int = 2) -> str:
        """A condition; now and then one that has no value for some calls."""
        if deep and self.odds(45):
            one, other = self.condition(more, deep - 1), self.condition(more, deep - 1)
            form = self.pick("!({0})", "({0}) && ({1})", "({0}) || ({1})", "({0}) ? ({1}) : !({1})")
            return str(form).format(one, other)
        if more and self.odds(60):
            return str(self.pick(*more))
        counted = self.pick("attempted", "succeeded", "failed")
        atoms = [
            f"args.n > {self.chance.randint(0, 3)}",
            f'args.id == "{self.pick(*IDS)}"',
            'args.id in ["a", "c"]',
            "args.n >= lim",
            f"10 / (args.n - {self.chance.randint(0, 3)}) > 2",
            'principal.id == "eve"',
            '"boss" in principal.roles',
            f"{counted}({self.tool()}) > {self.chance.randint(0, 2)}",
            f"{counted}({self.tool()}, id = args.id) > {self.chance.randint(0, 1)}",
            f"succeeded({self.tool()}, n = args.n, id = args.id) == {self.chance.randint(0, 1)}",
            f"attempted({self.tool()}) < {self.chance.randint(1, 3)}",
            f"{self.pick('attested', 'untrusted')}({self.pick('args.id', 'args.n', 'v', 'w')})",
            "has(w)",
            'w == "yes"',
            "budget.remaining.steps > 3",
            "[1, 2, 3].exists(i, i == args.n)",
        ]
        known = {
            "fi": [
                "fi.level > 2",
                "!fi.open",
                'fi.tag == "x"',
                "has(fi)",
                "has(fi.tag) && fi.level > 1",
                "!has(fi.open)",
                "untrusted(fi.tag)",
            ],
            "fs": ["fs > 2", "10 / fs > 3", "!has(fs)", "untrusted(fs)"],
            "fd": ["fd < 3", "has(fd)"],
        }
        atoms += [atom for name in self.facts for atom in known[name] for _ in range(3)]
        return str(self.pick(*atoms))

    def tool(self) -> str:
        return str(self.pick(*READS, *WRITES))


def program(seed: int) -> tuple[str, bool]:
    """A program, and whether its facts are kept (`within`)."""
    made = Policies(random.Random(seed))
    return made.text(), made.within


class Gone(Exception):
    """What the tools of facts raise to say that there is nothing of the kind."""


class Timeout(Exception):
    """An error of every tool, which says nothing even if a tool names it among those that it raises."""


class World:
    """What happens beside the policy: who runs it, with which variables, and what facts are when they are read."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        roles = self.chance.sample(["boss", "clerk", "eve"], self.chance.randint(0, 2))
        self.principal = {"id": self.chance.choice(["eve", "ann ", ""]), "roles": roles}
        self.variables: dict[str, Any] = {"lim": self.chance.randint(0, 4), "v": self.chance.randint(0, 3)}
        if self.chance.random() < 0.6:
            self.variables["w"] = self.chance.choice(["yes", "no", None])
        self._salt = self.chance.randrange(1 << 30)

    def origins(self) -> dict[str, list[str]]:
        """Where values came from: variables and arguments by their paths."""
        names = ["args.id", "args.n", "v", "w"]
        flags: list[list[str]] = [["attested"], ["untrusted"], ["attested", "untrusted"]]
        return {name: self.chance.choice(flags) for name in names if self.chance.random() < 0.4}

    def fact(self, tool: str, args: dict[str, Any], now: int) -> Any:
        """What a read gives at a time. What does not fit the tool has no value. Raises Gone where there is none,
        OSError or Timeout where it fails."""
        said = random.Random(f"{self._salt} {tool} {sorted(args.items())} {now // 20_000}")
        if said.random() < 0.12:
            raise Gone
        if said.random() < 0.12:
            raise said.choice([OSError, Timeout])("it cannot be read")
        if said.random() < 0.05:
            return {"level": "high"}
        if tool == "score":
            return said.randint(0, 4)
        return {"level": said.randint(0, 4), "tag": said.choice("xy"), "open": said.random() < 0.5}

    def call(self, tools: list[str]) -> tuple[str, dict[str, Any], bool]:
        """A call of one of these tools, and whether its arguments fit."""
        tool = self.chance.choice(tools)
        args: dict[str, Any] = {"id": self.chance.choice(IDS), "n": self.chance.randint(0, 4)}
        if tool in WRITES:
            args["m"] = self.chance.choice(["1.00 USD", "2.50 USD", "2.5 USD", "-1.00 USD", "3.00 EUR"])
        if self.chance.random() < 0.04:
            spoil = self.chance.choice([{"id": 7}, {"n": "2"}, {"more": 1}, {"id": None}])
            return tool, {**args, **spoil}, False
        return tool, args, True

    def approvals(self) -> list[dict[str, Any]]:
        """Approvals that were given for exactly this call."""
        people = [("ann", ["boss"]), ("ben", ["boss", "clerk"]), ("eve", ["boss"]), ("", ["boss"]), ("cid", ["clerk"])]
        people += [("Ann", ["boss"]), (" ben", ["boss"]), ("EVE ", ["boss"]), (" ", ["boss"]), ("ｃｉｄ", ["clerk"])]
        if self.chance.random() < 0.5:
            return []
        chosen = [self.chance.choice(people) for _ in range(self.chance.randint(1, 3))]
        return [{"ask": self.chance.choice(["sign", "seal", ""]), "by": by, "roles": roles} for by, roles in chosen]

    def later(self, now: int) -> int:
        """The time of the next call: mostly later, now and then long after, now and then before."""
        step = self.chance.choice([0, 1, 1_000, 9_999, 10_000, 10_001, 30_000, 60_000, 3_600_000, -5_000, -100_000])
        return now + step

    def outcome(self, tool: str) -> tuple[bool, Any]:
        """Whether a call succeeded, and what it gave."""
        ok = self.chance.random() < 0.75
        if not ok or tool in WRITES:
            return ok, None
        if tool == "info":
            return ok, {"level": self.chance.randint(0, 3), "tag": "x", "open": self.chance.random() < 0.5}
        return ok, self.chance.randint(0, 4) if tool == "score" else "text"
