"""Targets, split, windows and rank correlation, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from alpha_forge.runtime.dataset import forward_return, information_coefficient, time_split, windows

HOUR = 3_600_000_000_000


def test_forward_return_is_the_later_price_over_this_one() -> None:
    rng = np.random.default_rng(1)
    close = np.exp(rng.normal(0, 0.01, (50, 3)).cumsum(axis=0)) * 100
    close[:7, 1] = np.nan  # a symbol that starts late
    before = close.copy()
    got = forward_return(close, 4)
    for t in range(50):
        for symbol in range(3):
            known = t + 4 < 50 and not (symbol == 1 and t < 7)
            expected = close[t + 4, symbol] / close[t, symbol] - 1 if known else np.nan
            np.testing.assert_equal(got[t, symbol], expected)
    np.testing.assert_array_equal(close, before)


def test_forward_return_knows_nothing_of_a_price_that_is_none() -> None:
    close = np.array([[100.0], [0.0], [110.0], [np.inf], [np.nan], [-1.0], [120.0]])
    assert np.isnan(forward_return(close, 1)).all()


def test_forward_return_of_a_history_shorter_than_the_horizon_is_unknown() -> None:
    assert np.isnan(forward_return(np.ones((3, 2)), 3)).all()
    assert forward_return(np.empty((0, 2)), 1).shape == (0, 2)


@pytest.mark.parametrize("horizon", [0, -1])
def test_forward_return_refuses_a_horizon_that_looks_back(horizon: int) -> None:
    with pytest.raises(ValueError, match="horizon"):
        forward_return(np.ones((5, 1)), horizon)


@pytest.mark.parametrize("horizon", [1, 5])
@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
def test_no_training_target_reaches_into_the_validation_part(horizon: int, fraction: float) -> None:
    rng = np.random.default_rng(2)
    # Three symbols, one late, in shuffled order.
    ts = np.concatenate([np.arange(s, 200) for s in (0, 0, 90)]) * HOUR
    ts = rng.permutation(ts)
    training, validation = time_split(ts, fraction, horizon * HOUR)
    first = ts[validation].min()
    assert (ts[training] + horizon * HOUR < first).all()
    assert not (training & validation).any()
    assert (validation == (ts >= first)).all()
    assert validation.mean() == pytest.approx(fraction, abs=0.01)
    # Nothing is thrown away beyond the purge.
    assert (training == (ts + horizon * HOUR < first)).all()


def test_one_ts_is_never_on_both_sides() -> None:
    ts = np.repeat(np.arange(10), 7) * HOUR
    training, validation = time_split(ts, 0.25, 0)
    assert set(ts[training]).isdisjoint(ts[validation])
    assert training.sum() + validation.sum() == 70


def test_a_target_that_spans_a_hole_is_purged_by_its_own_ts() -> None:
    ts = np.arange(10) * HOUR
    target_ts = ts + HOUR
    target_ts[2] = 8 * HOUR  # the bars between are absent
    training, validation = time_split(ts, 0.3, HOUR, target_ts)
    assert validation.tolist() == [False] * 7 + [True] * 3
    assert training.tolist() == [True, True, False, True, True, True, False, False, False, False]


@pytest.mark.parametrize(
    ("ts", "fraction", "purge", "message"),
    [
        (np.arange(10), 0.0, 0, "fraction"),
        (np.arange(10), 1.0, 0, "fraction"),
        (np.arange(10), 0.5, -1, "negative"),
        (np.arange(10), 0.5, 5, "no sample is left"),
        (np.zeros(10, np.int64), 0.5, 0, "no sample is left"),
        (np.arange(1), 0.5, 0, "split"),
    ],
)
def test_a_split_that_cannot_be_made_says_why(
    ts: np.ndarray, fraction: float, purge: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        time_split(ts, fraction, purge)


def test_a_window_ends_in_its_row_and_holds_the_bars_before_it() -> None:
    rng = np.random.default_rng(3)
    columns = rng.normal(size=(4, 40))
    rows = np.array([39, 9, 20, 9])
    got = windows(columns, 10, rows)
    assert got.shape == (4, 10, 4)
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    for i, row in enumerate(rows):
        for step in range(10):
            for feature in range(4):
                assert got[i, step, feature] == np.float32(columns[feature, row - 9 + step])


def test_a_window_keeps_what_is_unknown_unknown() -> None:
    columns = np.arange(10.0)[None, :].copy()
    columns[0, 5] = np.nan
    columns[0, 9] = 1e300
    got = windows(columns, 3, np.array([4, 6, 9]))[:, :, 0]
    np.testing.assert_array_equal(got, np.array([[2, 3, 4], [4, np.nan, 6], [7, 8, np.inf]], np.float32))


@pytest.mark.parametrize("rows", [[1], [10], [5, 12]])
def test_a_window_that_reaches_outside_is_refused(rows: list[int]) -> None:
    with pytest.raises(ValueError, match="end in rows 2 to 9"):
        windows(np.zeros((1, 10)), 3, np.array(rows))


def test_no_rows_give_no_windows() -> None:
    assert windows(np.zeros((2, 1)), 3, np.array([], np.int64)).shape == (0, 3, 2)


def spearman(a: list[float], b: list[float]) -> float:
    """By the definition, with loops."""

    def ranks(values: list[float]) -> list[float]:
        return [
            sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2
            for value in values
        ]

    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def test_information_coefficient_is_spearmans_with_shared_ranks() -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        a = rng.integers(0, 12, 60).astype(float)
        b = a + rng.integers(-6, 6, 60)
        assert information_coefficient(a, b) == pytest.approx(spearman(list(a), list(b)), rel=1e-12)


def test_information_coefficient_sees_order_only() -> None:
    a = np.random.default_rng(5).normal(size=100)
    assert information_coefficient(a, np.exp(a)) == pytest.approx(1.0)
    assert information_coefficient(a, -(a**3)) == pytest.approx(-1.0)


def test_information_coefficient_leaves_out_what_is_unknown() -> None:
    a = np.array([1.0, 2.0, np.nan, 4.0, 5.0])
    b = np.array([1.0, 2.0, 3.0, np.inf, 4.0])
    assert information_coefficient(a, b) == pytest.approx(1.0)


@pytest.mark.parametrize("a", [[1.0, 1.0, 1.0], [np.nan, np.nan, 1.0]])
def test_information_coefficient_of_nothing_is_unknown(a: list[float]) -> None:
    assert np.isnan(information_coefficient(np.array(a), np.array([1.0, 2.0, 3.0])))
