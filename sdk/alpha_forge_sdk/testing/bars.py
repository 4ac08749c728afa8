"""Made-up bars: realistic, positive, varying, seeded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]

COLUMNS = ("open", "high", "low", "close", "volume")


def made_bars(bars: int, symbols: int, seed: int = 0) -> dict[str, Float]:
    """Columns of bars, (bars, symbols) float64 each: a random walk whose volatility changes."""
    rng = np.random.default_rng(seed)
    volatility = 0.004 * np.exp(np.cumsum(rng.normal(0, 0.1, (bars, symbols)), axis=0).clip(-1.5, 1.5))
    close = rng.uniform(5, 500, symbols) * np.exp(
        np.cumsum(rng.normal(0, 1, (bars, symbols)) * volatility, axis=0)
    )
    open_ = np.vstack((close[:1] * (1 + 0.5 * volatility[:1]), close[:-1])) if bars else close.copy()
    reach = np.abs(rng.normal(0, 1, (2, bars, symbols))) * volatility * 0.5
    return {
        "open": open_,
        "high": np.maximum(open_, close) * (1 + reach[0]),
        "low": np.minimum(open_, close) * (1 - reach[1].clip(0, 0.5)),
        "close": close,
        "volume": rng.lognormal(4, 0.6, (bars, symbols)),
    }


def input_columns(names: Sequence[str], bars: int, symbols: int, seed: int = 0) -> dict[str, Float]:
    """Inputs by name: bar columns where a name is one, else a price-like series of its own."""
    made = made_bars(bars, symbols, seed)
    return {
        name: made[name] if name in COLUMNS else made_bars(bars, symbols, seed + 1 + i)["close"]
        for i, name in enumerate(names)
    }
