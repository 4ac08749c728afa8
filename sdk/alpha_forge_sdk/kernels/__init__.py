"""Compiled primitives over (bars, symbols) arrays, and ``jit`` to write one's own.

Arrays are float64, oldest bar first, NaN where nothing is known; C-contiguous ones are read as they are,
others are converted. A row's bits depend on the rows of its window (or on its state) alone, never on how
many bars or symbols are given together. Importing this compiles nothing and doesn't import numba: a kernel
is compiled at its first call, and kept in numba's cache for the next process.
"""

from __future__ import annotations

from alpha_forge_sdk.kernels.changes import difference, lag, rate_of_change, true_range
from alpha_forge_sdk.kernels.compiling import jit
from alpha_forge_sdk.kernels.extremes import (
    level_distances,
    rolling_argmax,
    rolling_argmin,
    rolling_max,
    rolling_min,
    rolling_rank,
)
from alpha_forge_sdk.kernels.panel import cross_rank, cross_zscore
from alpha_forge_sdk.kernels.recursive import atr, ema, macd, rsi, wilder
from alpha_forge_sdk.kernels.rolling import (
    mean_rate_of_change,
    ratio_to_mean,
    rolling_bands,
    rolling_mean,
    rolling_return_std,
    rolling_std,
    rolling_sum,
    rolling_zscore,
)

__all__ = [
    "atr",
    "cross_rank",
    "cross_zscore",
    "difference",
    "ema",
    "jit",
    "lag",
    "level_distances",
    "macd",
    "mean_rate_of_change",
    "rate_of_change",
    "ratio_to_mean",
    "rolling_argmax",
    "rolling_argmin",
    "rolling_bands",
    "rolling_max",
    "rolling_mean",
    "rolling_min",
    "rolling_rank",
    "rolling_return_std",
    "rolling_std",
    "rolling_sum",
    "rolling_zscore",
    "rsi",
    "true_range",
    "wilder",
]
