"""The LALR(1) machine: runs the tables over tokens and calls the builder on each reduction.

Nothing here recurses, so depth of nesting costs memory only. `run` stops at the first token that fits nowhere and
can be continued after its stacks or the tokens ahead were changed: that is what recovery does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from jamjet_dsl.syntax.lexer import END, Token, word_kinds
from jamjet_dsl.syntax.tables import Tables, tables

CLOSERS = {"LBRACE": "RBRACE", "LPAR": "RPAR", "LSQB": "RSQB"}
_PASS, _LIST, _NODE, _GATHER = range(4)
Action = Callable[[list[Any], int, int], Any]
Row = tuple[str, int, int, str, tuple[int | None, ...], int]


@lru_cache(maxsize=1)
def _rows() -> list[Row]:
    """The rules as (left side, length, mode, action, children, splices), the mode chosen once."""
    rows: list[Row] = []
    for left, length, action, children, splices in tables().rules:
        if action == "=":
            mode = _PASS
        elif action == "[]":
            mode = _LIST
        elif splices or None in children:
            mode = _GATHER
        else:
            mode = _NODE
        rows.append((left, length, mode, action, children, splices))
    return rows


class Machine:
    """The states of a parse and the tokens ahead of it: what can be said without building anything."""

    def __init__(self, tokens: list[Token], states: list[int]) -> None:
        self.tables: Tables = tables()
        self.tokens = tokens
        self.states = states

    def kind_in(self, state: int, token: Token) -> str:
        """The kind under which a state takes the token, or the empty string."""
        row = self.tables.actions[state]
        for kind in word_kinds(token):
            if kind in row:
                return kind
        return ""

    def reach(self, prefix: Sequence[Token], index: int, limit: int, depth: int | None = None) -> int:
        """How many of the tokens from `index` on would be taken after `prefix`, at most `limit`; reaching the end
        counts as `limit`; -1 if the prefix itself is not taken. `depth` drops the stack to so many states first.
        Only states are simulated, on top of the real stack, so a trial costs what it looks at."""
        actions, gotos = self.tables.actions, self.tables.gotos
        states, tokens, rows = self.states, self.tokens, _rows()
        base = len(states) if depth is None else depth
        top: list[int] = []
        state = states[base - 1]
        taken = -len(prefix)
        while taken < limit:
            token = prefix[taken + len(prefix)] if taken < 0 else tokens[index + taken]
            kind = self.kind_in(state, token)
            if not kind:
                break
            act = actions[state][kind]
            while act < 0:
                left, length, *_ = rows[~act]
                if length <= len(top):
                    del top[len(top) - length :]
                else:
                    base -= length - len(top)
                    top.clear()
                state = gotos[top[-1] if top else states[base - 1]][left]
                top.append(state)
                found = actions[state].get(kind)
                if found is None:
                    return taken if taken >= 0 else -1
                act = found
            if kind == END:
                return limit
            state = act
            top.append(state)
            taken += 1
        return taken if taken >= 0 else -1


class Driver(Machine):
    """One parse. `states`, `values` and `begins` are parallel stacks; `at` is the index of the next token."""

    def __init__(self, tokens: list[Token], start: str, builder: object) -> None:
        super().__init__(tokens, [])
        self.builder = builder
        self._actions = {row[3]: getattr(builder, row[3]) for row in _rows() if row[2] >= _NODE}
        self.restart(tokens, start)

    def restart(self, tokens: list[Token], start: str) -> None:
        """Begin again, with other tokens."""
        self.tokens = tokens
        self.at = 0
        self.states = [self.tables.starts[start]]
        self.values: list[Any] = []
        self.begins: list[int] = []
        self.last_end = 0
        self.result: Any = None

    def run(self) -> bool:
        """Go on until the end (True) or a token that fits nowhere (False): it is `tokens[at]`, and nothing was
        shifted for it."""
        actions, gotos = self.tables.actions, self.tables.gotos
        states, values, begins, tokens = self.states, self.values, self.begins, self.tokens
        rows, build = _rows(), self._actions
        at, last_end, state = self.at, self.last_end, self.states[-1]
        try:
            while True:
                token = tokens[at]
                kind = token[0]
                act = actions[state].get(kind)
                if act is None:
                    kind = self.kind_in(state, token)
                    if not kind:
                        return False
                    act = actions[state][kind]
                while act < 0:
                    left, length, mode, action, children, splices = rows[~act]
                    if mode == _PASS:
                        if length > 1:
                            base = len(values) - length
                            values[base:] = [values[base + children[0]]]  # type: ignore[operator]
                            del states[len(states) - length + 1 :], begins[base + 1 :]
                        state = gotos[states[-2]][left]
                        states[-1] = state
                        act = actions[state].get(kind)
                        if act is None:
                            return False
                        continue
                    base = len(values) - length
                    begin = begins[base] if length else token[2]
                    if mode == _NODE:
                        kids = [values[base + i] for i in children]  # type: ignore[operator]
                        made = build[action](kids, begin, last_end)
                    elif mode == _LIST:
                        made = _listed(values, base, children, splices)
                    else:
                        made = build[action](_gathered(values, base, children, splices), begin, last_end)
                    if length:
                        del states[-length:], values[base:], begins[base:]
                    state = gotos[states[-1]][left]
                    states.append(state)
                    values.append(made)
                    begins.append(begin)
                    act = actions[state].get(kind)
                    if act is None:
                        return False
                if kind == END:
                    self.result = values[-1]
                    return True
                state = act
                states.append(state)
                values.append(token)
                begins.append(token[2])
                last_end = token[3]
                at += 1
        finally:
            self.at, self.last_end = at, last_end

    def accepted(self) -> list[str]:
        """The terminals that may come next, the real test: their reductions are tried."""
        row = self.tables.actions[self.states[-1]]
        return [kind for kind in row if self.reach((Token(kind, "", 0, 0),), self.at, 0) == 0]

    def drop(self, depth: int) -> None:
        """Forget everything above so many states."""
        del self.states[depth:], self.values[depth - 1 :], self.begins[depth - 1 :]

    def opened_by(self) -> tuple[Token, str] | None:
        """The innermost bracket that is still open, and the kind of the token that closes it."""
        for state, value in zip(reversed(self.states), reversed(self.values), strict=False):
            closer = CLOSERS.get(self.tables.symbols[state])
            if closer is not None and type(value) is Token:
                return value, closer
        return None


def _listed(values: list[Any], base: int, children: Sequence[int | None], splices: int) -> list[Any]:
    """The list a helper rule gathers; one that only goes on with a list extends it in place."""
    made: list[Any] | None = None
    for bit, child in enumerate(children):
        value: Any = None if child is None else values[base + child]
        if splices >> bit & 1:
            if made is None:
                made = value
            else:
                made.extend(value)
        elif made is None:
            made = [value]
        else:
            made.append(value)
    return [] if made is None else made


def _gathered(values: list[Any], base: int, children: Sequence[int | None], splices: int) -> list[Any]:
    """The children of a node: None where one is absent, lists of helper rules in place."""
    kids: list[Any] = []
    for bit, child in enumerate(children):
        if child is None:
            kids.append(None)
        elif splices >> bit & 1:
            kids.extend(values[base + child])
        else:
            kids.append(values[base + child])
    return kids
