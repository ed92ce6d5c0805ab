"""What is wrong with the text before any grammar is asked: characters and tokens that belong to no program.

`clean` replaces each of them by what was most likely meant, so that the parser sees one error where there is one.
It runs over a whole program, but works only where something is wrong.
"""

from __future__ import annotations

import re

from jamjet_dsl.diagnostics.model import Diagnostic, Label
from jamjet_dsl.source import SourceFile, Span
from jamjet_dsl.syntax.lexer import BAD, Scan, Token, keywords

MAX_ERRORS = 50
"""How many syntax errors of one file are reported."""

_BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_MARKER = re.compile(r"^(<{7}|\|{7}|={7}|>{7})(?=[ \r\n]|\Z)[^\n]*", re.MULTILINE)
_CLUMP = re.compile(r"[\w`]+")

# Letters of other scripts that look like an ASCII letter in most fonts.
_LOOK_ALIKE = dict(
    zip(
        "аАВсСеЕНһіІјЈКМоОрРԛѕЅТуԝхХ" + "αΑΒΕΖΗΙιΚΜΝνοΟρΡΤΥΧ" + "ıɡᴏ",
        "aABcCeEHhiIjJKMoOpPqsSTywxX" + "aABEZHIiKMNvoOpPTYX" + "igo",
        strict=True,
    )
)
# Punctuation that word processors and keyboards put in place of the ASCII one: its token and its text.
_PUNCTUATION = {
    "→": ("ARROW", "->"),
    "⇒": ("ARROW", "->"),
    "≤": ("LE", "<="),
    "≥": ("GE", ">="),
    "≠": ("NE", "!="),
    "−": ("MINUS", "-"),
    "–": ("MINUS", "-"),
    "—": ("MINUS", "-"),
    "×": ("STAR", "*"),
    "÷": ("SLASH", "/"),
    "＝": ("EQUAL", "="),
    "，": ("COMMA", ","),
    "：": ("COLON", ":"),
    "（": ("LPAR", "("),
    "）": ("RPAR", ")"),
    "｛": ("LBRACE", "{"),
    "｝": ("RBRACE", "}"),
}
_OPENING_QUOTES = {"“": "”", "”": "”", "„": "“", "‘": "’", "’": "’", "«": "»"}
_SPACES = {"\u00a0": "a no-break space", "\u200b": "a zero-width space", "\ufeff": "a byte order mark"}
_UNITS = {
    "min": "m",
    "mins": "m",
    "minute": "m",
    "minutes": "m",
    "sec": "s",
    "secs": "s",
    "second": "s",
    "seconds": "s",
    "hr": "h",
    "hrs": "h",
    "hour": "h",
    "hours": "h",
    "day": "d",
    "days": "d",
    "msec": "ms",
    "millis": "ms",
    "S": "s",
    "H": "h",
    "D": "d",
    "MS": "ms",
}
_NAMING_KINDS = "RECORD ENUM TOOL AGENT MODEL FN CONST VAR STATE FINAL FAILED PARALLEL BRANCH AS DOT"
_BEFORE_NAMES = frozenset(_NAMING_KINDS.split())
_UNIT_MS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))


class Cleaned:
    """Tokens that the parser can use, and what was found. `cut` says that the rest of the text is unreadable, or that
    so much was found that more would not help."""

    def __init__(self, source: SourceFile, tokens: list[Token]) -> None:
        self.source = source
        self.tokens = tokens
        self.diagnostics: list[Diagnostic] = []
        self.cut = False

    def report(self, code: str, message: str, start: int, end: int, help: str = "", *labels: Label) -> None:
        """Add a finding; beyond the limit there is one last that says so."""
        if len(self.diagnostics) >= MAX_ERRORS:
            if len(self.diagnostics) == MAX_ERRORS:
                self.cut = True
                labels, code, help = (), "JAM001", "fix these first"
                message = f"more than {MAX_ERRORS} errors: the rest is not shown"
            else:
                return
        self.diagnostics.append(Diagnostic(code, message, Span(self.source, start, end), labels, help=help))


def clean(source: SourceFile, found: Scan) -> Cleaned:
    """The tokens of a scan without what no program has. Total work is linear in the text."""
    cleaned = Cleaned(source, found.tokens)
    if not source.text.isascii():
        for match in _BIDI.finditer(source.text):
            code = f"U+{ord(match.group()):04X}"
            cleaned.report(
                "JAM005",
                f"the invisible control {code} changes the direction in which text is shown",
                match.start(),
                match.end(),
                "delete it; in a string, write it as an escape",
            )
    if "<<<<<<<" in source.text:
        _conflicts(cleaned)
    if found.bad and any(token.kind == BAD for token in cleaned.tokens):
        cleaned.tokens = _Words(cleaned).run()
    return cleaned


def _conflicts(cleaned: Cleaned) -> None:
    """Report each merge conflict once and keep only its first side."""
    text = cleaned.source.text
    strings = [(t.start, t.end) for t in cleaned.tokens if t.kind == "STRING" and "\n" in t.text]
    drop: list[tuple[int, int]] = []
    opened: list[re.Match[str]] = []
    for match in _MARKER.finditer(text):
        if any(start < match.start() < end for start, end in strings):
            continue
        mark = match.group(1)[0]
        if mark == "<" and not opened:
            opened = [match]
        elif opened and mark in "|=":
            opened.append(match)
        elif opened and mark == ">":
            _conflict(cleaned, [*opened, match])
            drop += [opened[0].span(), (opened[1].start() if len(opened) > 1 else match.start(), match.end())]
            opened = []
    if opened:
        _conflict(cleaned, opened)
        drop += [match.span() for match in opened]
    at = 0
    kept = []
    for token in cleaned.tokens:
        while at < len(drop) and drop[at][1] <= token.start:
            at += 1
        if token.kind == "$END" or at == len(drop) or token.start < drop[at][0]:
            kept.append(token)
    cleaned.tokens = kept


def _conflict(cleaned: Cleaned, marks: list[re.Match[str]]) -> None:
    words = {"|": "their common ancestor begins here", "=": "the other side begins here", ">": "it ends here"}
    labels = [Label(Span(cleaned.source, *m.span()), words[m.group(1)[0]]) for m in marks[1:]]
    start, end = marks[0].span()
    cleaned.report(
        "JAM003",
        "a merge conflict was left in the program",
        start,
        end,
        "choose one side and delete the markers",
        *labels,
    )


class _Words:
    """One pass over the tokens that replaces the bad ones."""

    def __init__(self, cleaned: Cleaned) -> None:
        self.cleaned = cleaned
        self.text = cleaned.source.text
        self.made: list[Token] = []
        self.skip_to = 0

    def run(self) -> list[Token]:
        for token in self.cleaned.tokens:
            if token.kind == "$END":
                self.made.append(token)
            elif token.start < self.skip_to:
                continue
            elif token.kind == BAD:
                self._bad(token)
            else:
                self.made.append(token)
        return self.made

    def _put(self, kind: str, text: str, start: int, end: int) -> None:
        self.made.append(Token(kind, text, start, end))
        self.skip_to = max(self.skip_to, end)

    def _report(self, code: str, message: str, start: int, end: int, help: str = "", *labels: Label) -> None:
        self.cleaned.report(code, message, start, end, help, *labels)

    def _bad(self, token: Token) -> None:
        text, start, end = token.text, token.start, token.end
        first = text[0]
        line_end = self.text.find("\n", start)
        line_end = len(self.text) if line_end < 0 else line_end
        if first == "#":
            self._report("JAM001", "comments start with `//`", start, start + 1, "write `//` in place of `#`")
            self.skip_to = line_end
        elif first == "/" and len(text) > 1:
            self._report(
                "JAM001", "comments are `// …`, to the end of the line", start, start + 2, "write `//` on each line"
            )
            self.skip_to = end
        elif text.lstrip("bBrR")[:1] in ('"', "'"):
            self._unclosed(token)
        elif first in "0123456789" or (first == "$" and len(text) > 1):
            self._number(token)
        elif first == "`":
            self._report("JAM001", "a name in backticks is letters, digits and `_`", start, end)
            name = re.sub(r"\W", "", text, flags=re.ASCII) or "_"
            self._put("IDENT", name, start, end)
        elif first in _OPENING_QUOTES:
            self._quotes(token, line_end)
        elif ord(first) > 127:
            self._other_script(token)
        else:
            self._character(token)

    def _character(self, token: Token) -> None:
        first, start = token.text[0], token.start
        if first == ";":
            help = "remove it: the next keyword or `}` ends a clause"
            self._report("JAM001", "there are no semicolons in this language", start, start + 1, help)
        elif first in "&|":
            double = first * 2
            self._report("JAM001", f"`{first}` is not an operator", start, start + 1, f"write `{double}`")
            self._put("ANDAND" if first == "&" else "OROR", double, start, start + 1)
        else:
            shown = f"the character `{first}`" if first.isprintable() else f"the control character U+{ord(first):04X}"
            self._report("JAM001", f"{shown} has no meaning here", start, token.end, "remove it")

    def _unclosed(self, token: Token) -> None:
        start, end = token.start, token.end
        quote = token.text.lstrip("bBrR")[0]
        triple = token.text.lstrip("bBrR").startswith(quote * 3)
        mark = quote * 3 if triple else quote
        opening = Label(Span(self.cleaned.source, start, start + len(mark)), "opened here")
        if triple:
            self._report("JAM002", f"`{mark}` is never closed", start, start + 3, f"close it with `{mark}`", opening)
            self.cleaned.cut = True
        else:
            help = f"close it with `{mark}` on the same line, or use `{mark * 3}` for a text of several lines"
            self._report("JAM002", f"`{mark}` is never closed", start, end, help, opening)
        self._put("STRING", '""', start, end)

    def _quotes(self, token: Token, line_end: int) -> None:
        start = token.start
        closing = _OPENING_QUOTES[token.text[0]]
        stop = self.text.find(closing, start + 1, line_end)
        end = stop + 1 if stop >= 0 else line_end
        self._report("JAM001", "typographic quotes do not make a text", start, end, 'write straight quotes `"…"`')
        self._put("STRING", '""', start, end)

    def _other_script(self, token: Token) -> None:
        """Text beyond ASCII: part of a word, punctuation, an invisible space, or something else."""
        start, first = token.start, token.text[0]
        if first in _PUNCTUATION:
            kind, ascii_text = _PUNCTUATION[first]
            self._report("JAM001", f"`{first}` is not part of the language", start, start + 1, f"write `{ascii_text}`")
            self._put(kind, ascii_text, start, start + 1)
        elif first in _SPACES or first.isspace() or _BIDI.match(first):
            if not _BIDI.match(first):
                what = _SPACES.get(first, f"the space U+{ord(first):04X}")
                self._report("JAM005", f"{what} stands here", start, start + 1, "write an ordinary space")
        elif (first + "x").isidentifier() or ("x" + first).isidentifier():
            self._word(token)
        else:
            self._report("JAM001", f"the character `{first}` has no meaning here", start, start + 1, "remove it")

    def _word(self, token: Token) -> None:
        """A word with letters beyond ASCII: all of it is one name, whatever the scanner made of its parts."""
        start = token.start
        while self.made and self.made[-1].end == start and self.made[-1].text[-1:].isidentifier():
            start = self.made.pop().start
        match = _CLUMP.match(self.text, start)
        end = max(match.end() if match else token.end, token.start + 1)
        word = self.text[start:end]
        plain = "".join(_LOOK_ALIKE.get(c, c) for c in word)
        foreign = [c for c in word if ord(c) > 127]
        if plain.isascii():
            listed = ", ".join(f"U+{ord(c):04X} (looks like `{_LOOK_ALIKE[c]}`)" for c in dict.fromkeys(foreign[:3]))
            self._report("JAM005", f"`{word}` contains {listed}", start, end, f"write `{plain}` in ASCII letters")
        else:
            shown = ", ".join(f"`{c}` (U+{ord(c):04X})" for c in dict.fromkeys(foreign[:3]))
            self._report("JAM005", f"names are ASCII, and `{word}` contains {shown}", start, end, "use a-z, 0-9 and _")
            plain = re.sub(r"[^\x00-\x7f]", "_", word)
        self._put(keywords().get(plain, "IDENT"), plain, start, end)

    def _number(self, token: Token) -> None:
        text, start, end = token.text, token.start, token.end
        message, help = number_help(text)
        if self.made and self.made[-1].kind in _BEFORE_NAMES:
            message, help = f"`{text}` is not a name", "a name begins with a letter or `_`"
        self._report("JAM004", message, start, end, help)
        self._put("BADNUM", text, start, end)


def number_help(text: str) -> tuple[str, str]:
    """What is wrong with a clump of digits and letters, and what to write in its place."""
    if text.startswith("$"):
        return f"`{text}` is not an amount of money", "write digits after the `$`, as in `$1_000.50`"
    parts = re.fullmatch(r"([0-9][0-9_]*(?:\.[0-9]+)?)([A-Za-z_]+)", text)
    if re.fullmatch(r"(?:[0-9]+(?:ms|s|m|h|d))+", text):
        units = dict(_UNIT_MS)
        total = sum(int(n[:15]) * units[u] for n, u in re.findall(r"([0-9]+)(ms|s|m|h|d)", text))
        return f"`{text}` mixes units", f"a duration has one unit: write `{_in_one_unit(total)}`"
    if parts:
        number, unit = parts[1].replace("_", ""), parts[2]
        unit = _UNITS.get(unit, unit)
        factor = dict(_UNIT_MS).get(unit)
        if factor is not None:
            whole, _, rest = number[:15].partition(".")
            total = int(whole) * factor + (int(rest) * factor // 10 ** len(rest) if rest else 0)
            if parts[2] == unit:
                return f"a duration is a whole number, unlike `{text}`", f"write `{_in_one_unit(total)}`"
            return f"there is no unit `{parts[2]}`", f"write `{_in_one_unit(total)}`: units are ms, s, m, h, d"
        if unit in ("K", "k", "m", "M"):
            return f"`{text}` is not a number", "counts end in `k` or `M`, without a fraction: `20k`, `1M`"
        if len(unit) == 3 and unit.isupper():
            return f"`{text}` needs a space before the currency", f"write `{parts[1]} {unit}`"
        return f"there is no unit `{unit}`", "units are ms, s, m, h, d for durations and k, M for counts"
    return f"`{text}` is not a number", "a name does not start with a digit, and a number does not touch letters"


def _in_one_unit(total_ms: int) -> str:
    for unit, factor in _UNIT_MS:
        if total_ms and total_ms % factor == 0:
            return f"{total_ms // factor}{unit}"
    return f"{total_ms}ms"
