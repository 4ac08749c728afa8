"""Frames made of frames, while they stream: buckets with holes, joins as of a bar, whatever the arrival. Truth by pandas."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alpha_forge.runtime.runner import RealTimeRunner, RunSummary
from tests.fake_source import ScriptedSource, VirtualClock
from tests.market_truth import HOUR, features, random_market, resample, worst
from tests.pipelines import arrivals_of, compiled, config, delayed, read_column, run_scripted, shuffled

QUARTER = HOUR // 4
NS = {"15m": QUARTER, "1h": HOUR, "2h": 2 * HOUR, "1d": 24 * HOUR}
BAR = ("open", "high", "low", "close", "volume")

# A mean over one bar is the bar: how a frame's own columns are seen.
SHOWN = "\n".join(
    f"- features: {{using: features.sma, inputs: {{column: F.{c}}}, outputs: {{columns: [{c}_now]}}, params: {{window: 1}}}}"
    for c in BAR
)
MEAN = "\n- features: {using: features.ma_rocp, inputs: {column: F.close}, outputs: {columns: [ma5rocp]}, params: {window: 5, rocp_factor: 10}}\n"
# Nobody reads it: it has the warm-up fetch more, so that whole buckets may be missing of it.
LONGER = "- features: {using: features.sma, inputs: {column: F.close}, outputs: {columns: [unread]}, params: {window: 12}}\n"
RSI = "- features: {using: features.rsi, inputs: {column: F.close}, outputs: {columns: [rsi_14]}, params: {window: 14}}\n"


def arrange(arrivals, how: str, market):
    size = len(market)
    if how == "in order":
        return arrivals
    if how == "shuffled":
        return shuffled(arrivals, seed=5, block=max(3, size * 5))
    assert how == "one late"
    return delayed(arrivals, next(iter(market)), size * 4)


def holed(market: dict[str, pd.DataFrame], step: int, target: int, anchor: int) -> dict[str, pd.DataFrame]:
    """Bars gone: one within a bucket, one at a bucket's end, a whole bucket, a bar of all symbols at a bucket's end,
    a whole bucket of all symbols; in the past and in the stream; and the very last bar of the last symbol."""
    ratio = target // step
    first = -(-anchor // target) * target  # end of the bucket that the anchor is in
    everybody: set[int] = set()
    one: list[set[int]] = [set() for _ in market]
    for base in (first - 4 * target, first + target):
        everybody |= {base, *(base + 2 * target - k * step for k in range(ratio))}
        one[0].add(base - step)
        one[len(market) // 2].add(base + target)
        one[-1] |= {base + 3 * target - k * step for k in range(ratio)}
    one[-1].add(max(int(b.index[-1]) for b in market.values()))
    return {
        name: bars[~bars.index.isin(list(everybody | gone))]
        for (name, bars), gone in zip(market.items(), one, strict=True)
    }


def check(out: Path, column: str, want: dict[str, pd.Series], tolerance: float = 1e-9) -> None:
    """Exactly these values, no other key."""
    got = read_column(out / f"{column}.csv")
    expected = {(s, ts) for s, values in want.items() for ts in values.index}
    assert set(got.index) == expected, column
    for symbol, values in want.items():
        if len(values):
            assert worst(got[symbol].loc[values.index].to_numpy(), values.to_numpy()) <= tolerance, (
                column,
                symbol,
            )


CASES = [
    (source, target, symbols, how)
    for source, target, symbols in (("15m", "2h", 1), ("15m", "2h", 5), ("15m", "2h", 500), ("1h", "1d", 5))
    for how in ("in order", "shuffled", "one late")
]


@pytest.mark.parametrize("mid", [False, True], ids=["at a bucket's end", "within a bucket"])
@pytest.mark.parametrize(("source", "target", "symbols", "how"), CASES)
def test_resample(tmp_path, source, target, symbols, how, mid):
    if symbols == 500 and mid == (how == "one late"):
        pytest.skip("the large ones once each way")
    step, long = NS[source], NS[target]
    ratio = long // step
    warm, live = 14 * ratio + (ratio // 2 if mid else 0), 7 * ratio - (ratio // 2 if mid else 0)
    market = random_market(symbols, warm + live, 21, step=step, first=1_699_920_000 * 10**9)  # a midnight
    anchor = int(next(iter(market.values())).index[warm - 1])
    market = holed(market, step, long, anchor)
    arrivals = arrange(arrivals_of(market, anchor), how, market)
    steps = f"- transform: {{using: transforms.resample, inputs: {{frame: ohlcv}}, outputs: {{frame: long}}, params: {{interval: {target}}}}}\n"
    columns = [*(f"{c}_now" for c in BAR), "ma5rocp"] if symbols < 500 else ["close_now", "volume_now"]
    text = config(
        list(market), tmp_path, columns, steps=steps + SHOWN + MEAN + LONGER, frame="long", interval=source
    )
    summary, _, _ = run_scripted(text, market, arrivals, per_turn=max(1, symbols - 1))
    assert summary.bars == len(arrivals)

    truth = {s: resample(bars, long) for s, bars in market.items()}
    newest = max(ts for ts, _ in arrivals)  # what is not complete by then never is
    after = {s: bars[(bars.index > anchor) & (bars.index <= newest)] for s, bars in truth.items()}
    # Whole buckets are missing: those are no rows.
    assert min(map(len, after.values())) < 7
    for c in BAR:
        if f"{c}_now" in columns:
            check(tmp_path, f"{c}_now", {s: bars[c] for s, bars in after.items()}, 1e-12)
    if "ma5rocp" in columns:
        rocp = {s: rate_of_mean(bars).loc[after[s].index] for s, bars in truth.items()}
        check(tmp_path, "ma5rocp", rocp)


def rate_of_mean(bars: pd.DataFrame) -> pd.Series:
    mean = bars["close"].rolling(5).mean()
    return 10 * (mean / mean.shift(1) - 1)


def momentum_of(bars: pd.DataFrame) -> pd.Series:
    return bars["close"] / bars["close"].shift(20) - 1


def as_of(left: pd.DataFrame, right: pd.DataFrame, column: str, tolerance: int) -> pd.Series:
    """The right column as of each left bar."""
    joined = pd.merge_asof(
        pd.DataFrame({"ts": left.index}),
        pd.DataFrame({"ts": right.index, "value": right[column].to_numpy()}),
        on="ts",
        tolerance=tolerance,
    )
    return joined.set_index("ts")["value"]


ALIGN = """
- transform: {using: transforms.align, inputs: {left: ohlcv, right: hourly}, outputs: {frame: joined}, params: {columns: [close, ma5rocp], suffix: _1h}}
- features: {using: features.sma, inputs: {column: joined.close_1h}, outputs: {columns: [hourly_close]}, params: {window: 1}}
- features: {using: features.sma, inputs: {column: joined.ma5rocp}, outputs: {columns: [hourly_rocp]}, params: {window: 1}}
- features: {using: features.momentum, inputs: {column: joined.close}, outputs: {columns: [mom_20]}, params: {window: 20}}
- features: {using: features.sma, inputs: {column: joined.close}, outputs: {columns: [unread]}, params: {window: 40}}
"""
ROCP = (MEAN + LONGER).replace("F.", "hourly.")


def check_joined(out: Path, market, hourly, anchor: int) -> None:
    close, rocp, momentum = {}, {}, {}
    for symbol, bars in market.items():
        after = bars[bars.index > anchor]
        momentum[symbol] = momentum_of(bars).loc[after.index]
        if len(hourly[symbol]):
            right = hourly[symbol].assign(ma5rocp=rate_of_mean(hourly[symbol]))
            close[symbol] = as_of(after, right, "close", HOUR).dropna()
            rocp[symbol] = as_of(after, right, "ma5rocp", HOUR).dropna()
    check(out, "hourly_close", close, 1e-12)
    check(out, "hourly_rocp", rocp)
    check(out, "mom_20", momentum)


@pytest.mark.parametrize("how", ["in order", "shuffled", "one late"])
@pytest.mark.parametrize("symbols", [1, 5, 500])
def test_align_with_ones_own_resample(tmp_path, symbols, how):
    warm, live = 4 * 16 + 2, 4 * 7 - 2
    market = random_market(symbols, warm + live, 22, step=QUARTER)
    anchor = int(next(iter(market.values())).index[warm - 1])
    market = holed(market, QUARTER, HOUR, anchor)
    arrivals = arrange(arrivals_of(market, anchor), how, market)
    steps = "- transform: {using: transforms.resample, inputs: {frame: ohlcv}, outputs: {frame: hourly}, params: {interval: 1h}}\n"
    columns = ["hourly_close", "hourly_rocp", "mom_20"]
    text = config(list(market), tmp_path, columns, steps=steps + ROCP + ALIGN, frame="joined", interval="15m")
    run_scripted(text, market, arrivals, per_turn=max(1, symbols - 1))
    check_joined(tmp_path, market, {s: resample(bars, HOUR) for s, bars in market.items()}, anchor)


def run_two(
    text: str,
    markets: dict[str, dict[str, pd.DataFrame]],
    arrivals: dict[str, Sequence[tuple[int, str]]],
    per_turn: dict[str, int],
) -> RunSummary:
    """Run a configuration with two data steps, each with a stream of its own, under one clock."""
    document, dag = compiled(text)
    intervals = {name: dag.frames[name].interval.ns for name in markets}
    clock = VirtualClock(min(ts for a in arrivals.values() for ts, _ in a) - min(intervals.values()) // 2)
    sources = {
        name: ScriptedSource(market, arrivals[name], clock, intervals[name], per_turn=per_turn[name])
        for name, market in markets.items()
    }
    runner = RealTimeRunner(document, dag, sources=sources)
    return asyncio.run(asyncio.wait_for(runner.run(), 60))


@pytest.mark.parametrize("first", ["ohlcv", "hourly", "together"])
@pytest.mark.parametrize(
    ("symbols", "how"), [(1, "in order"), (5, "shuffled"), (5, "one late"), (500, "one late")]
)
def test_align_of_two_data_steps(tmp_path, symbols, how, first):
    """The hourly bars come from a source of their own, which is ahead or behind; it lacks the last symbol."""
    if symbols == 500 and first != "ohlcv":
        pytest.skip("the large one once")
    warm, live = 4 * 24, 4 * 8
    market = random_market(symbols, warm + live, 23, step=QUARTER)
    anchor = int(next(iter(market.values())).index[warm - 1])
    hourly = {s: resample(bars, HOUR) for s, bars in market.items()}
    if symbols > 1:
        del hourly[list(market)[-1]]
    market = holed(market, QUARTER, HOUR, anchor)
    hourly = holed(hourly, HOUR, 2 * HOUR, anchor)
    names = ", ".join(hourly)
    steps = f"- data: {{using: data.files, outputs: {{frame: hourly}}, params: {{path: ., universe: [{names}], interval: 1h}}}}\n"
    columns = ["hourly_close", "hourly_rocp", "mom_20"]
    text = config(list(market), tmp_path, columns, steps=steps + ROCP + ALIGN, frame="joined", interval="15m")
    fine, coarse = (arrange(arrivals_of(m, anchor), how, m) for m in (market, hourly))
    many = 10**6
    turns = {"ohlcv": many, "hourly": 1} if first == "ohlcv" else {"ohlcv": 1, "hourly": many}
    turns = {"ohlcv": 4 * symbols, "hourly": symbols} if first == "together" else turns
    run_two(text, {"ohlcv": market, "hourly": hourly}, {"ohlcv": fine, "hourly": coarse}, turns)
    nothing = pd.DataFrame(columns=list(BAR), index=pd.Index([], dtype=np.int64), dtype=np.float64)
    for symbol in set(market) - set(hourly):
        got = read_column(tmp_path / "hourly_close.csv")
        assert symbol not in got.index.get_level_values("symbol")
        hourly[symbol] = nothing
    check_joined(tmp_path, market, hourly, anchor)


def test_a_feature_of_the_resampled_frame_that_settles(tmp_path):
    ratio, warm, live = 8, 8 * 130, 8 * 8
    market = random_market(3, warm + live, 24, step=QUARTER)
    anchor = int(next(iter(market.values())).index[warm - 1])
    market = holed(market, QUARTER, ratio * QUARTER, anchor)
    steps = "- transform: {using: transforms.resample, inputs: {frame: ohlcv}, outputs: {frame: long}, params: {interval: 2h}}\n"
    text = config(list(market), tmp_path, ["rsi_14"], steps=steps + RSI, frame="long", interval="15m")
    text = text.replace("warmup: {", "warmup: {epsilon: 1e-3, ")
    run_scripted(text, market, shuffled(arrivals_of(market, anchor), seed=2, block=11))
    truth = {s: features(resample(bars, ratio * QUARTER))["rsi_14"] for s, bars in market.items()}
    check(tmp_path, "rsi_14", {s: v[v.index > anchor] for s, v in truth.items()}, 3e-3)
