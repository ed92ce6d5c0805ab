"""A small chart: lines over linear axes as SVG, each named at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 70, 210, 50, 50
COLOURS = ("#1b6ca8", "#c8553d", "#4b8b3b", "#7a5195")

Line = Sequence[tuple[float, float]]


def chart(title: str, x_name: str, y_name: str, lines: Mapping[str, Line]) -> str:
    """The chart. Every line needs a point."""
    most_x = nice(max(x for line in lines.values() for x, _ in line))
    most_y = nice(max(y for line in lines.values() for _, y in line))
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        return LEFT + x / most_x * wide, HEIGHT - BOTTOM - y / most_y * high

    parts = [text(LEFT, 26, title, "start", 15, "bold"), text(LEFT + wide / 2, HEIGHT - 10, x_name, "middle")]
    parts.append(text(LEFT, TOP - 8, y_name, "end"))
    for n in range(6):
        x, y = at(most_x * n / 5, most_y * n / 5)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{LEFT + wide}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(text(LEFT - 8, y + 4, f"{most_y * n / 5:,g}", "end"))
        parts.append(text(x, HEIGHT - BOTTOM + 18, f"{most_x * n / 5:,g}", "middle"))
    ends: list[float] = []
    for (name, line), colour in zip(lines.items(), COLOURS, strict=False):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in line))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        x, y = at(*line[-1])
        while any(abs(y - other) < 16 for other in ends):
            y -= 16
        ends.append(y)
        parts.append(text(x + 8, y + 4, f"{name}: {line[-1][1]:,.1f}", "start", 12, "bold", colour))
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
        f' font-family="sans-serif">\n<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


def text(
    x: float, y: float, what: str, anchor: str, size: int = 12, weight: str = "normal", colour: str = "#333"
) -> str:
    """A piece of text."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}"'
        f' fill="{colour}">{escape(what)}</text>'
    )


def nice(value: float) -> float:
    """The end of an axis: the first round number that is not less."""
    unit = 1.0
    while unit * 10 < value:
        unit *= 10
    while unit > value > 0:
        unit /= 10
    return next(unit * step for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if unit * step >= value)
