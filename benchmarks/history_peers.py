"""F12 over whole histories by others: ``python -m benchmarks.history_peers WAY BARS FOUND``, a child of ``history``.

Reads bars (bars, 5, symbols) from BARS, writes the sampled rows' values (14, samples, symbols) to FOUND, prints seconds
and peak memory as JSON. Runs in either environment, imports nothing of the product, and libraries where they are used.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]

FIRST_SAMPLE = 3000
SAMPLES = 200
NAMES = ("high", "low", "close")


def samples(rows: int) -> npt.NDArray[np.int64]:
    """The rows at which answers are compared, the last one among them."""
    return np.unique(np.linspace(min(FIRST_SAMPLE, rows - 1), rows - 1, SAMPLES).astype(np.int64))


def peak_bytes() -> int:
    """The largest resident set so far."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class Bars:
    """high, low, close (symbols, bars), contiguous."""

    def __init__(self, path: str) -> None:
        values = np.load(path, mmap_mode="r")
        self.columns = {
            name: np.ascontiguousarray(values[:, k].T) for name, k in zip(NAMES, (1, 2, 3), strict=True)
        }
        self.symbols, self.rows = self.columns["close"].shape
        self.sampled = samples(self.rows)

    def first(self, rows: int) -> Bars:
        """The first rows alone."""
        made = Bars.__new__(Bars)
        made.columns = {name: column[:, :rows].copy() for name, column in self.columns.items()}
        made.symbols, made.rows = made.columns["close"].shape
        made.sampled = samples(made.rows)
        return made


def by_talib(bars: Bars) -> Float:
    """Symbol by symbol."""
    from benchmarks.feature_peers import by_talib as columns_of

    found = np.empty((14, len(bars.sampled), bars.symbols))
    for s in range(bars.symbols):
        columns = columns_of(*(bars.columns[name][s] for name in ("close", "high", "low")))
        found[:, :, s] = [column[bars.sampled] for column in columns]
    return found


def by_pandas(bars: Bars) -> Float:
    """Symbol by symbol."""
    import pandas as pd

    from benchmarks.feature_peers import pandas_columns

    found = np.empty((14, len(bars.sampled), bars.symbols))
    for s in range(bars.symbols):
        frame = pd.DataFrame({name: column[s] for name, column in bars.columns.items()})
        found[:, :, s] = [column.to_numpy()[bars.sampled] for column in pandas_columns(frame)]
    return found


def by_pandas_groupby(bars: Bars) -> Float:
    """One long frame, each column by groupby."""
    import pandas as pd

    symbol = np.repeat(np.arange(bars.symbols), bars.rows)
    frame = pd.DataFrame({name: column.ravel() for name, column in bars.columns.items()})
    grouped = frame.groupby(symbol, sort=False)
    close = frame["close"]
    change = grouped["close"].diff()
    columns = [grouped["close"].pct_change(w) for w in (20, 60)]
    parts = {"up": change.clip(lower=0.0), "down": -change.clip(upper=0.0)}
    wilder = pd.DataFrame(parts).groupby(symbol, sort=False)
    for w in (6, 12, 24):
        average = wilder.ewm(alpha=1.0 / w, adjust=False).mean().droplevel(0)
        columns.append(100.0 * average["up"] / (average["up"] + average["down"]))
    for w in (5, 10, 20, 60):
        mean = grouped["close"].rolling(w).mean().droplevel(0)
        columns.append(mean.groupby(symbol, sort=False).pct_change() * 10.0)
    for w in (20, 60):
        columns.append((grouped["high"].rolling(w).max().droplevel(0) - close) / close)
        columns.append((close - grouped["low"].rolling(w).min().droplevel(0)) / close)
    returns = grouped["close"].pct_change()
    columns.append(returns.groupby(symbol, sort=False).rolling(20).std().droplevel(0))
    shape = (bars.symbols, bars.rows)
    return np.stack([c.to_numpy().reshape(shape)[:, bars.sampled].T for c in columns])


def by_polars(bars: Bars) -> Float:
    """One long frame, all columns as expressions over the symbols, on all cores."""
    import polars as pl

    from benchmarks.polars_f12 import expressions

    symbol = np.repeat(np.arange(bars.symbols, dtype=np.int32), bars.rows)
    frame = pl.DataFrame({"symbol": symbol} | {n: column.ravel() for n, column in bars.columns.items()})
    named = [e.over("symbol").alias(f"c{k}") for k, e in enumerate(expressions())]
    made = frame.select(named)
    shape = (bars.symbols, bars.rows)
    return np.stack([made[f"c{k}"].to_numpy().reshape(shape)[:, bars.sampled].T for k in range(14)])


def by_polars_per_symbol(bars: Bars) -> Float:
    """A frame for each symbol."""
    import polars as pl

    from benchmarks.polars_f12 import expressions

    named = [e.alias(f"c{k}") for k, e in enumerate(expressions())]
    found = np.empty((14, len(bars.sampled), bars.symbols))
    for s in range(bars.symbols):
        made = pl.DataFrame({name: column[s] for name, column in bars.columns.items()}).select(named)
        found[:, :, s] = [made[f"c{k}"].to_numpy()[bars.sampled] for k in range(14)]
    return found


def by_fused(bars: Bars) -> Float:
    """The limit: one compiled loop, in pieces whose results stay near the processor."""
    from benchmarks.limit import Fused

    fused = Fused(*(bars.columns[name] for name in NAMES))
    found = np.empty((14, len(bars.sampled), bars.symbols))
    for first in range(0, bars.rows, PIECE):
        stop = min(first + PIECE, bars.rows)
        made = fused.advance(first, stop)
        here = (bars.sampled >= first) & (bars.sampled < stop)
        found[:, here] = made[:, :, bars.sampled[here] - first].transpose(0, 2, 1)
    return found


PIECE = 4096

WAYS: dict[str, Callable[[Bars], Float]] = {
    "the limit: one fused loop, compiled": by_fused,
    "TA-Lib, symbol by symbol": by_talib,
    "polars, over the symbols": by_polars,
    "polars, symbol by symbol": by_polars_per_symbol,
    "pandas, symbol by symbol": by_pandas,
    "pandas, groupby": by_pandas_groupby,
}
OUTSIDE = ("polars, over the symbols", "polars, symbol by symbol")


def main() -> None:
    name, path, found = sys.argv[1:]
    bars, way = Bars(path), WAYS[name]
    way(bars.first(500))  # imports, and what is compiled
    start = time.perf_counter()
    values = way(bars)
    seconds = time.perf_counter() - start
    np.save(found, values)
    print(json.dumps({"seconds": seconds, "peak": peak_bytes()}))


if __name__ == "__main__":
    main()
