"""Every built-in feature with the truth it must meet, from code that imports nothing of the product."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import talib

from alpha_forge_plugins.features.averages import EMA, SMA, MARocp
from alpha_forge_plugins.features.levels import SupportResistance, ZScore
from alpha_forge_plugins.features.momentum import MACD, RSI, Momentum
from alpha_forge_plugins.features.panel import CrossRank
from alpha_forge_plugins.features.volatility import ATR, Bollinger, Volatility
from alpha_forge_plugins.features.volume import VolumeRatio
from alpha_forge_sdk import Feature

Columns = dict[str, np.ndarray]


def market(bars: int, symbols: int, seed: int = 0) -> Columns:
    """Bars with fat-tailed returns: {open, high, low, close, volume}, each (bars, symbols)."""
    rng = np.random.default_rng(seed)
    steps = np.clip(0.006 * rng.standard_t(4, (bars, symbols)), -0.3, 0.3)
    close = rng.uniform(0.1, 1000.0, symbols) * np.exp(np.cumsum(steps, axis=0))
    opens = np.vstack([close[:1], close[:-1]])
    high = np.maximum(opens, close) * (1 + np.abs(rng.normal(0, 0.003, close.shape)))
    low = np.minimum(opens, close) * (1 - np.abs(rng.normal(0, 0.003, close.shape)))
    volume = rng.lognormal(3.0, 1.0, close.shape)
    return {"open": opens, "high": high, "low": low, "close": close, "volume": volume}


def run(plugin: Any, columns: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    """All outputs over all rows, from a fresh start."""
    if isinstance(plugin, Feature):
        result = plugin.compute(*columns)
    else:
        result = plugin.advance(plugin.start(columns[0].shape[1]), *columns)
    return result if isinstance(result, tuple) else (result,)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal bit for bit; one NaN is as good as another."""
    unknown = np.isnan(a)
    return (
        a.shape == b.shape
        and a.dtype == b.dtype
        and bool((unknown == np.isnan(b)).all())
        and a[~unknown].tobytes() == b[~unknown].tobytes()
    )


def wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.longdouble)


def rolling(x: np.ndarray, window: int, function: Callable[[np.ndarray], Any]) -> np.ndarray:
    """`function` of each full window of the (bars,) series `x`, in extended precision."""
    out = np.full(len(x), np.nan, dtype=np.longdouble)
    for t in range(window - 1, len(x)):
        out[t] = function(wide(x[t - window + 1 : t + 1]))
    return out


def ma_rocp(close: np.ndarray, window: int, rocp_period: int = 1, rocp_factor: float = 1.0) -> np.ndarray:
    mean = rolling(close, window, np.mean)
    out = np.full(len(mean), np.nan, dtype=np.longdouble)
    out[rocp_period:] = (mean[rocp_period:] / mean[:-rocp_period] - 1) * rocp_factor
    return out


def bands(close: np.ndarray, window: int, up: float, down: float) -> tuple[np.ndarray, ...]:
    mean, std = rolling(close, window, np.mean), rolling(close, window, np.std)
    return mean + up * std, mean, mean - down * std


def volatility(close: np.ndarray, window: int) -> np.ndarray:
    out = np.full(len(close), np.nan, dtype=np.longdouble)
    out[1:] = rolling(
        (wide(close[1:]) / wide(close[:-1]) - 1).astype(np.longdouble), window, lambda w: w.std(ddof=1)
    )
    return out


def zscore(close: np.ndarray, window: int) -> np.ndarray:
    return rolling(close, window, lambda w: (w[-1] - w.mean()) / w.std(ddof=1))


def levels(high: np.ndarray, low: np.ndarray, close: np.ndarray, window: int) -> tuple[np.ndarray, ...]:
    return (talib.MAX(high, window) - close) / close, (close - talib.MIN(low, window)) / close


@dataclass(frozen=True)
class Case:
    """A feature with parameters, and its truth: columns of one symbol → outputs (None for panel features)."""

    plugin: type
    params: dict[str, Any]
    truth: Callable[..., Any] | None

    def make(self) -> Any:
        return self.plugin(self.plugin.Params(**self.params))

    def columns(self, bars: Columns) -> list[np.ndarray]:
        return [bars[name] for name in self.plugin.input_names()]

    def __str__(self) -> str:
        return "-".join([self.plugin.__name__, *(str(v) for v in self.params.values())])


WINDOWED = [
    Case(Momentum, {"window": 20}, lambda c: talib.ROCP(c, 20)),
    Case(Momentum, {"window": 1}, lambda c: talib.ROCP(c, 1)),
    Case(SMA, {"window": 20}, lambda c: talib.SMA(c, 20)),
    Case(SMA, {"window": 7}, lambda c: talib.SMA(c, 7)),
    Case(MARocp, {"window": 20, "rocp_factor": 10.0}, lambda c: ma_rocp(c, 20, 1, 10.0)),
    Case(MARocp, {"window": 5, "rocp_period": 9}, lambda c: ma_rocp(c, 5, 9)),
    Case(MARocp, {"window": 1, "rocp_period": 2}, lambda c: talib.ROCP(c, 2)),
    Case(Bollinger, {"window": 20}, lambda c: bands(c, 20, 2.0, 2.0)),
    Case(Bollinger, {"window": 5, "nbdev_down": 1.5}, lambda c: talib.BBANDS(c, 5, 2.0, 1.5)),
    Case(Volatility, {"window": 20}, lambda c: volatility(c, 20)),
    Case(Volatility, {"window": 2}, lambda c: volatility(c, 2)),
    Case(SupportResistance, {"window": 20}, lambda high, low, close: levels(high, low, close, 20)),
    Case(SupportResistance, {"window": 6}, lambda high, low, close: levels(high, low, close, 6)),
    Case(ZScore, {"window": 20}, lambda c: zscore(c, 20)),
    Case(VolumeRatio, {"window": 20}, lambda v: v / talib.SMA(v, 20)),
]
RECURSIVE = [
    Case(RSI, {"window": 14}, lambda c: talib.RSI(c, 14)),
    Case(RSI, {"window": 2}, lambda c: talib.RSI(c, 2)),
    Case(EMA, {"window": 20}, lambda c: talib.EMA(c, 20)),
    Case(EMA, {"window": 2}, lambda c: talib.EMA(c, 2)),
    Case(ATR, {"window": 14}, lambda high, low, close: talib.ATR(high, low, close, 14)),
    Case(ATR, {"window": 1}, lambda high, low, close: talib.ATR(high, low, close, 1)),
    Case(MACD, {}, lambda c: talib.MACD(c, 12, 26, 9)),
    Case(MACD, {"fast": 3, "slow": 10, "signal": 16}, lambda c: talib.MACD(c, 3, 10, 16)),
    Case(MACD, {"fast": 5, "slow": 9, "signal": 1}, lambda c: talib.MACD(c, 5, 9, 1)),
]
PANEL = [Case(CrossRank, {}, None)]


def panel_rank(values: np.ndarray) -> np.ndarray:
    """`CrossRank` by pandas."""
    frame = pd.DataFrame(values)
    present = frame.notna().sum(axis=1)
    ranks = (frame.rank(axis=1) - 1).div((present - 1).where(present > 1), axis=0)
    return ranks.where(frame.isna() | (present > 1).to_numpy()[:, None], 0.5).to_numpy()
