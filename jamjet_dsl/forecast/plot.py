"""A line chart of the odds of completing, by the budget of steps: SVG, written by hand."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from jamjet_dsl.forecast.results import COLUMNS, Forecast

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 64, 190, 48, 56
_COLOURS = {
    "as_written": "#1b6ca8",
    "without_retries": "#d1495b",
    "without_checkpoints": "#edae49",
    "without_both": "#6c757d",
}
_DASHES = {"as_written": "", "without_retries": "7 4", "without_checkpoints": "2 4", "without_both": "10 3 2 3"}
NAMES = {
    "as_written": "as written",
    "without_retries": "without retries",
    "without_checkpoints": "without checkpoints",
    "without_both": "without both",
}


def svg(found: Forecast) -> str:
    """The chart. A line that lies on another one is drawn over it with dashes, so that both are seen."""
    tables = found.budget
    last = max(max(table) for table in tables.values())
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(steps: float) -> float:
        return LEFT + wide * steps / last

    def y(odds: float) -> float:
        return TOP + high * (1.0 - odds)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
        ' font-family="Helvetica, Arial, sans-serif" font-size="12" fill="#222">',
        f"<title>{escape(found.defn.main)}: odds of completing by budget of steps</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="26" font-size="15" font-weight="bold">{escape(found.defn.main)}</text>',
    ]
    for tenth in range(0, 11, 2):
        at = y(tenth / 10)
        parts.append(f'<line x1="{LEFT}" y1="{at:.1f}" x2="{LEFT + wide}" y2="{at:.1f}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{tenth * 10} %</text>')
    for steps in ticks(last):
        parts.append(f'<text x="{x(steps):.1f}" y="{TOP + high + 18}" text-anchor="middle">{steps}</text>')
    parts += [
        f'<line x1="{LEFT}" y1="{TOP + high}" x2="{LEFT + wide}" y2="{TOP + high}" stroke="#222"/>',
        f'<text x="{LEFT + wide / 2:.1f}" y="{HEIGHT - 14}" text-anchor="middle">budget of steps</text>',
        f'<text x="18" y="{TOP + high / 2:.1f}" text-anchor="middle"'
        f' transform="rotate(-90 18 {TOP + high / 2:.1f})">odds of completing</text>',
    ]
    if found.declared_steps is not None and found.declared_steps <= last:
        at = x(found.declared_steps)
        parts.append(
            f'<line x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{TOP + high}" stroke="#999" stroke-dasharray="3 3"/>'
        )
        parts.append(f'<text x="{at:.1f}" y="{TOP - 6}" text-anchor="middle">steps {found.declared_steps}</text>')
    for number, name in enumerate(COLUMNS):
        dash = f' stroke-dasharray="{_DASHES[name]}"' if _DASHES[name] else ""
        stroke = f'stroke="{_COLOURS[name]}" stroke-width="2.2"{dash}'
        path = " ".join(_stairs(tables[name], last, x, y))
        parts.append(f'<path d="{path}" fill="none" {stroke}/>')
        at, right = TOP + 12 + 22 * number, LEFT + wide + 14
        odds = f"{100 * tables[name][max(tables[name])]:.1f} %"
        parts.append(f'<line x1="{right}" y1="{at}" x2="{right + 26}" y2="{at}" {stroke}/>')
        parts.append(f'<text x="{right + 32}" y="{at + 4}">{NAMES[name]}</text>')
        parts.append(f'<text x="{right + 32}" y="{at + 15}" font-size="9" fill="#666">{odds} at most</text>')
    return "\n".join([*parts, "</svg>", ""])


def _stairs(table: Mapping[int, float], last: int, x: object, y: object) -> list[str]:
    """The odds as stairs: they change at whole steps only."""
    assert callable(x)
    assert callable(y)
    found = [f"M{x(0):.1f} {y(0.0):.1f}"]
    before = 0.0
    for steps, odds in sorted(table.items()):
        if odds != before:
            found += [f"H{x(steps):.1f}", f"V{y(odds):.1f}"]
            before = odds
    return [*found, f"H{x(last):.1f}"]


def ticks(last: int) -> list[int]:
    """Round numbers of steps from 0 on, about eight of them."""
    width = next(w for e in range(12) for w in (10**e, 2 * 10**e, 5 * 10**e) if last / w <= 8)
    return list(range(0, last + 1, width))
