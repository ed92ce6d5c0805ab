"""The parser's tables: what they are, and how they are found and loaded.

In a wheel they are `jamjet_dsl/grammar/jam.grammar.bin`. In a checkout they are made from `grammar/jam.lark`
when first needed and kept in the user's cache folder under a name that contains the digest of everything
they follow from; a cache that cannot be written is done without.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import sys
from functools import lru_cache
from typing import NamedTuple

_FORMAT = 1  # of the marshalled tuple; a new number when its shape changes
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Tables(NamedTuple):
    """An LALR(1) automaton and a scanner, as plain data.

    `actions[state][terminal]` is a state to shift to, or `~rule` (negative) to reduce by. `gotos[state][rule
    name]` is the state after a reduction. `rules` are (left side, length, action, children, splices): `action`
    is `[]` to gather a list, `=` to pass the only child on, else the name of a builder function; `children` are
    positions in the rule, None where an optional part is absent; bit i of `splices` says that child i is a
    list whose items stand in its place. `symbols[state]` is the symbol that leads to the state. `literals` are
    the terminals with a fixed text; `scanner` is one regular expression, a named group for each other terminal.
    """

    actions: list[dict[str, int]]
    gotos: list[dict[str, int]]
    rules: list[tuple[str, int, str, tuple[int | None, ...], int]]
    symbols: list[str]
    starts: dict[str, int]
    ends: dict[str, int]
    literals: dict[str, str]
    scanner: str

    def dump(self) -> bytes:
        """The bytes of `jam.grammar.bin`. Equal rows are stored once."""
        shared: dict[tuple[tuple[str, int], ...], dict[str, int]] = {}
        actions = [shared.setdefault(tuple(sorted(row.items())), row) for row in self.actions]
        gotos = [shared.setdefault(tuple(sorted(row.items())), row) for row in self.gotos]
        plain = self._replace(actions=actions, gotos=gotos)
        return marshal.dumps((_FORMAT, *plain), 4)  # the version that every supported Python reads

    @classmethod
    def load(cls, data: bytes) -> Tables | None:
        """The tables in such bytes, or None if they are damaged or of another format."""
        try:
            version, *fields = marshal.loads(data)
        except (ValueError, EOFError, TypeError):
            return None
        return cls(*fields) if version == _FORMAT and len(fields) == len(cls._fields) else None


@lru_cache(maxsize=1)
def tables() -> Tables:
    """The tables of this installation: packaged, cached, or made now.

    Raises FileNotFoundError when neither a packaged nor a checkout's grammar is there.
    """
    packaged = os.path.join(_PACKAGE, "grammar", "jam.grammar.bin")
    try:
        with open(packaged, "rb") as file:
            loaded = Tables.load(file.read())
        if loaded is not None:
            return loaded
    except OSError:
        pass
    return _cached(grammar_text())


def grammar_text() -> str:
    """The text of the grammar: the packaged one first, else the checkout's."""
    packaged = os.path.join(_PACKAGE, "grammar", "jam.lark")
    checkout = os.path.join(os.path.dirname(_PACKAGE), "grammar", "jam.lark")
    for path in (packaged, checkout):
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                return file.read()
    raise FileNotFoundError("grammar/jam.lark is missing from this installation; install jamjet-dsl again")


def _cached(grammar: str) -> Tables:
    path = _cache_path(grammar)
    try:
        with open(path, "rb") as file:
            loaded = Tables.load(file.read())
        if loaded is not None:
            return loaded
    except OSError:
        pass
    from jamjet_dsl.syntax.compile_grammar import compile_grammar

    made = compile_grammar(grammar)
    _write(path, made.dump())
    return made


def _cache_path(grammar: str) -> str:
    import zlib

    # The format number and the compiler's own text stand for the code that makes the tables. A checksum does: the
    # cache is the user's own, and `hashlib` costs a millisecond to import.
    maker = os.path.join(_PACKAGE, "syntax", "compile_grammar.py")
    with open(maker, "rb") as file:
        digest = zlib.crc32(file.read(), zlib.crc32(grammar.encode()))
    tag = f"{digest:08x}-{len(grammar)}-{_FORMAT}-{sys.implementation.cache_tag}-lark{_lark_stamp()}"
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "jamjet-dsl", f"jam-{tag}.bin")


def _lark_stamp() -> str:
    """The size of the installed Lark's table builder: tells versions apart without importing Lark."""
    for folder in sys.path:
        try:
            return str(os.stat(os.path.join(folder, "lark", "parsers", "lalr_analysis.py")).st_size)
        except OSError:
            continue
    return "none"


def _write(path: str, data: bytes) -> None:
    """Write whole or not at all; a folder that cannot be written to is no error."""
    temporary = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
