"""The steps of ``make demo``, as the command line runs them, in an empty folder."""

from __future__ import annotations

import csv
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.results import CaseResult, Goal

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "08_signal_generation" / "minimal_signal_generation.yaml"
TRAIN = "alpha_forge train, a year of 2 symbols"
SIGNAL = "alpha_forge signal, 36 bars at 2 a second"
IDEAL = "the limit of signal: 36 bars at that speed"
BARS = 36


def run(*, quick: bool) -> CaseResult:
    """Seconds; once each, since both do the same whenever they run."""
    del quick
    result = CaseResult("demo", "the steps of `make demo`, installation left out", "s", TRAIN)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train = _run(folder, "train", str(EXAMPLE), "--sandbox")
        signal = _run(folder, "signal", str(EXAMPLE), "--sandbox", "--speed", "7200", "--bars", str(BARS))
        with (folder / "outputs" / "predictions" / "minimal_predictions.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    keys = {(row["ts"], row["symbol"]) for row in rows}
    wrong = abs(len(keys) - 2 * BARS) + sum(not math.isfinite(float(row["prediction"])) for row in rows)
    result.agree("rows missing, doubled or not finite", "once", float(wrong + len(rows) - len(keys)), 0.0)
    result.add(TRAIN, "once", [train])
    result.add(SIGNAL, "once", [signal])
    result.add(IDEAL, "once", [BARS * 3600 / 7200])
    result.goals.append(Goal("both steps ≤ 5 minutes; s", train + signal, 300.0))
    return result


def _run(folder: Path, *arguments: str) -> float:
    start = time.perf_counter()
    command = [sys.executable, "-m", "alpha_forge", *arguments, "--quiet"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start
