"""Plots of results as plain SVG: bars of a case's contenders, lines over its settings, and promises against limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from benchmarks.results import CaseResult, Goal, Measure, figure, unique

WIDTH = 900
ROW, GAP = 20, 14
SIZE = 12
LETTER = 6.5
"""Width of a letter at most, on the average, px: labels are laid out without a font at hand."""

OURS, LIMIT, OTHER, MISSED, INK, GRID = "#1f5fbf", "#5c6670", "#a9b8c9", "#c2541b", "#1c2127", "#dfe4ea"
PALETTE = ("#8a5a9e", "#b5651d", "#2e8b6f", "#c0577e", "#7a7f2a", "#4a8fb3", "#9c4a3c", "#5b6bb0", "#6f8f3f")


@dataclass
class Drawing:
    """Elements, drawn in order, on a white ground: pages may be dark."""

    width: float
    height: float
    parts: list[str] = field(default_factory=list)

    def rect(self, x: float, y: float, width: float, height: float, fill: str) -> None:
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}"/>'
        )

    def line(
        self, x1: float, y1: float, x2: float, y2: float, stroke: str, width: float = 1, dash: str = ""
    ) -> None:
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{stroke}" '
            f'stroke-width="{width}"{dashed}/>'
        )

    def path(self, points: Sequence[tuple[float, float]], stroke: str, width: float, dash: str) -> None:
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        where = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(
            f'<polyline points="{where}" fill="none" stroke="{stroke}" stroke-width="{width}"{dashed}/>'
        )
        for x, y in points:
            self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{width + 1}" fill="{stroke}"/>')

    def text(
        self, x: float, y: float, text: str, fill: str = INK, anchor: str = "start", bold: bool = False
    ) -> None:
        weight = ' font-weight="bold"' if bold else ""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}" text-anchor="{anchor}"{weight}>{escape(text)}</text>'
        )

    def svg(self) -> str:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:.0f} {self.height:.0f}" '
            f'font-family="sans-serif" font-size="{SIZE}">'
        )
        ground = f'<rect width="{self.width:.0f}" height="{self.height:.0f}" fill="#ffffff"/>'
        return "\n".join([head, ground, *self.parts, "</svg>"]) + "\n"


@dataclass(frozen=True)
class Scale:
    """Values of [`low`, `high`] onto pixels from `start` to `stop`, by their logarithms."""

    low: float
    high: float
    start: float
    stop: float

    @classmethod
    def over(cls, values: Sequence[float], start: float, stop: float) -> Scale:
        """Whole decades, so that even the least value has some length."""
        low, high = min(values) * 0.7, max(values) * 1.05
        return cls(10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high)), start, stop)

    def __call__(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """The powers of ten."""
        return [10.0**k for k in range(round(math.log10(self.low)), round(math.log10(self.high)) + 1)]


def plot(case: CaseResult) -> str:
    """SVG of a case: lines where its settings are three or more numbers, else bars."""
    settings = unique(m.setting for m in case.measures)
    numbers = [number(s) for s in settings]
    if len(settings) >= 3 and None not in numbers:
        return lines(case, dict(zip(settings, [n for n in numbers if n is not None], strict=True)))
    return bars(case, settings)


def number(setting: str) -> float | None:
    """What a setting such as ``20 symbols`` counts."""
    word = setting.split()[0].replace(",", "")
    return float(word) if word.isdigit() else None


def bars(case: CaseResult, settings: Sequence[str]) -> str:
    """One bar a contender, by setting, on one logarithmic scale."""
    measures = [m for s in settings for m in case.measures if m.setting == s]
    left = max(len(m.name) for m in measures) * LETTER + 24
    height = 64 + len(measures) * ROW + len(settings) * (ROW + GAP)
    drawing = Drawing(WIDTH, height)
    scale = Scale.over([m.median for m in measures], left, WIDTH - 130)
    drawing.text(16, 24, f"{case.name}: {case.unit}, median (logarithmic)", bold=True)
    _grid(drawing, scale, 52, height - 12)
    y = 52.0
    for setting in settings:
        drawing.text(16, y + 14, setting, bold=True)
        y += ROW
        for measure in (m for m in measures if m.setting == setting):
            drawing.text(left - 8, y + 14, measure.name, anchor="end")
            drawing.rect(left, y + 3, scale(measure.median) - left, ROW - 6, colour(measure.name))
            drawing.text(scale(measure.median) + 6, y + 14, _told(case, measure))
            y += ROW
        y += GAP
    return drawing.svg()


def _told(case: CaseResult, measure: Measure) -> str:
    reference = [m for m in case.measures if (m.name, m.setting) == (case.reference, measure.setting)]
    if not reference or measure.name == case.reference:
        return figure(measure.median)
    return f"{figure(measure.median)} (×{figure(measure.median / reference[0].median)})"


def colour(name: str) -> str:
    """Blue what is ours, dark grey a limit, light what others do."""
    if name.startswith("the limit"):
        return LIMIT
    return OURS if name.startswith(("ours", "tick", "alpha_forge", "of it")) else OTHER


def lines(case: CaseResult, settings: dict[str, float]) -> str:
    """A line a contender over the settings, both scales logarithmic; its name stands at its end."""
    names = unique(m.name for m in case.measures)
    right = WIDTH - max(len(n) for n in names) * LETTER - 40
    top, bottom, left = 56.0, max(360.0, 72.0 + 17 * len(names)), 64.0
    drawing = Drawing(WIDTH, bottom + 44)
    drawing.text(16, 24, f"{case.name}: {case.unit}, median (both scales logarithmic)", bold=True)
    scale = Scale.over([m.median for m in case.measures], bottom, top)
    for tick in scale.ticks():
        drawing.line(left, scale(tick), right, scale(tick), GRID)
        drawing.text(left - 8, scale(tick) + 4, _short(tick), anchor="end")
    counts = sorted(settings.values())
    across = Scale(counts[0], counts[-1], left + 16, right - 12)
    for setting, count in settings.items():
        drawing.line(across(count), top, across(count), bottom, GRID)
        drawing.text(across(count), bottom + 20, setting, anchor="middle")
    others = iter(PALETTE * 3)
    ends: list[tuple[float, float, str, str]] = []
    for name in names:
        points = [(across(settings[m.setting]), scale(m.median)) for m in case.measures if m.name == name]
        kind = colour(name)
        main = name == case.reference
        stroke = next(others) if kind == OTHER else kind
        dash = "6 4" if kind == LIMIT or (kind == OURS and not main) else ""
        drawing.path(points, stroke, 3 if main else 1.5, dash)
        ends.append((*points[-1], name, stroke))
    _name_ends(drawing, ends, right + 10, top, bottom)
    return drawing.svg()


def _name_ends(
    drawing: Drawing, ends: list[tuple[float, float, str, str]], x: float, top: float, bottom: float
) -> None:
    """The names, moved apart so that none covers another, each tied to its line's end."""
    ordered = sorted(ends, key=lambda end: end[1])
    places = spread([end[1] for end in ordered], 16.0, top, bottom)
    for (at, y, name, stroke), place in zip(ordered, places, strict=True):
        drawing.line(at + 3, y, x - 3, place, stroke, 0.7)
        drawing.text(x, place + 4, name, fill=stroke)


def spread(wanted: Sequence[float], apart: float, low: float, high: float) -> list[float]:
    """Ascending places within [`low`, `high`], `apart` from each other, near the `wanted` ascending ones."""
    places: list[float] = []
    for place in wanted:
        places.append(max(place, low, places[-1] + apart if places else low))
    ceiling = high
    for k in reversed(range(len(places))):
        places[k] = min(places[k], ceiling)
        ceiling = places[k] - apart
    return places


def promises(goals: Sequence[tuple[str, Goal]]) -> str:
    """Each goal's value over its limit, on a logarithmic scale with a line at 1: what is left of it is kept.

    A mark stands at the least disturbed turn, where one tells something.
    """
    labels = [f"{case}: {goal.text}" for case, goal in goals]
    left = max(len(label) for label in labels) * LETTER + 24
    height = 70 + len(goals) * ROW
    drawing = Drawing(left + 330, height)
    drawing.text(
        16, 24, "measured ÷ limit of each promise (logarithmic): left of the line it holds", bold=True
    )
    scale = Scale.over([1.0, *(goal.value / goal.limit for _, goal in goals)], left, left + 250)
    _grid(drawing, scale, 52, height - 12)
    for k, ((_, goal), label) in enumerate(zip(goals, labels, strict=True)):
        y = 52 + k * ROW
        share = goal.value / goal.limit
        drawing.text(left - 8, y + 14, label, anchor="end")
        drawing.rect(left, y + 3, scale(share) - left, ROW - 6, OURS if goal.holds else MISSED)
        if goal.best:
            mark = scale(goal.best / goal.limit)
            drawing.line(mark, y + 1, mark, y + ROW - 1, INK, 2.5)
        drawing.text(left + 310, y + 14, figure(share), anchor="end")
    drawing.line(scale(1.0), 46, scale(1.0), height - 12, INK, 1.5)
    return drawing.svg()


def _grid(drawing: Drawing, scale: Scale, top: float, bottom: float) -> None:
    for tick in scale.ticks():
        drawing.line(scale(tick), top, scale(tick), bottom, GRID)
        drawing.text(scale(tick), top - 6, _short(tick), anchor="middle", fill=LIMIT)


def _short(tick: float) -> str:
    return f"{tick:,.0f}" if tick >= 1 else f"{tick:g}"
