"""The tools of the simulation, declared in many ways. Each takes a `ref`: what it is about, another one every time."""

from __future__ import annotations

import random

RETRIES = (
    "",
    "",
    "retry Unavailable, RateLimited 2 times backoff 1s x 2 max 5s",
    "retry RateLimited 3 times backoff 2s x 2 jitter full",
    "retry any 1 times",
)
KEYED_RETRIES = (*RETRIES, "retry Timeout, Disconnected, Crashed 2 times backoff 1s x 3 jitter full")
CALLED = ("peek", "scan", "post", "post", "put", "put", "lodge", "pay", "wire", "slow", "block")
"""What states call, the more frequent ones more often."""


class Library:
    """The declarations that one program uses."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.declared: dict[str, str] = {}
        self.undoing = chance.random() < 0.5

    def tool(self, name: str) -> str:
        """Declare a tool once, and give its name."""
        if name not in self.declared:
            self.declared[name] = ""  # a tool may name another one
            self.declared[name] = getattr(self, f"_{name}")()
        return name

    def names(self) -> list[str]:
        """What a policy has to speak of."""
        return [name for name in self.declared if not name.startswith("seen_")]

    def _pick(self, *texts: str) -> str:
        return self.chance.choice(texts)

    def _maybe(self, chance: float, text: str) -> str:
        return text if self.chance.random() < chance else ""

    def _declare(self, name: str, effect: str, *clauses: str) -> str:
        parts = " ".join(clause for clause in (f"effect {effect}", *clauses) if clause)
        return f"tool {name}(ref: string, n: int) -> int {{ {parts} }}"

    def _timeout(self) -> str:
        return self._pick("timeout 4s", "timeout 8s", "timeout 8s", "timeout 25s")

    def _undo(self, name: str) -> str:
        if not self.undoing:
            return ""
        self.tool(f"un{name}")
        return f"undo un{name}(ref, result)"

    def _peek(self) -> str:
        return self._declare("peek", "reads", self._timeout(), "raises Gone", self._pick(*RETRIES))

    def _scan(self) -> str:
        return self._declare("scan", "reads", self._timeout(), "cost $0.10", self._pick(*RETRIES))

    def _post(self) -> str:
        retry = self._pick(*RETRIES, "retry any 2 times", "retry Timeout, Disconnected 1 times backoff 1s")
        return self._declare("post", "writes", self._timeout(), self._undo("post"), "raises Declined", retry)

    def _put(self) -> str:
        cost = self._maybe(0.5, "cost $0.05")
        return self._declare(
            "put", "writes", "key ref", self._timeout(), self._undo("put"), cost, self._pick(*KEYED_RETRIES)
        )

    def _lodge(self) -> str:
        self.tool("seen_lodge")
        cost = self._maybe(0.5, "cost $0.20")
        return self._declare("lodge", "writes", "confirm seen_lodge(ref)", self._timeout(), self._undo("lodge"), cost)

    def _pay(self) -> str:
        self.tool("seen_pay")
        return self._declare(
            "pay",
            "irreversible",
            "key ref",
            "confirm seen_pay(ref)",
            "cost $0.50",
            self._timeout(),
            "raises Declined",
            self._pick(*KEYED_RETRIES),
        )

    def _wire(self) -> str:
        return self._declare("wire", "irreversible", self._timeout(), "raises Declined")

    def _slow(self) -> str:
        rate = self._pick("limit 2 calls per minute", "limit 1 call per second", "limit 3 calls per minute")
        return self._declare("slow", "writes", "key ref", rate, "timeout 20s", self._pick(*KEYED_RETRIES))

    def _block(self) -> str:
        return self._declare("block", "writes", self._maybe(0.5, "key ref"), self._timeout())

    def _unput(self) -> str:
        return self._declare("unput", "writes", "key ref", self._timeout(), self._pick(*KEYED_RETRIES))

    def _unpost(self) -> str:
        return self._declare("unpost", "writes", self._timeout(), self._maybe(0.3, "cost $0.05"))

    def _unlodge(self) -> str:
        return self._declare("unlodge", "writes", "key ref", self._timeout())

    def _close(self) -> str:
        return self._declare("close", "writes", self._maybe(0.7, "key ref"), self._timeout(), self._pick(*RETRIES[:4]))

    def _seen_lodge(self) -> str:
        return "tool seen_lodge(ref: string) -> int? { effect reads timeout 3s }"

    def _seen_pay(self) -> str:
        return "tool seen_pay(ref: string) -> int? { effect reads timeout 3s cost $0.01 }"
