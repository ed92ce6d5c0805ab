"""Budgets kept a second time: what every agent of a run has spent and holds, naively."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from jamjet_dsl.definition import Definition

ZERO = Decimal(0)


def money(text: str | None) -> Decimal:
    """The number in money text."""
    return Decimal(text.split(" ")[0]) if text else ZERO


def visit_of(cmd: str) -> str:
    """The frame and visit that an id belongs to: `gather@4/web#3` of `gather@4/web#3.2/confirm`."""
    frame, _, rest = cmd.rpartition("#")
    return f"{frame}#{rest.partition('.')[0]}"


def trace_key(run_id: str, cmd: str) -> str:
    """What a call without a declared key is traced by: the same for all attempts of a visit."""
    return f"{run_id}/{cmd if beside(cmd) else visit_of(cmd)}"


def frame_of(cmd: str) -> str:
    """The frame that an id belongs to."""
    return cmd.rpartition("#")[0]


def beside(cmd: str) -> bool:
    """Whether this is a read beside an action."""
    return "/" in cmd.rpartition("#")[2]


@dataclass
class Attempt:
    """An effect with an intent: what it holds, and what is known of it."""

    cmd: str
    body: dict[str, Any]
    tokens: int
    cost: Decimal
    settled: bool = False
    outcome: str = ""
    """Empty while in flight; `ok`, `definite`, `indefinite`, `doubt`, `again`, `yes` or `no` (as somebody told)."""

    @property
    def writes(self) -> bool:
        """Whether it may change the world."""
        return bool(self.body["effect"] != "reads")


@dataclass
class Account:
    """What one agent may use, and has used with all agents inside it."""

    caps: dict[str, Any]
    limits: dict[str, Any]
    steps: int = 0
    tokens: int = 0
    cost: Decimal = ZERO
    exceeded: str | None = None


@dataclass
class Accounts:
    """The accounts of a run, by the path of the agent's frame; the run's own is `""`."""

    definition: Definition
    open: dict[str, Attempt]
    all: dict[str, Account] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        budget = self.definition.agent.budget
        limits: dict[str, Any] = {}
        caps: dict[str, Any] = {}
        if budget is not None:
            full, kept = budget.limits, budget.reserve
            for name in ("steps", "tokens"):
                if getattr(full, name) is not None:
                    limits[name] = getattr(full, name)
                    caps[name] = max(limits[name] - (getattr(kept, name) or 0), 0)
            if full.cost is not None:
                limits["cost"] = money(full.cost)
                caps["cost"] = max(limits["cost"] - money(kept.cost), ZERO)
        self.all[""] = Account(caps, limits)

    def opened(self, path: str, told: dict[str, Any]) -> None:
        """A child agent begins with this budget, which is not more than those around it have left."""
        for home, account in self.all.items():
            if home and not path.startswith(f"{home}/"):
                continue
            tokens, cost = self.held(home)
            left = {"steps": account.steps, "tokens": account.tokens + tokens, "cost": account.cost + cost}
            for name, used in left.items():
                cap, limit = account.caps.get(name), _numbers(told["limits"]).get(name)
                if cap is not None and (limit is None or limit > max(cap - used, 0)):
                    self.problems.append(f"{path} may use {limit} of {name}, there is {cap - used} left")
        self.all[path] = Account(_numbers(told["caps"]), _numbers(told["limits"]))

    def around(self, frame: str) -> Iterator[Account]:
        """The accounts of the agents around a frame."""
        for home, account in self.all.items():
            if not home or frame == home or frame.startswith(f"{home}/"):
                yield account

    def step(self, frame: str, spare: bool) -> None:
        """An action was entered."""
        for account in self.around(frame):
            if account.exceeded is None:
                account.steps += 1
                cap = account.caps.get("steps")
                if cap is not None and account.steps > max(cap, 1) and not spare:
                    self.problems.append(f"step {account.steps} of {cap} in {frame or 'the run'}")

    def held(self, home: str) -> tuple[int, Decimal]:
        """What is in flight holds."""
        inside = [
            a
            for cmd, a in self.open.items()
            if not a.settled and (not home or cmd.startswith((f"{home}#", f"{home}/")))
        ]
        return sum(a.tokens for a in inside), sum((a.cost for a in inside), ZERO)

    def may_hold(self, cmd: str, tokens: int, cost: Decimal, spare: bool) -> None:
        """An attempt is about to begin: its worst case has to fit, for every agent around it."""
        frame = frame_of(cmd)
        for home, account in self.all.items():
            if home and frame != home and not frame.startswith(f"{home}/"):
                continue
            limits = account.limits if spare else account.caps
            cap = account.caps.get("steps")
            if cap is not None and account.steps > max(cap, 1) and account.exceeded is None and not spare:
                self.problems.append(f"{cmd} begins in step {account.steps} of {cap}")
            held_tokens, held_cost = self.held(home)
            cap = limits.get("cost")
            if cap is not None and cost and account.cost + held_cost + cost > cap:
                self.problems.append(f"{cmd} begins with {account.cost} spent, {held_cost} held and {cost} of {cap}")
            cap = limits.get("tokens")
            if cap is not None and tokens and account.tokens + held_tokens + tokens > cap:
                self.problems.append(f"{cmd} begins with {account.tokens} tokens spent and {held_tokens} held of {cap}")

    def charge(self, attempt: Attempt, usage: dict[str, Any] | None = None) -> None:
        """An attempt is settled, once: at what was used, or in full."""
        if attempt.settled:
            return
        attempt.settled = True
        tokens, cost = attempt.tokens, attempt.cost
        if usage is not None:
            tokens = int(usage.get("tokens_in") or 0) + int(usage.get("tokens_out") or 0)
            cost = attempt.cost if usage.get("cost") is None else money(usage["cost"])
        for account in self.around(frame_of(attempt.cmd)):
            account.tokens += tokens
            account.cost += cost

    def exceeded(self, home: str, what: str) -> None:
        """A budget is said to be used up: it must be so, and once."""
        account = self.all[home]
        if account.exceeded is not None:
            self.problems.append("it was exceeded twice")
        account.exceeded = what
        tokens, cost = self.held(home)
        if what == "steps" and account.steps + 1 <= account.caps.get("steps", 0):
            self.problems.append(f"exceeded at step {account.steps} of {account.caps['steps']}")
        most = max((money(t.cost) for t in self.definition.tools.values()), default=ZERO)
        if what == "cost" and account.cost + cost + most <= account.caps["cost"]:
            self.problems.append(f"exceeded with {account.cost} spent and {cost} held of {account.caps['cost']}")
        if what == "tokens" and account.tokens + tokens + 300 <= account.caps["tokens"]:
            self.problems.append(f"exceeded with {account.tokens} tokens spent and {tokens} held")


def _numbers(tree: dict[str, Any]) -> dict[str, Any]:
    return {name: money(value) if name == "cost" else value for name, value in tree.items()}
