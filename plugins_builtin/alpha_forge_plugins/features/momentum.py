"""How far and how steadily a column has moved: momentum, RSI, MACD."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, model_validator

from alpha_forge_plugins.features.fading import MISFIT, bars_to_fade, bars_until
from alpha_forge_sdk import Feature, RecursiveFeature, kernels
from alpha_forge_sdk import Params as BaseParams

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


class Momentum(Feature):
    """Relative change over `window` bars: close[t] / close[t - window] - 1 (TA-Lib ROCP).

    Not TA-Lib's MOM, which is the difference: a relative change compares across symbols. A zero `window`
    bars ago gives an infinity, or NaN where the value is zero too.
    """

    class Params(BaseParams):
        window: int = Field(20, ge=1, description="bars between the two values compared")

    examples = ({"window": 20}, {"window": 60})

    def lookback(self) -> int:
        return int(self.params.window) + 1

    def compute(self, close: Array) -> Array:
        return kernels.rate_of_change(close, self.params.window)


class RSI(RecursiveFeature):
    """Relative strength index (Wilder 1978), 0 to 100, seeded by the first changes' mean (TA-Lib RSI).

    Wilder's averages of gains and losses, ``100 * gain / (gain + loss)``; the first `window` changes seed
    them by their simple mean. 0 where nothing has ever moved, as TA-Lib has it.
    """

    class Params(BaseParams):
        window: int = Field(14, ge=2, description="period of Wilder's averages, in bars")

    examples = ({"window": 14}, {"window": 6})

    def settle(self, epsilon: float) -> int:
        """Bars after which what came before the start weighs less than `epsilon` in both averages.

        ``ceil(ln epsilon / ln((n-1)/n))``, and never less than the ``n + 1`` bars of the seed: 280 for 14
        bars at 1e-9. The value itself is then off by about as much, relative; by more where the seed met a
        storm or a calm.
        """
        n = self.params.window
        return int(max(bars_to_fade((n - 1) / n, epsilon), n + 1))

    def start(self, symbols: int) -> dict[str, Array]:
        return {
            "seen": np.zeros(symbols, np.int64),
            "last": np.zeros(symbols),
            "gain": np.zeros(symbols),
            "loss": np.zeros(symbols),
        }

    def advance(self, state: dict[str, Array], close: Array) -> Array:
        return kernels.rsi(
            close, self.params.window, state["seen"], state["last"], state["gain"], state["loss"]
        )


class MACD(RecursiveFeature):
    """EMA(fast) - EMA(slow), its signal line, and the difference of the two (TA-Lib MACD).

    Both averages begin together, at the bar that completes the slow one's seed (the fast one is seeded by
    the mean of the last `fast` of those bars); the signal is seeded by the mean of the first `signal`
    values. All three outputs are NaN until the signal is there.
    """

    outputs = ("macd", "signal", "histogram")

    class Params(BaseParams):
        fast: int = Field(12, ge=1, description="period of the fast average, in bars")
        slow: int = Field(26, ge=2, description="period of the slow average, in bars; above the fast one's")
        signal: int = Field(9, ge=1, description="period of the signal line, in bars")

        @model_validator(mode="after")
        def _in_order(self) -> MACD.Params:
            if self.fast >= self.slow:
                raise ValueError(f"fast ({self.fast}) must be below slow ({self.slow})")
            return self

    examples = ({"fast": 12, "slow": 26, "signal": 9}, {"fast": 5, "slow": 35, "signal": 5})

    def settle(self, epsilon: float) -> int:
        """Bars after which the start weighs less than `epsilon` in the line and its signal together.

        Relative to the usual size of the line, that is: a line that crosses zero has no relative error
        there. The signal averages a line that is still wrong itself, so its error outlives both and is
        followed bar by bar.
        """
        p = self.params
        weights = _start_weights(p.fast, p.slow, p.signal)
        # Averages of nearly one period make a small line of large ones, and their seeds miss it by more.
        misfit = 2.0 * MISFIT if 4 * (p.slow - p.fast) < p.slow else MISFIT
        return int(p.slow + p.signal - 1 + bars_until(epsilon, weights, misfit))

    def start(self, symbols: int) -> dict[str, Array]:
        return {
            "seen": np.zeros(symbols, np.int64),
            "fast": np.zeros(symbols),
            "slow": np.zeros(symbols),
            "signal": np.zeros(symbols),
        }

    def advance(self, state: dict[str, Array], close: Array) -> tuple[Array, Array, Array]:
        p = self.params
        return kernels.macd(
            close, p.fast, p.slow, p.signal, state["seen"], state["fast"], state["slow"], state["signal"]
        )


def _start_weights(fast: int, slow: int, signal: int) -> Iterator[float]:
    """Weight of the seeds in line and signal together, bar by bar from the signal's seed on."""
    fading = [(period - 1) / (period + 1) for period in (fast, slow, signal)]
    line = [fading[0] ** k + fading[1] ** k for k in range(signal)]
    average = 1.0 + sum(line) / signal
    for k in count(signal):
        yield line[-1] + average
        line = [fading[0] ** k + fading[1] ** k]
        average = fading[2] * average + (1.0 - fading[2]) * line[-1]
