"""From columns to samples: targets, the split in time, windows, and the measure of rank. Pure NumPy.

Inside one symbol a row is one of its own bars: absent bars are left out, the newest bar stands last, and NaN
fills the rows before the first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


def forward_return(close: Float, horizon: int) -> Float:
    """(bars, symbols) closes → ``close[t + horizon] / close[t] - 1``, of the same shape.

    Each symbol's own bars are counted, so a hole makes no difference. NaN for the last `horizon` rows, and
    where either price is unknown or not positive. Raises ValueError for a horizon below 1.
    """
    if horizon < 1:
        raise ValueError(f"horizon must be at least 1 bar, got {horizon}")
    result: Float = np.full(close.shape, np.nan)
    if horizon >= len(close):
        return result
    now, later = close[:-horizon], close[horizon:]
    usable = np.isfinite(now) & np.isfinite(later) & (now > 0.0) & (later > 0.0)
    np.divide(later, now, out=result[:-horizon], where=usable)
    result[:-horizon][usable] -= 1.0
    return result


def time_split(
    ts_of_sample: Int, fraction: float, purge_ns: int, target_ts: Int | None = None
) -> tuple[Bool, Bool]:
    """(n,) ts of samples → masks of the training and of the validation part, split at one instant.

    The newest `fraction` of the samples, and all that share its first ts, are the validation part, whatever
    their symbol. A sample before it is for training only if ``ts + purge_ns`` is before the first validation
    ts too: with a purge of the horizon no training target reaches into the validation part (López de Prado,
    2018, purging); with the window's length added, no validation window overlaps a training target's bars
    either. What lies between is in neither part.

    ``target_ts`` is the ts at which each sample's target is known. It holds where a horizon counted in bars
    spans a hole, and so more time than the purge: such a sample too is left out.

    Raises ValueError if `fraction` isn't within (0, 1), `purge_ns` is negative, or a part would be empty.
    """
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"the validation fraction must be between 0 and 1, got {fraction}")
    if purge_ns < 0:
        raise ValueError(f"the purge must not be negative, got {purge_ns} ns")
    if len(ts_of_sample) < 2:
        raise ValueError(f"{len(ts_of_sample)} sample(s) can't be split in two")
    count = max(1, round(len(ts_of_sample) * fraction))
    boundary = np.partition(ts_of_sample, len(ts_of_sample) - count)[len(ts_of_sample) - count]
    validation: Bool = ts_of_sample >= boundary
    training: Bool = ts_of_sample < boundary - purge_ns
    if target_ts is not None:
        training &= target_ts < boundary
    if not training.any():
        raise ValueError(
            f"no sample is left for training: {int(validation.sum())} of {len(ts_of_sample)} are for "
            "validation, and the purge takes the others"
        )
    return training, validation


def windows(columns: Float, window: int, rows: Int) -> npt.NDArray[np.float32]:
    """(features, bars) columns of one symbol → (n, window, features) float32, contiguous.

    Window i holds the bars ``rows[i] - window + 1 … rows[i]``, oldest first. Raises ValueError for a row
    whose window would reach outside.
    """
    bars = columns.shape[1]
    if window < 1:
        raise ValueError(f"a window has at least 1 bar, got {window}")
    if len(rows) and (int(rows.min()) < window - 1 or int(rows.max()) >= bars):
        raise ValueError(
            f"windows of {window} bars end in rows {window - 1} to {bars - 1}, "
            f"got {int(rows.min())} to {int(rows.max())}"
        )
    if not len(rows):
        return np.empty((0, window, columns.shape[0]), np.float32)
    # Beyond float32 a value becomes an infinity, which the model treats as unknown.
    with np.errstate(over="ignore"):
        by_bar = np.ascontiguousarray(columns.T, dtype=np.float32)
    view = np.lib.stride_tricks.sliding_window_view(by_bar, window, axis=0).transpose(0, 2, 1)
    return np.ascontiguousarray(view[rows - (window - 1)])


def information_coefficient(prediction: Float, target: Float) -> float:
    """Spearman's rank correlation of two (n,) arrays; equal values share the mean of their ranks.

    Pairs with a value that isn't finite are left out. NaN for fewer than two pairs, or where one side is
    constant.
    """
    known = np.isfinite(prediction) & np.isfinite(target)
    if int(known.sum()) < 2:
        return float("nan")
    a, b = _ranks(prediction[known]), _ranks(target[known])
    a -= a.mean()
    b -= b.mean()
    size = float(np.sqrt(np.dot(a, a) * np.dot(b, b)))
    return float(np.dot(a, b)) / size if size > 0.0 else float("nan")


def _ranks(values: Float) -> Float:
    """Ranks from 1."""
    inverse: npt.NDArray[Any]
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Float = ((2 * last - counts + 1) / 2.0)[inverse]
    return ranks
