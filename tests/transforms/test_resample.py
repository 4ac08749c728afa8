"""`transforms.resample` against pandas, at the edges of its buckets, and as the runtime streams it."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from alpha_forge_plugins.transforms.resample import Resample
from alpha_forge_sdk import BAR_COLUMNS, Interval

MINUTE = 60 * 10**9
# 2026-01-05 was a Monday.
MONDAY = pd.Timestamp("2026-01-05", tz="UTC").value


def make(source: str, target: str) -> Resample:
    plugin = Resample(Resample.Params(interval=target))
    plugin.output_interval(Interval.parse(source))
    return plugin


def bars(ts: np.ndarray, symbols: int, seed: int = 0, absent: float = 0.0) -> dict[str, np.ndarray]:
    """Random bars at `ts`, a share of them absent."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, (len(ts), symbols)), axis=0))
    out = {
        "open": close * rng.uniform(0.99, 1.01, close.shape),
        "high": close * rng.uniform(1.01, 1.02, close.shape),
        "low": close * rng.uniform(0.98, 0.99, close.shape),
        "close": close,
        "volume": rng.lognormal(2.0, 1.0, close.shape),
    }
    gone = rng.random(close.shape) < absent
    for column in out.values():
        column[gone] = np.nan
    return out


def by_pandas(ts: np.ndarray, columns: dict[str, np.ndarray], rule: str) -> pd.DataFrame:
    """One symbol's bars, resampled by pandas over the bars that exist, empty buckets dropped."""
    frame = pd.DataFrame(
        {k: v[:, 0] for k, v in columns.items()}, index=pd.to_datetime(ts, utc=True)
    ).dropna()
    how = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    monday = pd.Timestamp(MONDAY, tz="UTC")
    return frame.resample(rule, closed="right", label="right", origin=monday).agg(how).dropna()


def grid(start: int, step: str, count: int) -> np.ndarray:
    return start + np.arange(1, count + 1) * Interval.parse(step).ns


@pytest.mark.parametrize(
    ("source", "target", "rule", "count"),
    [
        ("15m", "2h", "2h", 400),
        ("1m", "5m", "5min", 333),
        ("1h", "1d", "24h", 500),
        ("4h", "1w", "168h", 300),
    ],
)
@pytest.mark.parametrize("absent", [0.0, 0.3, 0.9])
def test_agrees_with_pandas(source: str, target: str, rule: str, count: int, absent: float) -> None:
    ts = grid(MONDAY, source, count)
    columns = bars(ts, 1, absent=absent)
    out_ts, out = make(source, target).apply(ts, columns)
    truth = by_pandas(ts, columns, rule)
    truth = truth[truth.index <= pd.Timestamp(ts[-1], tz="UTC")]
    assert out_ts.tolist() == truth.index.as_unit("ns").asi8.tolist()
    for name in ("open", "high", "low", "close"):
        assert out[name][:, 0].tolist() == truth[name].tolist()
    np.testing.assert_allclose(out["volume"][:, 0], truth["volume"], rtol=1e-13)


def test_volume_is_added_from_the_oldest_bar_on() -> None:
    ts = grid(MONDAY, "1h", 4)
    columns = bars(ts, 1)
    columns["volume"][:, 0] = [1e16, 1.0, 1.0, 1.0]
    _, out = make("1h", "4h").apply(ts, columns)
    assert out["volume"][0, 0] == ((1e16 + 1.0) + 1.0) + 1.0


def test_a_close_on_the_edge_ends_its_bucket() -> None:
    ts = grid(MONDAY, "1h", 5)
    out_ts, out = make("1h", "2h").apply(ts, bars(ts, 1))
    assert out_ts.tolist() == [ts[1], ts[3]]
    assert out["close"][:, 0].tolist() == bars(ts, 1)["close"][[1, 3], 0].tolist()
    assert out["open"][:, 0].tolist() == bars(ts, 1)["open"][[0, 2], 0].tolist()


def test_the_newest_bucket_is_given_only_when_it_is_complete() -> None:
    ts = grid(MONDAY, "15m", 8)
    plugin = make("15m", "2h")
    assert len(plugin.apply(ts[:7], {k: v[:7] for k, v in bars(ts, 2).items()})[0]) == 0
    assert plugin.apply(ts, bars(ts, 2))[0].tolist() == [ts[7]]
    # Its last bar never was: a later row tells, and so does a row of NaN.
    later = np.delete(grid(MONDAY, "15m", 9), 7)
    assert plugin.apply(later, bars(later, 2))[0].tolist() == [ts[7]]
    columns = bars(ts, 2)
    for column in columns.values():
        column[7] = np.nan
    out_ts, out = plugin.apply(ts, columns)
    assert out_ts.tolist() == [ts[7]]
    assert out["close"][0].tolist() == columns["close"][6].tolist()


def test_the_oldest_bucket_is_given_only_when_it_is_covered() -> None:
    ts = grid(MONDAY, "15m", 24)
    plugin = make("15m", "2h")
    columns = bars(ts, 2)
    cut = {k: v[3:] for k, v in columns.items()}
    assert plugin.apply(ts[3:], cut)[0].tolist() == [ts[15], ts[23]]
    # Alone it is what streaming hands over: a hole at its first row is a bar that never was.
    alone = {k: v[17:24] for k, v in columns.items()}
    out_ts, out = plugin.apply(ts[17:], alone)
    assert out_ts.tolist() == [ts[23]]
    assert out["open"][0].tolist() == columns["open"][17].tolist()


def test_an_empty_bucket_is_nan_for_a_symbol_and_no_row_for_all() -> None:
    ts = grid(MONDAY, "1h", 6)
    columns = bars(ts, 2)
    for column in columns.values():
        column[:2, 0] = np.nan
        column[2:4] = np.nan
    out_ts, out = make("1h", "2h").apply(ts, columns)
    assert out_ts.tolist() == [ts[1], ts[5]]
    assert all(np.isnan(out[name][0, 0]) and np.isfinite(out[name][0, 1]) for name in BAR_COLUMNS)


def test_weeks_begin_on_monday() -> None:
    ts = grid(MONDAY, "1d", 14)
    out_ts, _ = make("1d", "1w").apply(ts, bars(ts, 1))
    assert [pd.Timestamp(t, tz="UTC").day_name() for t in out_ts] == ["Monday", "Monday"]
    assert out_ts.tolist() == [ts[6], ts[13]]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    pair=st.sampled_from([("15m", "2h"), ("1m", "3m"), ("1h", "1h"), ("6h", "1w")]),
    absent=st.sampled_from([0.0, 0.4, 0.8]),
    holes=st.sampled_from([0.0, 0.3]),
)
def test_streaming_gives_the_bits_of_replay(
    seed: int, pair: tuple[str, str], absent: float, holes: float
) -> None:
    """The runtime hands over the rows of (b - out, b], and one of NaN at b where no symbol has a bar."""
    source, target = (Interval.parse(text) for text in pair)
    plugin = make(*pair)
    assert plugin.lookback() == target.ns // source.ns
    rng = np.random.default_rng(seed)
    ts = grid(target.floor(MONDAY), pair[0], 5 * plugin.lookback())
    columns = bars(ts, 3, seed, absent)
    kept = (rng.random(len(ts)) >= holes) | (np.arange(len(ts)) == len(ts) - 1)
    kept[0] = True
    replay_ts, replay = plugin.apply(ts[kept], {k: v[kept] for k, v in columns.items()})
    streamed: dict[int, list[np.ndarray]] = {}
    for b in ts[[target.on_grid(int(t)) for t in ts]]:
        rows = (ts > b - target.ns) & (ts <= b) & (kept | (ts == b))
        part = {k: np.where(kept[:, None], v, np.nan)[rows] for k, v in columns.items()}
        out_ts, out = plugin.apply(ts[rows], part)
        for i, t in enumerate(out_ts):
            streamed[int(t)] = [out[name][i] for name in BAR_COLUMNS]
    assert sorted(streamed) == replay_ts.tolist()
    for i, t in enumerate(replay_ts):
        for name, row in zip(BAR_COLUMNS, streamed[int(t)], strict=True):
            np.testing.assert_array_equal(row, replay[name][i])


def test_symbols_know_nothing_of_each_other_and_inputs_stay() -> None:
    ts = grid(MONDAY, "15m", 64)
    columns = bars(ts, 9, absent=0.4)
    for column in columns.values():
        column.flags.writeable = False
    plugin = make("15m", "2h")
    whole_ts, whole = plugin.apply(ts, columns)
    order = np.random.default_rng(1).permutation(9)[:4]
    part_ts, part = plugin.apply(ts, {k: v[:, order] for k, v in columns.items()})
    rows = np.isin(whole_ts, part_ts)
    for name in BAR_COLUMNS:
        np.testing.assert_array_equal(part[name], whole[name][rows][:, order])
    np.testing.assert_array_equal(columns["close"], bars(ts, 9, absent=0.4)["close"])


def test_odd_values_warn_of_nothing() -> None:
    ts = grid(MONDAY, "15m", 16)
    columns = bars(ts, 4)
    for column in columns.values():
        column[3] = [np.nan, np.inf, 0.0, 1e308]
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        make("15m", "2h").apply(ts, columns)
        empty = make("15m", "2h").apply(ts[:0], {k: v[:0] for k, v in columns.items()})
    assert len(empty[0]) == 0
    assert all(empty[1][name].shape == (0, 4) for name in BAR_COLUMNS)


def test_intervals_that_do_not_fit_are_refused() -> None:
    plugin = Resample(Resample.Params(interval="2h"))
    for source in ("45m", "4h", "1d", "1w"):
        with pytest.raises(ValueError, match=f"bars of {source} don't add up to bars of 2h"):
            plugin.output_interval(Interval.parse(source))
    with pytest.raises(ValueError, match="bars of 3d don't add up"):
        Resample(Resample.Params(interval="1w")).output_interval(Interval.parse("3d"))
    with pytest.raises(ValidationError, match="is not an interval"):
        Resample.Params(interval="2 hours")


def test_it_says_what_it_misses() -> None:
    plugin = Resample(Resample.Params(interval="2h"))
    ts = grid(MONDAY, "1h", 2)
    for call in (plugin.lookback, lambda: plugin.apply(ts, bars(ts, 1))):
        with pytest.raises(RuntimeError, match="call output_interval"):
            call()
    assert plugin.output_interval(Interval.parse("15m")).name == "2h"
    assert plugin.lookback() == 8
