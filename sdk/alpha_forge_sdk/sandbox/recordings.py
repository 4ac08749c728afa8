"""Recorded klines on disk: which files hold what, and their rows as exact bar tables.

Read are Arrow feather files as `BTC_USDT_USDT-1h-futures.feather` and csv files (gzipped or not) as
`BTC_USDT_1h.csv.gz` or the archive's own `BTCUSDT-1h-2023-01.csv`, with or without a header.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.feather as pafeather
from numpy.typing import NDArray

from alpha_forge_sdk.sandbox import bars as tables
from alpha_forge_sdk.sandbox.bars import BarTable, Instrument
from alpha_forge_sdk.sandbox.intervals import SPOT_INTERVALS, floor_many
from alpha_forge_sdk.sandbox.payloads import ARCHIVE_COLUMNS

_MAX_DECIMALS: Final = 8
_ENDINGS: Final = (".feather", ".csv", ".csv.gz")
_PAIR = re.compile(r"([A-Z0-9]+)_([A-Z0-9]+)(?:_[A-Z0-9]+)?[-_](\d+[mhdwM]|1mo)(?:-[a-z]+)?")
_ARCHIVE = re.compile(r"([A-Z0-9]+)-(\d+[mhdwM]|1mo)(?:-\d{4}-\d{2}(?:-\d{2})?)?")
_TIME_NAMES: Final = ("open_time", "timestamp", "date")

#: What a file that does not say how many trades it saw is taken to have seen: one for so much turnover.
_TURNOVER_PER_TRADE: Final = 900.0

Floats = NDArray[np.float64]


class SandboxDataError(ValueError):
    """Recorded data that the sandbox can't play; the message says what, where and how to mend it."""


@dataclass(frozen=True, slots=True)
class _Columns:
    """One file's columns as floats; the optional ones are None where the file lacks them."""

    open_time: NDArray[np.int64]
    prices: Floats
    volume: Floats
    quote: Floats | None
    trades: Floats | None
    taker_base: Floats | None
    taker_quote: Floats | None


@dataclass(frozen=True, slots=True)
class Recording:
    """All that is recorded of one symbol: its grid and a bar table for each interval that has files."""

    instrument: Instrument
    intervals: dict[str, BarTable]


def parse_name(name: str) -> tuple[str, str] | None:
    """Symbol and interval from a file name: `("BTCUSDT", "1h")`; None if it names no klines."""
    for ending in sorted(_ENDINGS, key=len, reverse=True):
        if name.endswith(ending):
            stem = name.removesuffix(ending)
            break
    else:
        return None
    pair = _PAIR.fullmatch(stem)
    if pair:
        symbol, interval = pair[1] + pair[2], pair[3]
    else:
        archive = _ARCHIVE.fullmatch(stem)
        if archive is None:
            return None
        symbol, interval = archive[1], archive[2]
    interval = "1M" if interval == "1mo" else interval
    return (symbol, interval) if interval in SPOT_INTERVALS else None


def load(folder: Path) -> dict[str, Recording]:
    """Everything recorded under `folder`, by symbol in alphabetic order. Raises SandboxDataError."""
    if not folder.is_dir():
        raise SandboxDataError(f"{folder}: no such folder; --data takes a folder of kline files")
    found: dict[str, dict[str, list[_Columns]]] = {}
    for path in sorted(folder.rglob("*")):
        named = parse_name(path.name) if path.is_file() else None
        if named is not None:
            symbol, interval = named
            found.setdefault(symbol, {}).setdefault(interval, []).append(_read(path, interval))
    if not found:
        raise SandboxDataError(
            f"{folder}: no kline files in it; expected names as BTC_USDT_USDT-1h-futures.feather, "
            "BTC_USDT_1h.csv.gz or BTCUSDT-1h-2023-01.csv"
        )
    return {symbol: _record(symbol, found[symbol]) for symbol in sorted(found)}


def _read(path: Path, interval: str) -> _Columns:
    try:
        table = pafeather.read_table(path) if path.suffix == ".feather" else _read_csv(path)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise SandboxDataError(f"{path}: can't be read: {reason}; replace or remove the file") from None
    names = table.column_names
    time_name = next((name for name in _TIME_NAMES if name in names), None)
    missing = [name for name in ("open", "high", "low", "close", "volume") if name not in names]
    if time_name is None or missing:
        lacking = missing if time_name is not None else ["open_time", *missing]
        raise SandboxDataError(
            f"{path}: no column {', '.join(lacking)}; it has {', '.join(names)}; "
            "expected a time (open_time, timestamp or date), open, high, low, close, volume"
        )
    try:
        columns = _Columns(
            _times(table[time_name]),
            np.stack([_floats(table[name]) for name in ("open", "high", "low", "close")]),
            _floats(table["volume"]),
            *(
                _floats(table[name]) if name in names else None
                for name in ("quote_volume", "count", "taker_buy_volume", "taker_buy_quote_volume")
            ),
        )
    except (pa.ArrowException, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise SandboxDataError(
            f"{path}: a column is not numeric: {reason}; mend or remove the file"
        ) from None
    if len(columns.open_time) == 0:
        raise SandboxDataError(f"{path}: has no rows; remove the file")
    _check(path, interval, columns)
    return columns


def _read_csv(path: Path) -> Any:
    """The table of a csv file, which has a header unless its first cell is a number."""
    with pa.input_stream(str(path), compression="detect") as stream:
        first = bytes(stream.read(64)).split(b",")[0].strip()
    options = pacsv.ReadOptions(column_names=list(ARCHIVE_COLUMNS) if first.isdigit() else None)
    return pacsv.read_csv(path, read_options=options)


def _times(column: Any) -> NDArray[np.int64]:
    """Open times in milliseconds from a timestamp column, or from integers of milliseconds or
    microseconds."""
    if pa.types.is_timestamp(column.type):
        return np.asarray(column.cast(pa.timestamp("ms", tz=column.type.tz), safe=False).cast(pa.int64()))
    values: NDArray[np.int64] = np.asarray(column.cast(pa.int64()))
    # 13 digits are milliseconds, 16 microseconds, as in the archive's spot files from 2025 on.
    return np.where(values >= 10**15, values // 1000, values)


def _floats(column: Any) -> Floats:
    return np.asarray(column.cast(pa.float64()), dtype=np.float64)


def _check(path: Path, interval: str, columns: _Columns) -> None:
    """Refuse rows that no exchange makes: they would come back as puzzles far from here."""
    open_, high, low, close = columns.prices
    numbers = np.concatenate((columns.prices, columns.volume[None, :]))
    faults = (
        ("a number that is missing or not finite", ~np.isfinite(numbers).all(axis=0)),
        ("a price that is not above 0, or a volume below 0", (low <= 0) | (columns.volume < 0)),
        (
            "a high or low that is not the extreme",
            (high < np.maximum(open_, close)) | (low > np.minimum(open_, close)),
        ),
        (
            f"an open time off the {interval} grid",
            floor_many(columns.open_time, interval) != columns.open_time,
        ),
    )
    for what, bad in faults:
        if bad.any():
            row = int(np.argmax(bad))
            raise SandboxDataError(f"{path}: row {row + 1} has {what}; mend or remove the row")


def _record(symbol: str, found: dict[str, list[_Columns]]) -> Recording:
    pieces = [piece for group in found.values() for piece in group]
    price_decimals = _decimals(np.concatenate([piece.prices.ravel() for piece in pieces]))
    quantity_decimals = _decimals(np.concatenate([piece.volume for piece in pieces]))
    onboard = min(int(piece.open_time.min()) for piece in pieces)
    base, quote = tables.split_symbol(symbol)
    instrument = Instrument(symbol, base, quote, price_decimals, 1, quantity_decimals, onboard)
    joined = {interval: _join(group, instrument) for interval, group in found.items()}
    ordered = sorted(joined, key=SPOT_INTERVALS.index)
    return Recording(instrument, {interval: joined[interval] for interval in ordered})


def _decimals(values: Floats) -> int:
    """The fewest decimals that print all values without loss."""
    for decimals in range(_MAX_DECIMALS):
        scale = 10.0**decimals
        if bool((np.abs(np.rint(values * scale) / scale - values) <= 1e-11 * np.abs(values)).all()):
            return decimals
    return _MAX_DECIMALS


def _join(group: list[_Columns], instrument: Instrument) -> BarTable:
    """One table out of the files of an interval: ascending, the first file's row where two have the same
    time."""
    table = np.concatenate([_table(piece, instrument) for piece in group], axis=1)
    _, order = np.unique(table[tables.OPEN_TIME], return_index=True)
    table = np.ascontiguousarray(table[:, order])
    span = table[tables.TRADES] + table[tables.TRADES] // 128
    table[tables.END_ID] = 1_000_000_000 + np.cumsum(span)
    table[tables.FIRST_ID] = table[tables.END_ID] - span
    return table


def _table(columns: _Columns, instrument: Instrument) -> BarTable:
    """Integers from floats; what the file does not record is made up from what it does, always in the same
    way."""
    table = np.zeros((tables.COLUMNS, len(columns.open_time)), dtype=np.int64)
    table[tables.OPEN_TIME] = columns.open_time
    table[tables.OPEN : tables.CLOSE + 1] = np.rint(columns.prices * 10.0**instrument.price_decimals)
    table[tables.VOLUME] = np.rint(columns.volume * 10.0**instrument.quantity_decimals)
    product = 10.0**instrument.quote_decimals
    typical = table[tables.OPEN : tables.CLOSE + 1].sum(axis=0) // 4
    if columns.quote is not None:
        table[tables.QUOTE] = np.rint(columns.quote * product)
    else:
        table[tables.QUOTE] = table[tables.VOLUME] * typical
    traded = table[tables.VOLUME] > 0
    if columns.trades is not None:
        table[tables.TRADES] = np.rint(columns.trades)
    else:
        guess = np.rint(table[tables.QUOTE] / product / _TURNOVER_PER_TRADE).astype(np.int64)
        table[tables.TRADES] = np.where(traded, np.clip(guess, 1, table[tables.VOLUME]), 0)
    # A share between 0.4 and 0.6 out of the bits of the open minute: arbitrary, but never another on the next
    # run.
    mixed = (columns.open_time // 60_000).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    share = 0.4 + 0.2 * ((mixed >> np.uint64(40)).astype(np.float64) / 2.0**24)
    if columns.taker_base is not None and columns.taker_quote is not None:
        table[tables.TAKER_BASE] = np.rint(columns.taker_base * 10.0**instrument.quantity_decimals)
        table[tables.TAKER_QUOTE] = np.rint(columns.taker_quote * product)
    else:
        table[tables.TAKER_BASE] = np.floor(table[tables.VOLUME] * share)
        table[tables.TAKER_QUOTE] = np.floor(table[tables.QUOTE] * share)
    return table
