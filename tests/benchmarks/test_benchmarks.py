"""The benchmarks run, agree before they time, and write what they promise. No time is asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks.__main__ import CASES, DOCUMENT
from benchmarks.feature_stage import LIMIT, OURS
from benchmarks.timing import in_turn, percentile

from benchmarks import results

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    path = tmp_path_factory.mktemp("benchmarks") / "results.json"
    before = DOCUMENT.read_text()
    command = [sys.executable, "-m", "benchmarks", "feature_stage", "--quick", "--results", str(path)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": ""}
    )
    assert done.returncode == 0, done.stderr
    assert DOCUMENT.read_text() == before
    return done.stdout, json.loads(path.read_text())


def test_all_contenders_agree_with_talib_before_they_are_timed(quick):
    _, content = quick
    found = content["cases"]["feature_stage"]["agreements"]
    assert {a["name"] for a in found} >= {
        f"{name}, {kind}" for name in (OURS, LIMIT) for kind in ("windows", "RSI")
    }
    for agreement in found:
        assert agreement["worst"] <= agreement["limit"] <= (1e-8 if "RSI" in agreement["name"] else 1e-9)


def test_results_have_their_shape(quick):
    text, content = quick
    case = content["cases"]["feature_stage"]
    assert {"cores", "python", "packages", "architecture"} <= set(content["machine"])
    assert case["reference"] == OURS
    for measure in case["measures"]:
        assert set(measure) == {"name", "setting", "median", "best", "p99", "samples"}
        assert 0 < measure["best"] <= measure["median"] <= measure["p99"]
    assert {m["setting"] for m in case["measures"]} == {"1 symbol", "20 symbols"}
    assert text.count("\n| ") == 1 + len({m["name"] for m in case["measures"]}) + 1
    assert results.read_case(case).markdown() == text.splitlines()[: len(results.read_case(case).markdown())]


def test_every_case_has_a_module():
    for name in CASES:
        assert (ROOT / "benchmarks" / f"{name}.py").is_file()


def test_a_wrong_answer_is_never_timed():
    case = results.CaseResult("x", "", "s", "ours")
    for worst in (1e-8, np.nan):
        with pytest.raises(results.Disagreement, match="ours"):
            case.agree("ours", "1 symbol", worst, 1e-9)


def test_contenders_take_turns():
    order = []

    def turn(name):
        return lambda: order.append(name) or 1.0

    found = in_turn({name: turn(name) for name in "abc"}, rounds=2, warm=1)
    assert "".join(order) == "cabab" + "cbca"
    assert found == {name: [1.0, 1.0] for name in "abc"}
    assert percentile([3.0, 1.0, 2.0], 0.99) == 3.0


def test_tables_replace_only_what_stands_between_the_markers(tmp_path):
    document = tmp_path / "performance.md"
    document.write_text(f"before\n{results.START}\nold\n{results.END}\nafter\n")
    case = results.CaseResult("x", "title", "ms", "ours")
    case.add("ours", "now", [0.001, 0.002, 0.003], 1e3)
    case.add("peer", "now", [0.004], 1e3)
    content = results.merge(tmp_path / "results.json", [case])
    results.write_tables(document, content, ["x"])
    text = document.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| peer | 4.00 (×2.00) |" in text
    assert "![title](performance/x.svg)" in text
    assert (tmp_path / "performance" / "x.svg").read_text().startswith("<svg ")
    assert "busy" not in text


def test_figures_of_a_busy_machine_say_so(tmp_path):
    document = tmp_path / "performance.md"
    document.write_text(f"{results.START}\n{results.END}\n")
    case = results.CaseResult("x", "title", "ms", "ours", load=1000.0)
    case.add("ours", "now", [0.001], 1e3)
    results.write_tables(document, results.merge(tmp_path / "results.json", [case]), ["x"])
    assert "load up to 1000" in document.read_text()
    assert "- load before it began: 1000.0" in document.read_text()
