"""F12 of one new bar as others would compute it, in this process. Each gives (14, symbols), in the order of COLUMNS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
import talib

from benchmarks.market import Bars, Float

TAIL = 600
"""Bars that recompute-the-tail designs read: Wilder's average of 24 bars has forgotten 1e-11 of its start by then."""

HIGH, LOW, CLOSE = 1, 2, 3


class Contender(Protocol):
    """Has seen the bars before `first`; `step` takes the next one of all its symbols."""

    def step(self, bar: int) -> Float:
        """(14, symbols) at `bar`."""


def by_talib(close: Float, high: Float, low: Float) -> list[Float]:
    """Fourteen columns of one symbol, each (bars,): what all others are compared with."""
    columns = [talib.ROCP(close, 20), talib.ROCP(close, 60)]
    columns += [talib.RSI(close, w) for w in (6, 12, 24)]
    columns += [talib.ROCP(talib.SMA(close, w), 1) * 10.0 for w in (5, 10, 20, 60)]
    for w in (20, 60):
        columns += [(talib.MAX(high, w) - close) / close, (close - talib.MIN(low, w)) / close]
    # Its STDDEV is the population's.
    returns = talib.ROCP(close, 1)
    columns.append(talib.STDDEV(returns, 20, 1.0) * np.sqrt(20.0 / 19.0))
    return columns


def truth(bars: Bars, symbols: Sequence[int]) -> Float:
    """(14, bars, len(symbols)) over the whole history."""
    high, low, close = (bars.of_symbol(k) for k in (HIGH, LOW, CLOSE))
    found = [np.stack(by_talib(close[s], high[s], low[s])) for s in symbols]
    return np.stack(found, axis=2)


class TalibTail:
    """TA-Lib over the last bars of each symbol, again for each bar."""

    def __init__(self, bars: Bars, symbols: Sequence[int]) -> None:
        self._columns = tuple(bars.of_symbol(k) for k in (CLOSE, HIGH, LOW))
        self._symbols = symbols

    def step(self, bar: int) -> Float:
        close, high, low = self._columns
        tail = slice(bar + 1 - TAIL, bar + 1)
        out = np.empty((14, len(self._symbols)))
        for i, s in enumerate(self._symbols):
            out[:, i] = [c[-1] for c in by_talib(close[s, tail], high[s, tail], low[s, tail])]
        return out


class TalibHandles:
    """TA-Lib's streaming handles (0.8): one running state for each indicator and symbol."""

    def __init__(self, bars: Bars, symbols: Sequence[int], first: int) -> None:
        import talib._ta_lib as module

        t: Any = module
        self._columns = tuple(bars.of_symbol(k) for k in (CLOSE, HIGH, LOW))
        self._symbols = symbols
        self._states = []
        for s in symbols:
            close, high, low = (np.ascontiguousarray(c[s, :first]) for c in self._columns)
            # The handles don't take the NaN that a return has first.
            returns = np.ascontiguousarray(talib.ROCP(close, 1)[1:])
            self._states.append(
                (
                    [t.ROCP_Stream(close, timeperiod=w) for w in (20, 60)]
                    + [t.RSI_Stream(close, timeperiod=w) for w in (6, 12, 24)],
                    [t.SMA_Stream(close, timeperiod=w) for w in (5, 10, 20, 60)],
                    [float(talib.SMA(close, w)[-1]) for w in (5, 10, 20, 60)],
                    [(t.MAX_Stream(high, timeperiod=w), t.MIN_Stream(low, timeperiod=w)) for w in (20, 60)],
                    t.STDDEV_Stream(returns, timeperiod=20, nbdev=1.0),
                )
            )

    def step(self, bar: int) -> Float:
        closes, highs, lows = self._columns
        out = np.empty((14, len(self._symbols)))
        sample = (20.0 / 19.0) ** 0.5
        for i, s in enumerate(self._symbols):
            close, high, low = float(closes[s, bar]), float(highs[s, bar]), float(lows[s, bar])
            plain, averages, means, levels, deviation = self._states[i]
            values = [handle.update(close) for handle in plain]
            for k, handle in enumerate(averages):
                mean = handle.update(close)
                values.append((mean / means[k] - 1.0) * 10.0)
                means[k] = mean
            for highest, lowest in levels:
                values.append((highest.update(high) - close) / close)
                values.append((close - lowest.update(low)) / close)
            values.append(deviation.update(close / float(closes[s, bar - 1]) - 1.0) * sample)
            out[:, i] = values
        return out


class PandasTail:
    """pandas over the last bars of each symbol, again for each bar."""

    def __init__(self, bars: Bars, symbols: Sequence[int]) -> None:
        columns = [bars.of_symbol(k) for k in (HIGH, LOW, CLOSE)]
        self._symbols = symbols
        self._frames = {
            s: pd.DataFrame({"high": columns[0][s], "low": columns[1][s], "close": columns[2][s]})
            for s in symbols
        }

    def step(self, bar: int) -> Float:
        out = np.empty((14, len(self._symbols)))
        for i, s in enumerate(self._symbols):
            frame = self._frames[s].iloc[bar + 1 - TAIL : bar + 1]
            out[:, i] = [float(c.iloc[-1]) for c in pandas_columns(frame)]
        return out


def pandas_columns(frame: pd.DataFrame) -> list[pd.Series]:
    """Fourteen columns of one symbol's high, low and close."""
    close = frame["close"]
    columns = [close.pct_change(20), close.pct_change(60)]
    change = close.diff()
    up, down = change.clip(lower=0.0), -change.clip(upper=0.0)
    for w in (6, 12, 24):
        gain = up.ewm(alpha=1.0 / w, adjust=False).mean()
        loss = down.ewm(alpha=1.0 / w, adjust=False).mean()
        columns.append(100.0 * gain / (gain + loss))
    columns += [close.rolling(w).mean().pct_change() * 10.0 for w in (5, 10, 20, 60)]
    for w in (20, 60):
        columns.append((frame["high"].rolling(w).max() - close) / close)
        columns.append((close - frame["low"].rolling(w).min()) / close)
    columns.append(close.pct_change().rolling(20).std())
    return columns


class NumpyAcross:
    """Plain NumPy across the symbols: windows read again, Wilder's averages kept running."""

    def __init__(self, bars: Bars, first: int) -> None:
        self._high, self._low, self._close = (bars.column(k) for k in (HIGH, LOW, CLOSE))
        self._averages: list[list[Float]] = []
        change = np.diff(self._close[:first], axis=0)
        up, down = np.maximum(change, 0.0), np.maximum(-change, 0.0)
        for w in (6, 12, 24):
            gain, loss = up[:w].mean(axis=0), down[:w].mean(axis=0)
            for k in range(w, len(change)):
                gain, loss = (gain * (w - 1) + up[k]) / w, (loss * (w - 1) + down[k]) / w
            self._averages.append([gain, loss])

    def step(self, bar: int) -> Float:
        window = self._close[bar - 60 : bar + 1]
        close = window[-1]
        out = np.empty((14, len(close)))
        out[0], out[1] = close / window[-21] - 1.0, close / window[0] - 1.0
        change = close - window[-2]
        up, down = np.maximum(change, 0.0), np.maximum(-change, 0.0)
        for k, w in enumerate((6, 12, 24)):
            gain, loss = self._averages[k]
            gain *= w - 1
            gain += up
            gain /= w
            loss *= w - 1
            loss += down
            loss /= w
            out[2 + k] = 100.0 * gain / (gain + loss)
        for k, w in enumerate((5, 10, 20, 60)):
            inner = window[-w:-1].sum(axis=0)
            out[5 + k] = ((inner + close) / (inner + window[-w - 1]) - 1.0) * 10.0
        for k, w in enumerate((20, 60)):
            out[9 + 2 * k] = (self._high[bar + 1 - w : bar + 1].max(axis=0) - close) / close
            out[10 + 2 * k] = (close - self._low[bar + 1 - w : bar + 1].min(axis=0)) / close
        returns = window[-20:] / window[-21:-1] - 1.0
        out[13] = returns.std(axis=0, ddof=1)
        return out
