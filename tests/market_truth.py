"""What the runtime should deliver, computed by pandas and TA-Lib alone. Imports nothing of the product."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import talib

HOUR = 3600 * 10**9


def random_market(
    symbols: int,
    bars: int,
    seed: int,
    *,
    step: int = HOUR,
    first: int = 1_700_000_000_000_000_000 // HOUR * HOUR,
) -> dict[str, pd.DataFrame]:
    """Bars of made-up symbols: index is the close in ns, columns open … volume."""
    rng = np.random.default_rng(seed)
    index = first + step * np.arange(1, bars + 1)
    market = {}
    for k in range(symbols):
        close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, bars)))
        open_ = np.concatenate(([100.0], close[:-1]))
        spread = np.abs(rng.normal(0, 0.004, (2, bars)))
        market[f"S{k:03d}USDT"] = pd.DataFrame(
            {
                "open": open_,
                "high": np.maximum(open_, close) * (1 + spread[0]),
                "low": np.minimum(open_, close) * (1 - spread[1]),
                "close": close,
                "volume": rng.lognormal(3, 0.5, bars),
            },
            index=index,
        )
    return market


def features(bars: pd.DataFrame) -> pd.DataFrame:
    """Every tested column of one symbol's own bars (holes skipped), by TA-Lib and pandas."""
    close, high, low, volume = (bars[c].to_numpy() for c in ("close", "high", "low", "volume"))
    series = bars["close"]
    upper, middle, lower = talib.BBANDS(close, 20, 2.0, 2.0)
    macd, signal, histogram = talib.MACD(close, 12, 26, 9)
    columns: dict[str, np.ndarray] = {
        "mom_20": talib.ROCP(close, 20),
        "rsi_14": talib.RSI(close, 14),
        "ema_10": talib.EMA(close, 10),
        "sma_20": talib.SMA(close, 20),
        "macd": macd,
        "macd_signal": signal,
        "macd_histogram": histogram,
        "atr_14": talib.ATR(high, low, close, 14),
        "bb_upper": upper,
        "bb_middle": middle,
        "bb_lower": lower,
        "volume_ratio20": volume / pd.Series(volume).rolling(20).mean().to_numpy(),
        "zscore_20": ((series - series.rolling(20).mean()) / series.rolling(20).std(ddof=1)).to_numpy(),
    }
    for window in (5, 10, 20, 60):
        mean = series.rolling(window).mean()
        columns[f"ma{window}rocp"] = (10 * (mean / mean.shift(1) - 1)).to_numpy()
    for window in (6, 12, 24):
        columns[f"rsi{window}"] = talib.RSI(close, window)
    return pd.DataFrame(columns, index=bars.index)


def resample(bars: pd.DataFrame, step: int) -> pd.DataFrame:
    """Bars of a longer interval; buckets (a, b] by close."""
    bucket = -(-bars.index.to_numpy() // step) * step
    grouped = bars.groupby(bucket)
    return pd.DataFrame(
        {
            "open": grouped["open"].first(),
            "high": grouped["high"].max(),
            "low": grouped["low"].min(),
            "close": grouped["close"].last(),
            "volume": grouped["volume"].sum(),
        }
    )


def cross_rank(columns: Mapping[str, pd.Series]) -> pd.DataFrame:
    """Rank across symbols at each ts, scaled to [0, 1], ties averaged; a lone symbol is in the middle."""
    panel = pd.DataFrame(columns)
    ranks = panel.rank(axis=1, method="average")
    count = panel.notna().sum(axis=1)
    scaled = (ranks.sub(1)).div((count - 1).where(count > 1), axis=0)
    return scaled.where(count.gt(1), 0.5).where(panel.notna())


def worst(got: np.ndarray, want: np.ndarray) -> float:
    """Largest relative difference, with a floor of 1e-3 of the column's standard deviation."""
    floor = 1e-3 * np.nanstd(want)
    return float(np.max(np.abs(got - want) / np.maximum(np.abs(want), max(floor, 1e-300)), initial=0.0))
