"""Long and hostile runs of the whole runtime, against TA-Lib and pandas. ``make soak``; not part of ``make test``.

``SOAK_SEED`` (0) is the first seed, ``SOAK_SEEDS`` (30) and ``SOAK_LONG`` (3) how many short and long runs there are,
``SOAK_BARS`` (2,000) how long the latter; a failing seed is in the name of its test.
"""

from __future__ import annotations

import os
import statistics
from pathlib import Path

import numpy as np
import pytest

from tests.market_truth import cross_rank, features, resample
from tests.pipelines import COLUMNS, FEATURES, config
from tests.soak.soak_market import FIRST, HOUR, Hostility, Market
from tests.soak.soak_run import Run, compare, delivered, run, unsettled

pytestmark = pytest.mark.soak

FIRST_SEED = int(os.environ.get("SOAK_SEED", "0"))
SHORT_RUNS = int(os.environ.get("SOAK_SEEDS", "30"))
LONG_RUNS = int(os.environ.get("SOAK_LONG", "3"))
WARM = 620

RANK = """
- features: {using: features.cross_rank, inputs: {column: F.mom_20}, outputs: {columns: [rank]}}
"""

RESAMPLE = """
- transform: {using: transforms.resample, inputs: {frame: ohlcv}, outputs: {frame: ohlcv_4h}, params: {interval: 4h}}
- features: {using: features.momentum, inputs: {column: F.close}, outputs: {columns: [mom_20]}, params: {window: 20}}
- features: {using: features.zscore, inputs: {column: F.close}, outputs: {columns: [zscore_20]}, params: {window: 20}}
- features: {using: features.volume_ratio, inputs: {column: F.volume}, outputs: {columns: [volume_ratio20]}, params: {window: 20}}
- features: {using: features.ma_rocp, inputs: {column: F.close}, outputs: {columns: [ma5rocp]}, params: {window: 5, rocp_period: 1, rocp_factor: 10}}
"""


def truth(market: Market, columns: list[str]) -> dict[str, np.ndarray]:
    """(bars, symbols) of each column for the bars after the anchor, NaN elsewhere."""
    bars = market.warm + market.live
    found = {c: np.full((bars, len(market.names)), np.nan) for c in columns}
    for place in range(len(market.names)):
        values = features(market.frame_of(place))
        at = values.index.to_numpy() // HOUR - FIRST // HOUR - 1
        for column in columns:
            found[column][at, place] = values[column].to_numpy()
    for column in columns:
        found[column][: market.warm] = np.nan
    return found


def resampled_truth(market: Market, columns: list[str], step: int) -> dict[str, np.ndarray]:
    bars = market.warm + market.live
    last = FIRST + bars * HOUR
    rows = last // step - FIRST // step
    found = {c: np.full((rows, len(market.names)), np.nan) for c in columns}
    for place in range(len(market.names)):
        values = features(resample(market.frame_of(place), step))
        closes = values.index.to_numpy()
        keep = (closes > market.anchor) & (closes <= last)
        at = closes[keep] // step - FIRST // step - 1
        for column in columns:
            found[column][at, place] = values[column].to_numpy()[keep]
    return found


def excused(column: str, done: Run, market: Market) -> np.ndarray | None:
    return unsettled(market.present, done.settle[column]) if column in done.settle else None


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + SHORT_RUNS))
def test_a_hostile_stream_gives_the_truth(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    symbols, live = int(rng.choice([1, 2, 7, 40])), int(rng.integers(30, 200))
    market = Market(symbols, WARM, live, Hostility.draw(rng), rng)
    columns = [*COLUMNS, "rank"]
    text = config(market.names, tmp_path, columns, steps=FEATURES + RANK)
    done = run(text, market, rng, group=int(rng.choice([1, 5, 4 * symbols, 40 * symbols])), seconds=120)
    want = truth(market, COLUMNS)
    panel = {n: features(market.frame_of(k))["mom_20"] for k, n in enumerate(market.names)}
    ranks = cross_rank(panel).reindex(columns=market.names)
    want["rank"] = np.full((WARM + live, symbols), np.nan)
    want["rank"][ranks.index.to_numpy() // HOUR - FIRST // HOUR - 1] = ranks.to_numpy()
    want["rank"][:WARM] = np.nan
    for column in columns:
        got = delivered(tmp_path / f"{column}.csv", market.names, WARM + live)
        compare(column, got, want[column], excused(column, done, market))
    assert done.summary.bars == market.present[WARM:].sum()


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + max(1, SHORT_RUNS // 3)))
def test_a_hostile_stream_gives_the_truth_in_four_hours(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed + 1_000_000)
    symbols, live = int(rng.choice([1, 3, 20])), int(rng.integers(30, 200))
    market = Market(symbols, 240, live, Hostility.draw(rng), rng)
    columns = ["mom_20", "zscore_20", "volume_ratio20", "ma5rocp"]
    text = config(market.names, tmp_path, columns, steps=RESAMPLE, frame="ohlcv_4h")
    run(text, market, rng, group=int(rng.choice([1, 5, 4 * symbols])), seconds=120)
    want = resampled_truth(market, columns, 4 * HOUR)
    for column in columns:
        got = delivered(tmp_path / f"{column}.csv", market.names, len(want[column]), 4 * HOUR)
        compare(column, got, want[column])


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + LONG_RUNS))
def test_a_million_symbol_bars_with_memory_flat(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    live = int(os.environ.get("SOAK_BARS", "2000"))
    # Three times in a thousand each: of a million bars that is thousands of holes, repairs and repetitions.
    hostility = Hostility(0.003, 0.003, 0.02, 0.003, 0.01, 0.001, outages=40)
    market = Market(500, WARM, live, hostility, rng)
    columns = ["rsi_14", "mom_20", "atr_14"]
    text = config(market.names, tmp_path, columns)
    done = run(text, market, rng, group=1000, seconds=500)
    assert done.summary.bars == market.present[WARM:].sum(), f"seed {seed}"
    # The stream was as hostile as it should be.
    assert done.summary.repaired > 2 * live, f"seed {seed}"
    assert done.summary.absent > 1.2 * live, f"seed {seed}"
    want = truth(market, columns)
    for column in columns:
        got = delivered(tmp_path / f"{column}.csv", market.names, WARM + live)
        compare(column, got, want[column], excused(column, done, market))
    third = len(done.memory) // 3
    second, last = (
        statistics.median(part) for part in (done.memory[third : 2 * third], done.memory[2 * third :])
    )
    print(f"resident: {second / 2**20:.1f} MiB, then {last / 2**20:.1f} MiB")
    assert abs(last / second - 1) <= 0.05, (
        f"seed {seed}: {second / 2**20:.1f} MiB, then {last / 2**20:.1f} MiB"
    )
