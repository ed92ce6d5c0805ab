"""The engine's side of the comparison: `kernel.rules` over the state that a `Fence` keeps, told as a run tells it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jamjet_dsl.definition import Definition
from jamjet_dsl.kernel import monitors, rules
from jamjet_dsl.kernel.model import Grant
from jamjet_dsl.kernel.policy import Decision, Fence, Ledger
from jamjet_dsl.kernel.records import digest_of
from jamjet_dsl.kernel.scope import scope_of
from jamjet_dsl.kernel.values import from_public, to_journal
from tests.reference.policy.policies import Gone, Timeout

Reader = Callable[[str, dict[str, Any]], Any]


class Guard(Fence):
    """A fence whose facts are kept as the state of a run keeps them: each decision is that of another action, reads a
    fact anew unless an earlier read is fresh, and its limits are counted when the call is made."""

    def __init__(
        self,
        definition: Definition,
        principal: Mapping[str, Any],
        variables: Mapping[str, Any],
        ledger: Ledger | None = None,
    ) -> None:
        super().__init__(definition, principal=principal, variables=variables, ledger=ledger)
        self._count = 0
        self._ruled: Decision | None = None

    @property
    def now_ms(self) -> int:
        """The time of the last call."""
        return self._state.now_ms

    def come_from(self, origins: Mapping[str, Iterable[str]]) -> None:
        """Where the values of variables and arguments came from, by their paths."""
        self._state.provenance = {name: frozenset(flags) for name, flags in origins.items()}

    def ruling(self, tool: str, args: dict[str, Any], approvals: list[Any], read: Reader, at_ms: int) -> Decision:
        """The decision on a call, as a run makes it."""
        values, problems = self._arguments(tool, args)
        if problems:
            return Decision("denied", (), "; ".join(problems))
        self._count += 1
        cmd, draft = f"#{self._count}.1", self._draft
        draft.state.now_ms = max(at_ms, draft.state.now_ms)
        call = {"tool": tool, "digest": digest_of(tool, to_journal(values))}
        grants = [
            Grant(f"g{n}", a["ask"], None, call, a["by"], 0, None, [{"by": a["by"], "roles": a["roles"]}])
            for n, a in enumerate(approvals)
        ]
        while True:
            scope = scope_of(self.program, draft.state, self._frame)
            answer = rules.decide(self.program, draft.state, "", scope, cmd, tool, values, grants)
            if isinstance(answer, Decision) and answer.shared and draft.state.counted is None:
                draft.state.counted = {**self._counted(answer), "cmd": cmd}
                continue
            if isinstance(answer, Decision):
                draft.state.counted = None
                self._ruled = answer
                return answer
            draft.own("facts")[answer.key] = {"at_ms": draft.state.now_ms, "cmd": cmd, **self._outcome(answer, read)}

    def _outcome(self, missing: rules.Missing, read: Reader) -> dict[str, Any]:
        try:
            value = read(missing.tool, missing.args)
        except (OSError, Gone, Timeout) as problem:
            return {"error": "Unavailable" if isinstance(problem, OSError) else type(problem).__name__}
        problems: list[str] = []
        type_ = self.program.defn.tools[missing.tool].result
        assert type_ is not None
        result = from_public(value, type_, self.program.defn, missing.name, problems)
        return {"error": "InvalidOutput"} if problems else {"result": to_journal(result)}

    def made(self, tool: str, args: dict[str, Any], ok: bool, result: Any) -> None:
        """The call that was decided last was made: what an intent and an outcome leave in the state of a run."""
        assert self._ruled is not None
        values, _ = self._arguments(tool, args)
        draft = self._draft
        for index, group, size in self._ruled.limits:
            limit = (self.program.agent.rules or ())[index].limit
            assert limit is not None
            monitors.limit_take(draft, "", index, limit, group, size)
        self._ledger.add(self._state.principal["id"], self._ruled.shared, self._state.now_ms)
        monitors.count(self.program, draft, "", "attempted", tool, values)
        monitors.count(self.program, draft, "", "succeeded" if ok else "failed", tool, values)
        if ok:
            draft.state.seq += 1
            value = to_journal(self._typed(result, self.program.defn.tools[tool].result))
            monitors.remember(self.program, draft, "", tool, values, value)
