"""Dimensions: the things that guards test, each cut into finitely many cells that no guard can tell apart inside.

A number is cut at every constant that it is compared with, a text into the constants that are mentioned and
"something else", a comparison of two terms into less, equal, greater. Within one cell every test of the
guards at hand has one answer, so a set of cells (a bit mask) stands exactly for the values that pass a test.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from jamjet_dsl.analysis.model import Type
from jamjet_dsl.money import amount_text

NUMBERS = frozenset({"int", "uint", "float", "decimal", "money", "duration"})
WHOLE = frozenset({"int", "uint"})
_MIRROR = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
SIGNS = {"<": (-1,), "<=": (-1, 0), "==": (0,), ">=": (0, 1), ">": (1,)}
"""For each operator the signs of `left - right` for which it holds."""
_INT_LOW, _INT_HIGH = Decimal(-(2**63)), Decimal(2**63 - 1)
_UINT_HIGH = Decimal(2**64 - 1)
_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"))
_FINEST = 30
"""How many decimals a witness may have beyond the step of its type."""


class Constant(NamedTuple):
    """A value known when the program is read.

    `kind` is number (int, decimal: a Decimal), float (a float), money (a Decimal with `currency`), duration (a
    Decimal of milliseconds), string (also a member of an enum), bool, null.
    """

    kind: str
    value: Decimal | float | str | bool | None = None
    currency: str = ""


def mirrored(op: str) -> str:
    """The operator that says the same with its sides swapped."""
    return _MIRROR.get(op, op)


def as_number(constant: Constant, kind: str) -> Decimal | None:
    """The constant as an exact number of a type, or None where the two do not compare.

    A float literal beside a decimal means the digits that are written, beside a float the nearest binary one.
    """
    value = constant.value
    match constant.kind:
        case "number" if kind not in ("money", "duration") and isinstance(value, Decimal):
            return value
        case "float" if kind not in ("money", "duration") and isinstance(value, float) and value - value == 0:
            return Decimal(value) if kind == "float" else Decimal(repr(value))
        case "money" | "duration" if kind == constant.kind and isinstance(value, Decimal):
            return value
        case _:
            return None


class Cell(NamedTuple):
    """Values that no test tells apart.

    `kind`: point (the number `low`), gap (between `low` and `high`, both left out; None is without end), value
    (the text `value`), other (any text that is not mentioned), absent, nan, less, equal, greater, unordered.
    """

    kind: str
    low: Decimal | None = None
    high: Decimal | None = None
    value: str = ""


class Dim:
    """One thing that guards test.

    `kind`: number, text (string or enum), truth (a boolean, or an expression that is not looked into), order (how
    two terms compare), thing (anything else: only whether it is there). `text` is how messages name it; for an
    order, `text` and `other` are the two terms. `simple`: it is a path or the size of one, so every cell of it
    can be met. `reads` are the paths it depends on. After `seal`, `full` has a bit for each cell and `declared`
    those that the declared type leaves.
    """

    __slots__ = (
        "_absent", "_below", "_equal", "_named", "_numeric", "cells", "currency", "cuts", "declared", "full", "high",
        "index", "kind", "low", "members", "names", "nullable", "other", "reads", "simple", "text", "type",
    )  # fmt: skip

    def __init__(self, index: int, kind: str, text: str, type_: Type, other: str = "") -> None:
        self.index = index
        self.kind = kind
        self.text = text
        self.other = other
        self.type = type_
        self.cuts: set[Decimal] = set()
        self.names: dict[str, None] = {}
        self.members: tuple[str, ...] | None = None
        self.low: Decimal | None = None
        self.high: Decimal | None = None
        self.currency = ""
        self.nullable = False
        self.simple = False
        self.reads: frozenset[str] = frozenset()
        self.cells: list[Cell] = []
        self._below: dict[Decimal, int] = {}
        self._equal: dict[Decimal, int] = {}
        self._named: dict[str, int] = {}
        self._numeric = 0
        self._absent = 0
        self.full = 0
        self.declared = 0

    # ---- cells

    def seal(self) -> None:
        """Cuts the dimension into cells, once every constant is known."""
        match self.kind:
            case "number":
                cells = self._number_cells()
            case "text":
                names = self.members if self.members is not None else tuple(self.names)
                cells = [Cell("value", value=name) for name in names]
                if self.members is None:
                    cells.append(Cell("other"))
            case "truth":
                cells = [Cell("value", value="true"), Cell("value", value="false")]
            case "order":
                cells = [Cell("less"), Cell("equal"), Cell("greater")]
                if self.type.kind in ("float", "any"):
                    cells.append(Cell("unordered"))
            case _:
                cells = [Cell("other")]
        self.full = (1 << len(cells)) - 1
        self.declared = self.full
        if self.kind == "number":
            self._index(cells)
            self.declared = self._within()
        self._named = {cell.value: at for at, cell in enumerate(cells) if cell.kind == "value"}
        if self.nullable:
            self._absent = 1 << len(cells)
            cells.append(Cell("absent"))
            self.full |= self._absent
            self.declared |= self._absent
        self.cells = cells

    def _number_cells(self) -> list[Cell]:
        whole = self.type.kind in WHOLE
        cuts = sorted(self.cuts | {b for b in (self.low, self.high) if b is not None})
        cells: list[Cell] = []
        before: Decimal | None = None
        for cut in [*cuts, None]:
            gap = Cell("gap", before, cut)
            if not whole or self._whole_ends(gap) is not None:
                cells.append(gap)
            if cut is not None and not (whole and cut != cut.to_integral_value()):
                cells.append(Cell("point", cut, cut))
            before = cut
        if self.type.kind == "float" and self.low is None and self.high is None:
            cells.append(Cell("nan"))
        return cells

    def _whole_ends(self, cell: Cell) -> tuple[Decimal, Decimal] | None:
        """The least and the greatest integer of a gap, or None where there is no integer between its ends."""
        floor, ceiling = (Decimal(0), _UINT_HIGH) if self.type.kind == "uint" else (_INT_LOW, _INT_HIGH)
        low = floor if cell.low is None else cell.low.to_integral_value("ROUND_FLOOR") + 1
        high = ceiling if cell.high is None else cell.high.to_integral_value("ROUND_CEILING") - 1
        low, high = max(low, floor), min(high, ceiling)
        return (low, high) if low <= high else None

    def _within(self) -> int:
        """The cells that lie in the declared range; one that is no number does."""
        mask = self.full
        if self.low is not None:
            mask &= ~self._below[self.low]
        if self.high is not None:
            mask &= self._below[self.high] | self._equal[self.high] | ~self._numeric
        return mask

    def _index(self, cells: list[Cell]) -> None:
        """For each cut the cells below it and the one at it: one pass over cells and cuts in order."""
        cuts = sorted(self.cuts | {b for b in (self.low, self.high) if b is not None})
        at = 0
        for cut in cuts:
            while at < len(cells) and cells[at].kind in ("point", "gap") and _sign(cells[at], cut) < 0:
                at += 1
            self._below[cut] = (1 << at) - 1
            here = at < len(cells) and cells[at].kind == "point" and cells[at].low == cut
            self._equal[cut] = 1 << at if here else 0
        numbers = sum(1 for cell in cells if cell.kind in ("point", "gap"))
        self._numeric = (1 << numbers) - 1

    def mask(self, op: str, value: Decimal | str) -> int:
        """The cells whose values pass a test. `op` is one of < <= == >= > (numbers), == (texts, truths), has, or for
        an order one of < <= == >= > between its terms."""
        if op == "has":
            return self.full & ~self._absent
        if isinstance(value, Decimal):
            below, equal = self._below[value], self._equal[value]
            above = self._numeric & ~below & ~equal
            return sum(part for part, sign in ((below, -1), (equal, 0), (above, 1)) if sign in SIGNS[op])
        if self.kind == "order":
            return sum(1 << at for at, sign in enumerate((-1, 0, 1)) if sign in SIGNS[op])
        return 1 << self._named[value] if value in self._named else 0

    # ---- words

    def describe(self, mask: int) -> str:
        """One value of the cells of `mask`, or a range of them, in the words of the program."""
        if self.kind == "number":
            run = self._first_run(mask)
            if run is not None:
                return self._describe_run(*run)
        for at, cell in enumerate(self.cells):
            if mask >> at & 1:
                return self._describe_cell(cell)
        return self.text

    def _first_run(self, mask: int) -> tuple[Cell, Cell] | None:
        """The first and the last of the first numeric cells of `mask` that adjoin each other."""
        first = last = None
        for at, cell in enumerate(self.cells):
            if mask >> at & 1 and cell.kind in ("point", "gap"):
                first, last = first or cell, cell
            elif first is not None:
                break
        return (first, last) if first is not None and last is not None else None

    def _describe_run(self, first: Cell, last: Cell) -> str:
        low, high = first.low, last.high
        low_open, high_open = first.kind == "gap", last.kind == "gap"
        if self.type.kind in WHOLE:
            low_int = _ends(self, first)[0]
            high_int = _ends(self, last)[1]
            if first.low is not None and last.high is not None and low_int < high_int:
                return f"{self.text} between {low_int:f} and {high_int:f}"
            return f"{self.text} = {low_int if first.low is not None else min(high_int, Decimal(0)):f}"
        return f"{self.text} = {self.show(_between(low, high, low_open, high_open, self._step()))}"

    def _step(self) -> Decimal:
        if self.type.kind == "money":
            places = amount_text(Decimal(1), self.currency).partition(".")[2]
            return Decimal(1).scaleb(-len(places))
        return Decimal(1)

    def _describe_cell(self, cell: Cell) -> str:
        match cell.kind:
            case "absent":
                return f"{self.text} not set"
            case "nan":
                return f"{self.text} = NaN"
            case "value" if self.kind == "truth":
                return f"{self.text} = {cell.value}" if self.simple else f"`{self.text}` being {cell.value}"
            case "value":
                return f"{self.text} = " + (cell.value if self.members is not None else quoted(cell.value))
            case "other" if self.kind == "text":
                named = ", ".join(map(quoted, self.names))
                return f"{self.text} other than {named}" if named else f"any {self.text}"
            case "less":
                return f"{self.text} < {self.other}"
            case "equal":
                return f"{self.text} == {self.other}"
            case "greater":
                return f"{self.text} > {self.other}"
            case "unordered":
                return f"{self.text} and {self.other} not comparable"
            case _:
                return f"{self.text} set"

    def show(self, number: Decimal) -> str:
        """A number of this dimension as a program writes it."""
        match self.type.kind:
            case "money":
                return show_money(number, self.currency)
            case "duration":
                return show_duration(number)
            case "float":
                return repr(float(number))
            case _:
                return f"{number:f}"

    def show_range(self) -> str:
        """The declared range in words; empty where there is none."""
        match self.low, self.high:
            case None, None:
                return ""
            case low, None if low is not None:
                return f"at least {self.show(low)}"
            case None, high if high is not None:
                return f"at most {self.show(high)}"
            case low, high:
                assert low is not None
                assert high is not None
                return f"from {self.show(low)} to {self.show(high)}"


def _ends(dim: Dim, cell: Cell) -> tuple[Decimal, Decimal]:
    if cell.kind == "point":
        assert cell.low is not None
        return cell.low, cell.low
    ends = dim._whole_ends(cell)
    assert ends is not None  # a gap without an integer is no cell
    return ends


def _sign(cell: Cell, number: Decimal) -> int:
    """How the values of a cell compare with a number that the dimension is cut at: -1, 0 or 1."""
    if cell.kind == "point":
        assert cell.low is not None
        return (cell.low > number) - (cell.low < number)
    return -1 if cell.high is not None and cell.high <= number else 1


def _between(low: Decimal | None, high: Decimal | None, low_open: bool, high_open: bool, step: Decimal) -> Decimal:
    """A number between two ends, as round as the step of its type allows."""
    if low is not None and not low_open:
        return low
    if high is not None and not high_open:
        return high
    if low is None and high is None:
        return Decimal(0)
    for _ in range(_FINEST):
        found = low + step if low is not None else _below(high, step)
        if (low is None or found > low) and (high is None or found < high):
            return found
        step = step.scaleb(-1)
    assert low is not None
    assert high is not None
    return (low + high) / 2


def _below(high: Decimal | None, step: Decimal) -> Decimal:
    assert high is not None
    return Decimal(0) if high > 0 else high - step


def show_money(amount: Decimal, currency: str) -> str:
    """Money as a program writes it: `$10_000.01`, `5 EUR`."""
    whole, _, part = amount_text(abs(amount), currency).partition(".")
    text = f"{int(whole):_}" if len(whole) > 4 else whole
    if part.strip("0"):
        text = f"{text}.{part}"
    sign = "-" if amount < 0 else ""
    return f"{sign}${text}" if currency in ("USD", "") else f"{sign}{text} {currency}"


def show_duration(milliseconds: Decimal) -> str:
    """A duration as a program writes it, in the largest unit that is exact."""
    if milliseconds == milliseconds.to_integral_value():
        whole = int(milliseconds)
        for size, unit in _UNITS:
            if whole and whole % size == 0:
                return f"{whole // size}{unit}"
        return f"{whole}ms"
    return f"{milliseconds:f}ms"


def quoted(text: str) -> str:
    """A text as a string literal."""
    body = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{body}"'


def disjoint(dims: Iterable[Dim]) -> bool:
    """Whether no two of the dimensions depend on the same value, so that each combination of cells can be met.

    A path beside a part of it (`move.call`, `move.call.tool`) is no dependence that matters: only whether the
    outer one is there was asked.
    """
    seen: set[str] = set()
    for dim in dims:
        if not dim.simple or not seen.isdisjoint(dim.reads):
            return False
        seen |= dim.reads
    return True
