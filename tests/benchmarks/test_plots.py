"""Plots: well-formed, every figure in them, and no label over another or out of the picture."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from benchmarks.plots import LETTER, SIZE, Scale, plot, promises, spread
from benchmarks.results import CaseResult, Goal, figure

SVG = "{http://www.w3.org/2000/svg}"
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "performance.md"


def boxes(svg: str) -> list[tuple[float, float, float, float, str]]:
    """(left, top, right, bottom, text) of each label, as wide as its letters may be."""
    found = []
    for node in ElementTree.fromstring(svg).iter(f"{SVG}text"):
        text, x, y = node.text or "", float(node.get("x")), float(node.get("y"))
        width = len(text) * LETTER * (1.0 if node.get("font-weight") != "bold" else 1.1)
        left = x - {"start": 0.0, "middle": width / 2, "end": width}[node.get("text-anchor")]
        found.append((left, y - SIZE * 0.8, left + width, y + SIZE * 0.2, text))
    return found


def check(svg: str) -> list[str]:
    """The labels, none over another, all inside."""
    root = ElementTree.fromstring(svg)
    _, _, width, height = (float(v) for v in root.get("viewBox").split())
    found = boxes(svg)
    for left, top, right, bottom, text in found:
        assert left >= 0, text
        assert right <= width, text
        assert top >= 0, text
        assert bottom <= height, text
    for one, other in itertools.combinations(found, 2):
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        assert apart, (one, other)
    return [text for *_, text in found]


def case(settings: list[str]) -> CaseResult:
    made = CaseResult("x", "a title", "µs", "ours, through the runtime")
    for k, setting in enumerate(settings):
        made.add("ours, through the runtime", setting, [0.3 * 3**k])
        made.add("the limit: <one> loop & nothing else", setting, [0.2 * 3**k])
        made.add("a peer", setting, [0.31 * 3**k])
        made.add("a slow peer", setting, [4000.0])
    return made


@pytest.mark.parametrize("settings", [["1m"], ["CSV", "SQLite"], ["1 symbol", "20 symbols", "500 symbols"]])
def test_a_plot_has_every_contender_and_no_label_over_another(settings):
    made = case(settings)
    labels = check(plot(made))
    for name in {m.name for m in made.measures}:
        assert labels.count(name) == (1 if len(settings) == 3 else len(settings))
    assert [s for s in settings if s in labels] == settings
    if len(settings) < 3:
        for measure in made.measures:
            assert any(label.split()[0] == figure(measure.median) for label in labels)


def test_the_document_has_its_plots_and_they_can_be_read():
    shown = re.findall(r"!\[[^\]]*\]\((performance/[^)]+\.svg)\)", DOCUMENT.read_text())
    kept = {f"performance/{path.name}" for path in DOCUMENT.with_suffix("").glob("*.svg")}
    assert set(shown) == kept
    assert len(shown) == len(kept) >= 10
    for name in shown:
        check((DOCUMENT.parent / name).read_text())


def test_promises_kept_and_broken_differ():
    def fills(value: float) -> set[str]:
        root = ElementTree.fromstring(promises([("x", Goal("≤ 2 s", value, 2.0))]))
        return {node.get("fill") for node in root.iter(f"{SVG}rect")}

    assert fills(1.0) != fills(3.0)


def test_a_scale_is_logarithmic_and_gives_the_least_value_a_length():
    scale = Scale.over([0.1, 90.0], 100.0, 400.0)
    assert scale(0.1) > 100.0
    assert scale(90.0) < 400.0
    assert scale(10.0) - scale(1.0) == pytest.approx(scale(1.0) - scale(0.1))
    assert scale.ticks()[0] == pytest.approx(scale.low)


def test_names_are_moved_apart_within_the_picture():
    places = spread([10, 11, 12, 50, 99, 99], 16.0, 0.0, 100.0)
    assert all(b - a >= 16.0 - 1e-9 for a, b in itertools.pairwise(places))
    assert places[0] >= 0.0
    assert places[-1] <= 100.0
