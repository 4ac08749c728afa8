"""Warm-up of 500 symbols × 1,188 bars by the engine, from bars in memory: seconds, and the process's peak memory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from alpha_forge.runtime.engine import Engine
from alpha_forge.runtime.progress import Silent
from alpha_forge.runtime.warmup import History, WarmupProcessor
from alpha_forge_sdk import kernels
from benchmarks.feature_peers import CLOSE, HIGH, LOW, truth
from benchmarks.graphs import COLUMNS, FRAME, compiled, f12_config
from benchmarks.history_peers import peak_bytes
from benchmarks.market import Bars, close_of, random_bars
from benchmarks.results import CaseResult, Goal

SYMBOLS = 500
BARS = 1188
OURS = "ours: every bar through the graph"
TALIB = "TA-Lib, symbol by symbol over the whole past"
LIMIT = "the limit: kernels over the whole past at once"


def run(*, quick: bool) -> CaseResult:
    """Seconds; each round is a process of its own, compiled code cached."""
    result = CaseResult(
        "warmup", f"{SYMBOLS} symbols × {BARS:,} bars through F12, without any network", "s", OURS
    )
    rounds: list[dict[str, float]] = []
    for _ in range(1 if quick else 5):
        answer = subprocess.run(
            [sys.executable, "-m", "benchmarks.warmup"],
            cwd=Path(__file__).resolve().parents[1],
            check=True,
            capture_output=True,
            text=True,
        )
        rounds.append(json.loads(answer.stdout))
    result.agree("all columns after the last bar", f"{SYMBOLS} symbols", rounds[0]["off"], 1e-8)
    for name in (OURS, TALIB, LIMIT):
        result.add(name, f"{SYMBOLS} symbols", [r[name] for r in rounds])
    peak = max(r["peak"] for r in rounds)
    result.goals.append(Goal("the engine's part ≤ 6 s", result.of(OURS, f"{SYMBOLS} symbols").median, 6.0))
    result.goals.append(Goal("peak memory ≤ 1.5 GB", peak / 1e9, 1.5))
    result.notes.append("the peak is that of a whole process: Python, numba, the bars, the frames")
    return result


def _child() -> dict[str, float]:
    bars = random_bars(SYMBOLS, BARS)
    _, dag = compiled(f12_config(SYMBOLS))
    # Compiled code is loaded before the clock runs.
    _warm(dag, Bars(bars.values[:70]))
    start = time.perf_counter()
    engine = _warm(dag, bars)
    seconds = {OURS: time.perf_counter() - start}
    peak = peak_bytes()
    start = time.perf_counter()
    want = truth(bars, range(SYMBOLS))
    seconds[TALIB] = time.perf_counter() - start
    start = time.perf_counter()
    _kernels(bars)
    seconds[LIMIT] = time.perf_counter() - start
    frame = engine.frames[FRAME]
    row = frame.interval.row(close_of(BARS - 1))
    got = np.stack([frame.values(c, row, frame.everyone) for c in COLUMNS])
    floor = 1e-3 * np.nanstd(want, axis=1)
    off = np.abs(got - want[:, -1]) / np.maximum(np.abs(want[:, -1]), floor)
    return {**seconds, "peak": float(peak), "off": float(off.max())}


def _warm(dag, bars: Bars) -> Engine:  # type: ignore[no-untyped-def]
    engine = Engine(dag)
    first = dag.frames[FRAME].interval.row(close_of(0))
    history = History(first, np.ascontiguousarray(bars.values.transpose(1, 0, 2)))
    WarmupProcessor(dag, engine, Silent()).run({FRAME: history})
    return engine


def _kernels(bars: Bars) -> None:
    high, low, close = (bars.column(k) for k in (HIGH, LOW, CLOSE))
    for w in (20, 60):
        kernels.rate_of_change(close, w)
        kernels.level_distances(high, low, close, w)
    for w in (6, 12, 24):
        n = bars.symbols
        kernels.rsi(close, w, np.zeros(n, np.int64), np.zeros(n), np.zeros(n), np.zeros(n))
    for w in (5, 10, 20, 60):
        kernels.mean_rate_of_change(close, w, 1, 10.0)
    kernels.rolling_return_std(close, 20, 1)


if __name__ == "__main__":
    print(json.dumps(_child()))
