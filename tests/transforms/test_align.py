"""`transforms.align` against pandas merge_asof, and its edges."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from alpha_forge_plugins.transforms.align import Align
from alpha_forge_sdk import Interval

HOUR = 3600 * 10**9
START = pd.Timestamp("2026-01-05", tz="UTC").value


def make(right: str = "1h", **params: object) -> Align:
    plugin = Align(Align.Params(**params))
    plugin.other_lookback(Interval.parse(right))
    return plugin


def frame(rng: np.random.Generator, ts: np.ndarray, symbols: int, absent: float) -> dict[str, np.ndarray]:
    gone = rng.random((len(ts), symbols)) < absent
    return {name: np.where(gone, np.nan, rng.random((len(ts), symbols))) for name in ("close", "volume")}


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    intervals=st.sampled_from([("1h", "4h"), ("4h", "1h"), ("1h", "1h"), ("15m", "1d")]),
    tolerance=st.sampled_from([None, "1h", "6h", "3d"]),
    absent=st.sampled_from([0.0, 0.4]),
)
def test_agrees_with_merge_asof(
    seed: int, intervals: tuple[str, str], tolerance: str | None, absent: float
) -> None:
    rng = np.random.default_rng(seed)
    left_of, right_of = (Interval.parse(text) for text in intervals)
    left_ts = START + np.sort(rng.choice(60, 40, replace=False)) * left_of.ns
    right_ts = START + np.sort(rng.choice(np.arange(-5, 60), 45, replace=False)) * right_of.ns
    left, right = frame(rng, left_ts, 3, 0.0), frame(rng, right_ts, 3, absent)
    plugin = make(intervals[1], columns=["close", "volume"], tolerance=tolerance)
    ts, out = plugin.apply(left_ts, left, (right_ts, right))
    assert ts.tolist() == left_ts.tolist()
    allowed = Interval.parse(tolerance).ns if tolerance else right_of.ns
    for s in range(3):
        theirs = pd.DataFrame({"ts": right_ts, "c": right["close"][:, s], "v": right["volume"][:, s]})
        joined = pd.merge_asof(
            pd.DataFrame({"ts": left_ts}), theirs[theirs["c"].notna()], on="ts", tolerance=allowed
        )
        np.testing.assert_array_equal(out["close_right"][:, s], joined["c"])
        np.testing.assert_array_equal(out["volume_right"][:, s], joined["v"])
        np.testing.assert_array_equal(out["close"][:, s], left["close"][:, s])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), tolerance=st.sampled_from([None, "4h", "1d"]))
def test_the_look_backs_are_enough(seed: int, tolerance: str | None) -> None:
    """One left row and the right rows as of it give the bits of the whole join."""
    rng = np.random.default_rng(seed)
    left_ts, right_ts = START + np.arange(1, 49) * HOUR, START + np.arange(-24, 25) * 2 * HOUR
    left, right = frame(rng, left_ts, 3, 0.2), frame(rng, right_ts, 3, 0.5)
    plugin = make("2h", tolerance=tolerance)
    need = plugin.other_lookback(Interval.parse("2h"))
    assert plugin.lookback() == 1
    _, whole = plugin.apply(left_ts, left, (right_ts, right))
    for t in range(48):
        stop = int((right_ts <= left_ts[t]).sum())
        rows = slice(max(0, stop - need), stop)
        _, one = plugin.apply(
            left_ts[t : t + 1],
            {k: v[t : t + 1] for k, v in left.items()},
            (right_ts[rows], {k: v[rows] for k, v in right.items()}),
        )
        np.testing.assert_array_equal(one["close_right"][0], whole["close_right"][t])


def test_a_later_right_bar_is_never_read() -> None:
    left_ts, right_ts = np.array([START]), np.array([START + 1])
    one = {"close": np.ones((1, 1))}
    _, out = make().apply(left_ts, one, (right_ts, one))
    assert np.isnan(out["close_right"]).all()
    _, out = make().apply(left_ts, one, (left_ts, one))
    assert (out["close_right"] == 1.0).all()


def test_exactly_as_old_as_the_tolerance_still_counts() -> None:
    one = {"close": np.ones((1, 1))}
    plugin = make(tolerance="2h")
    for age, known in ((2 * HOUR, True), (2 * HOUR + 1, False)):
        _, out = plugin.apply(np.array([START + age]), one, (np.array([START]), one))
        assert np.isfinite(out["close_right"]).all() == known


def test_no_right_rows_and_absent_left_bars_are_nan() -> None:
    left_ts = START + np.arange(3) * HOUR
    left = {"close": np.array([[1.0, np.nan]] * 3)}
    empty = np.zeros(0, dtype=np.int64)
    _, out = make().apply(left_ts, left, (empty, {"close": np.zeros((0, 2))}))
    assert np.isnan(out["close_right"]).all()
    _, out = make().apply(left_ts, left, (left_ts, {"close": np.ones((3, 2))}))
    assert (out["close_right"][:, 0] == 1.0).all()
    assert np.isnan(out["close_right"][:, 1]).all()


def test_columns_and_their_names() -> None:
    plugin = make(columns=["funding", "close"], suffix="_spot")
    taken = plugin.input_columns(("open", "close", "mom"), ("close", "volume", "funding"))
    assert taken == (("open", "close", "mom"), ("funding", "close"))
    assert plugin.output_columns(*taken) == ("open", "close", "mom", "funding", "close_spot")
    # The close tells where the right frame has a bar, so it is read even where it isn't brought.
    assert make(columns=["funding"]).input_columns(("close",), ("close", "funding"))[1] == (
        "funding",
        "close",
    )
    with pytest.raises(ValueError, match="the right frame has no column basis; it has close"):
        make(columns=["basis"]).input_columns(("close",), ("close",))
    with pytest.raises(ValueError, match="close_right would come twice"):
        make().output_columns(("close", "close_right"), ("close",))
    with pytest.raises(ValidationError, match="names close more than once"):
        Align.Params(columns=["close", "close"])
    with pytest.raises(ValidationError, match="is not an interval"):
        Align.Params(tolerance="soon")


def test_the_tolerance_defaults_to_the_right_interval() -> None:
    plugin = Align(Align.Params())
    one = {"close": np.ones((1, 1))}
    with pytest.raises(RuntimeError, match="call other_lookback"):
        plugin.apply(np.array([START]), one, (np.array([START]), one))
    assert plugin.other_lookback(Interval.parse("4h")) == 2
    assert plugin.output_interval(Interval.parse("1h")).name == "1h"
    for age, known in ((4 * HOUR, True), (5 * HOUR, False)):
        _, out = plugin.apply(np.array([START + age]), one, (np.array([START]), one))
        assert np.isfinite(out["close_right"]).all() == known
    assert Align(Align.Params(tolerance="1d")).other_lookback(Interval.parse("4h")) == 7


def test_inputs_stay_as_they_were() -> None:
    rng = np.random.default_rng(0)
    ts = START + np.arange(10) * HOUR
    left, right = frame(rng, ts, 2, 0.3), frame(rng, ts, 2, 0.3)
    before = {k: v.copy() for k, v in left.items()}
    for column in (*left.values(), *right.values(), ts):
        column.flags.writeable = False
    make().apply(ts, left, (ts, right))
    assert list(left) == list(before)
    for name, column in before.items():
        np.testing.assert_array_equal(left[name], column)
