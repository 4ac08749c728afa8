"""A month of minutes as the bulk archive has it: a zipped CSV → closes and values."""

from __future__ import annotations

import csv
import io
import zipfile

import numpy as np

from alpha_forge_plugins.market.binance.archive import Bars, parse_csv, unzip
from alpha_forge_sdk import Interval
from benchmarks.results import CaseResult
from benchmarks.timing import in_turn, per_unit

OURS = "ours: unzipped within limits, and read"
UNZIP = "the limit: unzipped alone"
PYARROW = "pyarrow over zipfile, all columns"
PANDAS = "pandas over zipfile, the columns of a bar"
PLAIN = "the csv module over zipfile, floats"
MILLI = 1e3
ROWS = 44_640
MINUTE = 60_000
FIRST = 1_735_689_600_000
BASE = ("open_time", "open", "high", "low", "close", "volume")
NAMES = (*BASE, "close_time", "quote_volume", "count", "taker_buy_volume", "taker_buy_quote_volume", "ignore")


def run(*, quick: bool) -> CaseResult:
    """Milliseconds for a file of 31 days."""
    result = CaseResult("archive_month", f"an archive's month of {ROWS:,} rows, from its bytes", "ms", OURS)
    content = _month()
    interval = Interval.parse("1m")

    def ours() -> Bars:
        return parse_csv(unzip(content, 100_000_000), interval)

    ways = {OURS: ours, PYARROW: lambda: _pyarrow(content), PANDAS: lambda: _pandas(content)}
    ways |= {PLAIN: lambda: _plain(content)}
    ts, values = _plain(content)
    for name, way in ways.items():
        found_ts, found = way()
        off = float(np.abs(found - values).max() + np.abs(found_ts - ts).max())
        result.agree(name, "1m", off, 0.0)
    turns = {name: per_unit(way, 1) for name, way in (ways | {UNZIP: lambda: _unzipped(content)}).items()}
    for name, samples in in_turn(turns, 2 if quick else 15).items():
        result.add(name, "1m", samples, MILLI)
    return result


def _month() -> bytes:
    """As the archive writes it: a header, prices as decimals, twelve columns."""
    rng = np.random.default_rng(0)
    close = np.round(40_000 * np.exp(np.cumsum(rng.normal(0, 0.0005, ROWS))), 2)
    open_ = np.concatenate(([40_000.0], close[:-1]))
    high, low = np.maximum(open_, close) + 3.5, np.minimum(open_, close) - 3.5
    volume, count = np.round(rng.lognormal(3, 0.7, ROWS), 3), rng.integers(100, 5000, ROWS)
    text = io.StringIO()
    text.write(",".join(NAMES) + "\n")
    for k in range(ROWS):
        start = FIRST + k * MINUTE
        bar = f"{open_[k]:.2f},{high[k]:.2f},{low[k]:.2f},{close[k]:.2f},{volume[k]:.3f}"
        quote = f"{close[k] * volume[k]:.5f},{count[k]},{volume[k] / 2:.3f},{close[k] * volume[k] / 2:.5f},0"
        text.write(f"{start},{bar},{start + MINUTE - 1},{quote}\n")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("BTCUSDT-1m-2025-01.csv", text.getvalue())
    return file.getvalue()


def _unzipped(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.read(archive.namelist()[0])


def _closes(opens: np.ndarray) -> np.ndarray:
    return (opens + MINUTE) * 10**6


def _pyarrow(content: bytes) -> Bars:
    from pyarrow import csv as arrow

    table = arrow.read_csv(io.BytesIO(_unzipped(content)))
    values = np.vstack([table[name].to_numpy().astype(np.float64) for name in BASE[1:]])
    return _closes(table["open_time"].to_numpy()), values


def _pandas(content: bytes) -> Bars:
    import pandas as pd

    frame = pd.read_csv(io.BytesIO(_unzipped(content)), usecols=list(BASE), float_precision="round_trip")
    return _closes(frame["open_time"].to_numpy()), frame[list(BASE[1:])].to_numpy().T


def _plain(content: bytes) -> Bars:
    rows = csv.reader(io.StringIO(_unzipped(content).decode()))
    next(rows)
    ts, bars = [], []
    for row in rows:
        ts.append(int(row[0]))
        bars.append([float(field) for field in row[1:6]])
    return _closes(np.array(ts, np.int64)), np.array(bars).T
