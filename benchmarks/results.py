"""What a benchmark found, as values: for the terminal, ``results.json`` and the tables of ``docs/performance.md``."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.timing import median, percentile

START = "<!-- bench:start -->"
END = "<!-- bench:end -->"


class Disagreement(AssertionError):
    """Two ways to the same figure differ: what they cost doesn't matter then."""


@dataclass(frozen=True)
class Measure:
    """One contender at one setting, in the case's unit. ``best`` is the least disturbed sample."""

    name: str
    setting: str
    median: float
    best: float
    p99: float
    samples: int


@dataclass(frozen=True)
class Agreement:
    """Largest difference from the reference: relative, floor 1e-3 of each column's standard deviation."""

    name: str
    setting: str
    worst: float
    limit: float


@dataclass(frozen=True)
class Goal:
    """A promise, what was measured, and whether it holds."""

    text: str
    value: float
    limit: float
    best: float | None = None
    """The same of the least disturbed sample, where that tells something."""

    @property
    def holds(self) -> bool:
        return self.value <= self.limit

    def line(self) -> str:
        best = f" (least disturbed: {figure(self.best)})" if self.best is not None else ""
        return f"- {'holds' if self.holds else '**does not hold**'}: {self.text}: {figure(self.value)}{best}"


@dataclass
class CaseResult:
    """``reference`` names the contender that all ratios are taken against."""

    name: str
    title: str
    unit: str
    reference: str
    measures: list[Measure] = field(default_factory=list)
    agreements: list[Agreement] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    load: float = 0.0
    """Processes that wanted a core in the minute before it began, by the machine's own count."""

    def add(self, name: str, setting: str, seconds: Sequence[float], scale: float = 1.0) -> Measure:
        """Keep the samples of one contender; `scale` turns seconds into the unit."""
        values = [s * scale for s in seconds]
        measure = Measure(name, setting, median(values), min(values), percentile(values, 0.99), len(values))
        self.measures.append(measure)
        return measure

    def agree(self, name: str, setting: str, worst: float, limit: float) -> None:
        """Note an agreement. Raises Disagreement beyond `limit` (and for NaN)."""
        if not worst <= limit:
            raise Disagreement(f"{self.name}, {setting}: {name} is {worst:.3g} off, more than {limit:g}")
        self.agreements.append(Agreement(name, setting, worst, limit))

    def of(self, name: str, setting: str) -> Measure:
        """The measure of a contender. Raises StopIteration if there is none."""
        return next(m for m in self.measures if (m.name, m.setting) == (name, setting))

    def table(self) -> list[str]:
        """Markdown: a row a contender, a column a setting; median, and its ratio to the reference."""
        settings = unique(m.setting for m in self.measures)
        names = unique(m.name for m in self.measures)
        lines = [f"| {self.unit} | " + " | ".join(settings) + " |", "| --- |" + " ---: |" * len(settings)]
        for name in names:
            cells = [self._cell(name, setting) for setting in settings]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        return lines

    def _cell(self, name: str, setting: str) -> str:
        found = {m.name: m for m in self.measures if m.setting == setting}
        if name not in found:
            return ""
        text = figure(found[name].median)
        if self.reference not in found or name == self.reference:
            return text
        return f"{text} (×{figure(found[name].median / found[self.reference].median)})"

    def _widest(self) -> str:
        worst = max(self.agreements, key=_share)
        if not worst.limit:
            return f"{len(self.agreements)} comparisons, all to the bit"
        return (
            f"{len(self.agreements)} comparisons, the widest {worst.worst:.1e} of {worst.limit:g} allowed "
            f"({worst.name}, {worst.setting})"
        )

    def markdown(self) -> list[str]:
        lines = [f"### `{self.name}`: {self.title}", "", *self.table(), ""]
        lines += [goal.line() for goal in self.goals]
        if self.agreements:
            lines.append(f"- answers agree: {self._widest()}")
        return [*lines, *(f"- {note}" for note in self.notes), f"- load before it began: {self.load:.1f}", ""]


def _share(agreement: Agreement) -> float:
    """How much of what is allowed is used."""
    return agreement.worst / agreement.limit if agreement.limit else 0.0


def unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def figure(value: float) -> str:
    """Three digits that count, thousands apart: ``0.0234``, ``1.25``, ``38.1``, ``1,400``."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def machine() -> dict[str, Any]:
    """What the figures depend on most."""
    packages = ("alpha-forge", "numba", "numpy", "pandas", "TA-Lib", "torch")
    return {
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
    }


def merge(path: Path, results: Sequence[CaseResult]) -> dict[str, Any]:
    """Put results into the JSON file, beside those of other cases; returns its content."""
    content: dict[str, Any] = {"machine": {}, "cases": {}}
    if path.is_file():
        content = json.loads(path.read_text())
    content["machine"] = machine()
    content["cases"].update({r.name: asdict(r) for r in results})
    path.write_text(json.dumps(content, indent=1) + "\n")
    return content


def read_case(stored: dict[str, Any]) -> CaseResult:
    """A case as `merge` stored it."""
    lists: dict[str, Any] = {"measures": Measure, "agreements": Agreement, "goals": Goal}
    values: dict[str, Any] = {
        k: [lists[k](**item) for item in v] if k in lists else v for k, v in stored.items()
    }
    return CaseResult(**values)


def write_tables(path: Path, content: dict[str, Any], order: Sequence[str]) -> None:
    """Replace what stands between the markers of a document by the tables of all stored cases.

    Their plots go into a folder beside the document, of its name without the ending.
    """
    from benchmarks.plots import plot, promises

    text = path.read_text()
    before, rest = text.split(START)
    after = rest.split(END)[1]
    about = content["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in about["packages"].items())
    lines = [f"{about['cores']} cores, {about['architecture']}, Python {about['python']}, {versions}.", ""]
    cases = [read_case(content["cases"][name]) for name in order if name in content["cases"]]
    load = max((case.load for case in cases), default=0.0)
    if load > about["cores"]:
        lines += [
            f"**The machine was busy with other work while these were measured** (load up to {load:.0f} on "
            f"{about['cores']} cores): medians tell more of that than of what is compared. Look at ratios and at the "
            "least disturbed turns, or measure again.",
            "",
        ]
    plots = path.with_suffix("")
    plots.mkdir(exist_ok=True)
    goals = [(case.name, goal) for case in cases for goal in case.goals]
    if goals:
        (plots / "promises.svg").write_text(promises(goals))
        kept = sum(goal.holds for _, goal in goals)
        lines += [f"{kept} of {len(goals)} promises hold.", "", _image(path, "promises", "promises"), ""]
    for case in cases:
        (plots / f"{case.name}.svg").write_text(plot(case))
        lines += [*case.markdown(), _image(path, case.name, case.title), ""]
    path.write_text(before + START + "\n" + "\n".join(lines) + END + after)


def _image(document: Path, name: str, alternative: str) -> str:
    return f"![{alternative}]({document.stem}/{name}.svg)"
