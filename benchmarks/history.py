"""F12 over a year of minutes, 20 symbols: whole arrays, beside what others do with the same bars in memory."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.feature_peers import CLOSE, HIGH, LOW, by_talib
from benchmarks.feature_stage import SELDOM
from benchmarks.history_peers import OUTSIDE, WAYS, samples
from benchmarks.market import Float, random_bars
from benchmarks.peers import installed, once
from benchmarks.results import CaseResult, Goal
from benchmarks.timing import median

OURS = "ours: the graph over whole arrays, in chunks"
REPLAY = "ours: all of replay, from a source to a Parquet file"
SYMBOLS, ROWS = 20, 525_600
PAST = 2000
"""Bars before a sampled one that TA-Lib gets: windows need 60, and Wilder's average has forgotten what was before."""

SLOW = 10.0
"""Seconds; a way that takes longer has one turn."""


def run(*, quick: bool) -> CaseResult:
    """Seconds, and each way's peak memory; each turn is a process of its own, timed from bars in memory."""
    rows = 20_000 if quick else ROWS
    setting = f"{SYMBOLS} × {rows:,}"
    result = CaseResult(
        "history", f"F12 over {rows:,} bars of each of {SYMBOLS} symbols: every row of it", "s", OURS
    )
    ways = [name for name in WAYS if installed() or name not in OUTSIDE]
    seconds: dict[str, list[float]] = {name: [] for name in (OURS, REPLAY, *ways)}
    peaks: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bars = random_bars(SYMBOLS, rows)
        np.save(folder / "bars.npy", bars.values)
        want = _truth(bars.of_symbol(HIGH), bars.of_symbol(LOW), bars.of_symbol(CLOSE))
        del bars
        for _ in range(1 if quick else 3):
            for way in seconds:
                if seconds[way] and seconds[way][0] > SLOW:
                    continue
                told = _turn(way, folder)
                if not seconds[way]:
                    _compare(result, way, setting, np.load(folder / "found.npy"), want)
                seconds[way].append(told["seconds"])
                peaks[way] = max(peaks.get(way, 0.0), told["peak"] / 1e9)
    for way, found in seconds.items():
        result.add(way, setting, found)
    if not quick:
        result.goals.append(Goal("the graph ≤ 1.5 s", median(seconds[OURS]), 1.5, min(seconds[OURS])))
    result.goals.append(Goal("all of replay: peak memory ≤ 2 GB", peaks[REPLAY], 2.0))
    told_peaks = ", ".join(f"{way} {peak:.2f}" for way, peak in peaks.items())
    result.notes.append(f"peak memory of the process in GB, the bars among it: {told_peaks}")
    result.notes.append(
        "all but ours and the fused loop hold a symbol's columns, groupby and polars everyone's; "
        "one turn of what takes over ten seconds"
    )
    if not installed():
        result.notes.append("polars was left out: `make bench-peers` installs it")
    return result


def _turn(way: str, folder: Path) -> dict[str, float]:
    """One turn in a process of its own; its sampled values lie in ``found.npy`` then."""
    arguments = (folder / "bars.npy", folder / "found.npy")
    if way in (OURS, REPLAY):
        told: dict[str, float] = once("history_ours", "graph" if way == OURS else "replay", *arguments)
    else:
        told = once("history_peers", way, *arguments, outside=way in OUTSIDE)
    return told


def _truth(high: Float, low: Float, close: Float) -> Float:
    """(14, samples, symbols) by TA-Lib, each sample from the bars before it alone: its running sums drift in a year."""
    rows = samples(close.shape[1])
    found = np.empty((14, len(rows), len(close)))
    for s in range(len(close)):
        for k, row in enumerate(rows):
            part = slice(max(0, row + 1 - PAST), row + 1)
            columns = by_talib(*(np.ascontiguousarray(c[s, part]) for c in (close, high, low)))
            found[:, k, s] = [c[-1] for c in columns]
    return found


def _compare(result: CaseResult, way: str, setting: str, got: Float, want: Float) -> None:
    floor = 1e-3 * want.std(axis=1)[:, None]
    off = (np.abs(got - want) / np.maximum(np.abs(want), floor)).max(axis=(1, 2))
    # Means and deviations by running sums, as most do it, drift with the rows that were before.
    limit = 1e-9 if way in (OURS, REPLAY) else 1e-6
    result.agree(f"{way}, windows", setting, float(np.delete(off, (2, 3, 4)).max()), limit)
    result.agree(f"{way}, RSI", setting, float(off[2:5].max()), SELDOM)
