"""A feature whose memory fades: it keeps a state, and moves it on bar by bar."""

from __future__ import annotations

from math import ceil, log
from typing import Any

import numpy as np
import numpy.typing as npt
from alpha_forge_sdk import Params as BaseParams
from alpha_forge_sdk import RecursiveFeature
from pydantic import Field

Array = npt.NDArray[np.float64]

_MISFIT = 1e4
"""How far off the seed may be, in units of what it seeds: the square of a single change, after a calm or a storm."""


class FadingVolatility(RecursiveFeature):
    """Volatility of relative changes by an exponential mean of their squares (RiskMetrics, J.P. Morgan 1996).

    ``v = decay * v + (1 - decay) * r * r`` with ``r = close / last - 1``; the value is the square root of v. The first
    change seeds v, so that there is a value from the second bar on. A close that is not above zero counts as unknown.
    """

    class Params(BaseParams):
        """What a configuration can set."""

        decay: float = Field(0.94, ge=0.5, le=0.999, description="share that one bar leaves of the past")

    examples = ({"decay": 0.94}, {"decay": 0.8})

    def settle(self, epsilon: float) -> int:
        """Bars after which the first change weighs less than `epsilon` in v, relative, and so in the value.

        That is k with ``decay ** k * misfit <= epsilon``, and one more: the first change needs two closes.
        """
        return 1 + max(1, ceil(log(epsilon / _MISFIT) / log(self.params.decay)))

    def start(self, symbols: int) -> dict[str, npt.NDArray[Any]]:
        """A fresh state: the last close and the mean of squares, unknown for every symbol."""
        return {"last": np.full(symbols, np.nan), "mean": np.full(symbols, np.nan)}

    def advance(self, state: dict[str, npt.NDArray[Any]], close: Array, **_: Any) -> Array:
        """(bars, symbols) closes → as many values, by elementwise operations row by row: the same bits in any chunks.

        Not with logarithms: NumPy's differ in the last bit between rows that lie together and rows that don't.
        """
        decay, last, mean = self.params.decay, state["last"], state["mean"]
        out = np.full_like(close, np.nan)
        for t, bar in enumerate(close):
            known = np.isfinite(bar) & (bar > 0)
            moves = known & ~np.isnan(last)
            with np.errstate(all="ignore"):
                squares = (bar / last - 1.0) ** 2
                seeded = np.where(np.isnan(mean), squares, decay * mean + (1.0 - decay) * squares)
            mean[moves] = seeded[moves]
            last[known] = bar[known]
            out[t, moves] = np.sqrt(mean[moves])
        return out
