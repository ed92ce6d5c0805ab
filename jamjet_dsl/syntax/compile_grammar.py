"""From `grammar/jam.lark` to the tables that `parser.py` runs on.

Lark reads the grammar, proves it LALR(1) and builds the automaton; this module keeps of it what parsing a
program needs, as plain lists and dicts that `marshal` loads in two milliseconds. So a program is parsed
without importing Lark (37 ms) and without building a scanner for each of its states (another 50 ms).
Lark is imported here only, and here only when the tables are made: by the wheel's build hook, or once in a
checkout whenever the grammar changes.
"""

from __future__ import annotations

from typing import Any

from jamjet_dsl.syntax.tables import Tables

START_SYMBOLS = ("start", "expression")
# These two are told from the token that follows the word, which the driver has at hand; the rest make one scanner.
_LOOKAHEAD_TERMINALS = ("FIELD", "TARGET")


class AlwaysNames:
    """The postlex under which Lark itself reads the grammar: a name is a candidate in every state, so that
    `whena` is one name and not `when` and `a`."""

    always_accept = ("IDENT",)

    def process(self, stream: Any) -> Any:
        """The tokens, unchanged."""
        return stream


def load_lark(grammar: str, *, strict: bool = False) -> Any:
    """Lark's own parser for the grammar text; with `strict`, Lark refuses any conflict or ambiguity."""
    from lark import Lark

    return Lark(
        grammar,
        parser="lalr",
        lexer="contextual",
        strict=strict,
        start=list(START_SYMBOLS),
        postlex=AlwaysNames(),
        propagate_positions=False,
    )


def compile_grammar(grammar: str, *, strict: bool = False) -> Tables:
    """The tables of the grammar text. Raises Lark's `GrammarError` when the grammar is not LALR(1)."""
    return _tables(load_lark(grammar, strict=strict))


def compile_to_bytes(grammar: str, *, strict: bool = False) -> bytes:
    """What `jam.grammar.bin` holds: call this from the hook that builds the wheel."""
    return compile_grammar(grammar, strict=strict).dump()


def _tables(lark: Any) -> Tables:
    table = lark.parser.parser._parse_table
    shift = _shift_class()
    rules = list(lark.rules)
    numbers = {rule: i for i, rule in enumerate(rules)}
    nonterminals = {rule.origin.name for rule in rules}
    order = _order(rules)
    states = _renumbered(table, order, shift)
    actions: list[dict[str, int]] = [{} for _ in states]
    gotos: list[dict[str, int]] = [{} for _ in states]
    symbols = [""] * len(states)
    for state, number in states.items():
        for symbol, (action, target) in sorted(table.states[state].items(), key=lambda item: order[item[0]]):
            if action is not shift:
                actions[number][symbol] = ~numbers[target]
                continue
            symbols[states[target]] = symbol
            (gotos if symbol in nonterminals else actions)[number][symbol] = states[target]
    for end in table.end_states.values():
        actions[states[end]]["$END"] = states[end]  # Lark stops there by itself; a driver shifts the end like any token
    literals, scanner = _terminals(lark.terminals)
    return Tables(
        actions=actions,
        gotos=gotos,
        rules=[_rule(rule) for rule in rules],
        symbols=symbols,
        starts={name: states[table.start_states[name]] for name in START_SYMBOLS},
        ends={name: states[table.end_states[name]] for name in START_SYMBOLS},
        literals=literals,
        scanner=scanner,
    )


def _order(rules: list[Any]) -> dict[str, int]:
    """Symbols in the order in which the grammar names them: messages list what is expected in it."""
    names = ["$END", *START_SYMBOLS]
    for rule in rules:
        names.append(rule.origin.name)
        names += [symbol.name for symbol in rule.expansion]
    return {name: i for i, name in enumerate(dict.fromkeys(names))}


def _renumbered(table: Any, order: dict[str, int], shift: Any) -> dict[int, int]:
    """Lark's states to numbers that depend on the grammar alone, so that builds can be reproduced: Lark numbers them
    as it walks over sets."""
    found: dict[int, int] = {}
    todo = [table.start_states[name] for name in START_SYMBOLS]
    for state in todo:
        if state in found:
            continue
        found[state] = len(found)
        row = sorted(table.states[state].items(), key=lambda item: order[item[0]])
        todo += [target for _, (action, target) in row if action is shift]
    return found


def _shift_class() -> Any:
    from lark.parsers.lalr_analysis import Shift

    return Shift


def _rule(rule: Any) -> tuple[str, int, str, tuple[int | None, ...], int]:
    """A rule as (left side, length, action, children, splices): see `Tables.rules`."""
    keep: list[int | None] = []
    splices = 0
    empties = list(rule.options.empty_indices or ())
    for position, symbol in enumerate(rule.expansion):
        while empties and empties.pop(0):
            keep.append(None)
        if not symbol.is_term and symbol.name.startswith("_"):
            splices |= 1 << len(keep)
            keep.append(position)
        elif not (symbol.is_term and symbol.filter_out):
            keep.append(position)
    keep.extend(None for empty in empties if empty)
    origin = rule.origin.name
    if origin.startswith("_"):
        action = "[]"
    elif rule.options.expand1 and not rule.alias and len(keep) == 1 and not splices:
        action = "="
    else:
        action = rule.alias or origin
    return str(origin), len(rule.expansion), str(action), tuple(keep), splices


def _terminals(terminals: Any) -> tuple[dict[str, str], str]:
    """The fixed text of each terminal that has one, and one regular expression that scans all others and the
    punctuation, in the order in which Lark would try them. Words are told from names after scanning."""
    literals: dict[str, str] = {}
    scanned = []
    for terminal in terminals:
        if type(terminal.pattern).__name__ == "PatternStr":
            literals[str(terminal.name)] = terminal.pattern.value
            if terminal.pattern.value[0].isalpha():
                continue
        if terminal.name not in _LOOKAHEAD_TERMINALS and terminal.name != "WS":
            scanned.append(terminal)
    scanned.sort(key=lambda t: (-t.priority, -t.pattern.max_width, -len(t.pattern.value), t.name))
    return literals, "|".join(f"(?P<{t.name}>{t.pattern.to_regexp()})" for t in scanned)
