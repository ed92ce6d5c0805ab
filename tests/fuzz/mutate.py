"""Seeds, and changes to them that a person, a merge or a broken disk could make.

Random bytes hardly ever get past the lexer; moving, repeating, dropping and exchanging tokens and lines of real
programs does. The same changes feed the coverage-guided fuzzer (as its mutator) and the seeded one.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_PIECE = re.compile(r'"[^"\n]*"|[A-Za-z_]\w*|\d[\w.]*|->|[<>=!&|]{2}|\s+|.', re.S)
_FENCED = re.compile(r"^```jam[^\n]*\n(.*?)^```", re.M | re.S)
_ODD = (
    "\u202e",
    "\x00",
    "é",
    "`",
    '"""',
    "{{",
    "//",
    "///",
    "99999999999999999999",
    "1e999",
    "$0.001",
    "-",
    "\ufeff",
    "\r",
)


def seeds() -> list[str]:
    """Every example, every program of the specification, and every broken program of the tests."""
    texts = [p.read_text(encoding="utf-8") for p in sorted(ROOT.glob("examples/**/*.jam"))]
    texts += [p.read_text(encoding="utf-8") for p in sorted((ROOT / "tests/syntax/broken").glob("*.jam"))]
    for page in sorted(ROOT.glob("specs/**/*.md")):
        texts += _FENCED.findall(page.read_text(encoding="utf-8"))
    return texts


class Mutator:
    """Changes texts with material from the seeds. Deterministic in the random numbers it is given."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        self.words = sorted({w for t in texts for w in _PIECE.findall(t) if not w.isspace()}) + list(_ODD)
        self.lines = sorted({line for t in texts for line in t.splitlines() if line.strip()})

    def __call__(self, data: bytes, rng: random.Random, limit: int) -> bytes:
        """A changed input of at most `limit` bytes."""
        if rng.random() < 0.05:
            return _noise(data, rng)[:limit]
        text = data.decode("utf-8", "replace")
        for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
            change: Callable[[str, random.Random], str] = rng.choice(
                (self._token, self._token, self._line, self._swap, self._repeat, self._cut, self._splice)
            )
            text = change(text, rng)
        return text.encode("utf-8", "replace")[:limit]

    def _token(self, text: str, rng: random.Random) -> str:
        pieces = _PIECE.findall(text) or [""]
        at = rng.randrange(len(pieces))
        match rng.randrange(3):
            case 0:
                pieces[at] = ""
            case 1:
                pieces[at] = rng.choice(self.words)
            case _:
                pieces.insert(at, f" {rng.choice(self.words)} ")
        return "".join(pieces)

    def _line(self, text: str, rng: random.Random) -> str:
        lines = text.splitlines(keepends=True) or [""]
        at = rng.randrange(len(lines))
        if rng.random() < 0.5:
            lines[at] = ""
        else:
            lines.insert(at, rng.choice(self.lines) + "\n")
        return "".join(lines)

    def _swap(self, text: str, rng: random.Random) -> str:
        pieces = _PIECE.findall(text) or [""]
        one, two = rng.randrange(len(pieces)), rng.randrange(len(pieces))
        pieces[one], pieces[two] = pieces[two], pieces[one]
        return "".join(pieces)

    def _repeat(self, text: str, rng: random.Random) -> str:
        start = rng.randrange(len(text) + 1)
        part = text[start : start + rng.choice((1, 8, 80, 400))]
        return text[:start] + part * rng.choice((2, 3, 20)) + text[start:]

    def _cut(self, text: str, rng: random.Random) -> str:
        start = rng.randrange(len(text) + 1)
        return text[:start] + text[start + rng.choice((1, 5, 50, 500)) :]

    def _splice(self, text: str, rng: random.Random) -> str:
        other = rng.choice(self.texts)
        return text[: rng.randrange(len(text) + 1)] + other[rng.randrange(len(other) + 1) :]


def _noise(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data or b" ")
    for _ in range(rng.choice((1, 4, 32))):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def large(size: int, rng: random.Random) -> dict[str, bytes]:
    """Inputs of exactly `size` bytes, of the kinds that parsers are slow at."""
    texts = seeds()
    mutate = Mutator(texts)
    whole = "\n".join(texts)
    kinds = {
        "random bytes": rng.randbytes(size),
        "random printable": bytes(rng.randrange(32, 127) for _ in range(size)),
        "shuffled tokens": " ".join(rng.choice(mutate.words) for _ in range(size)).encode(),
        "shuffled lines": "\n".join(rng.choice(mutate.lines) for _ in range(size // 8)).encode(),
        "programs, one after another": whole.encode() * (size // len(whole) + 1),
        "one program, again and again": texts[0].encode() * (size // len(texts[0]) + 1),
        "one program, mutated": b"".join(mutate(texts[0].encode(), rng, size) for _ in range(size // 2000)),
    }
    for piece in ("{", "}", "(", "[", '"', '"""', "`", "\\", "-", "!", "a.", "a ? b : ", "1 + ", "when ", "state s { ",
                  "agent a { state b { ", "x: ", "-> a ", "list<", "// c\n", "\n", "é", "0"):  # fmt: skip
        kinds[f"{piece!r} again and again"] = piece.encode() * (size // len(piece.encode()) + 1)
    nested = "const a = " + "(" * (size // 2) + ")" * (size // 2)
    kinds["deep nesting, closed"] = nested.encode()
    return {name: data[:size] for name, data in kinds.items()}
