"""Made-up bars, in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]

HOUR = 3600 * 10**9
FIRST = 1_700_000_000 * 10**9 // HOUR * HOUR


def names(count: int) -> list[str]:
    return [f"S{k:03d}USDT" for k in range(count)]


@dataclass(frozen=True)
class Bars:
    """``values`` (bars, 5, symbols) in the order open, high, low, close, volume; bar k closes at ``close_of(k)``."""

    values: Float

    @property
    def count(self) -> int:
        return len(self.values)

    @property
    def symbols(self) -> int:
        return int(self.values.shape[2])

    def column(self, place: int) -> Float:
        """(bars, symbols)."""
        return np.ascontiguousarray(self.values[:, place])

    def of_symbol(self, place: int) -> Float:
        """(symbols, bars), so that one symbol's bars lie contiguous."""
        return np.ascontiguousarray(self.values[:, place].T)


def close_of(bar: int) -> int:
    """Close of bar `bar` (0, 1, …), ns since the epoch."""
    return FIRST + (bar + 1) * HOUR


def random_bars(symbols: int, bars: int, seed: int = 0) -> Bars:
    """Random walks with 1 % an hour."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, (bars, symbols)), axis=0))
    open_ = np.vstack((np.full((1, symbols), 100.0), close[:-1]))
    up, down = np.abs(rng.normal(0, 0.004, (2, bars, symbols)))
    high, low = np.maximum(open_, close) * (1 + up), np.minimum(open_, close) * (1 - down)
    volume = rng.lognormal(3, 0.5, (bars, symbols))
    return Bars(np.ascontiguousarray(np.stack((open_, high, low, close, volume), axis=1)))
