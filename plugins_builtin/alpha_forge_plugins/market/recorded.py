"""Files of recorded bars: which file belongs to which symbol, and how it is read. No clock, no event loop.

One rule for names, so that nobody has to guess: a file is ``SYMBOL<sep>INTERVAL[<sep>REST].EXTENSION``, where

- SYMBOL is spelt ``BTCUSDT``, ``BTC_USDT``, ``BTC-USDT`` or, with its settlement coin, ``BTC_USDT_USDT``;
- ``<sep>`` is ``-`` or ``_``, INTERVAL the source's ``interval``;
- REST is a date (``2023-01`` or ``2023-01-31``: such files are read in their order) or any other words;
- EXTENSION is ``feather``, ``parquet``, ``csv`` or ``csv.gz``.

Two files that could both be meant (other extensions, other words, dated beside undated) are an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alpha_forge_sdk import Interval, SourceError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

EXTENSIONS = (".feather", ".parquet", ".csv", ".csv.gz")
TIME_COLUMNS = ("open_time", "timestamp", "date", "datetime")
"""Names of the column that holds the bar's OPEN; the first that is there. Others could mean its close."""
VALUE_COLUMNS = ("open", "high", "low", "close", "volume")

_SYMBOL = r"[A-Za-z0-9]+(?:[-_][A-Za-z0-9]+){0,2}"
_DATE = re.compile(r"\d{4}-\d{2}(?:-\d{2})?")
_NS = 1_000_000_000
# Digits of an instant of our time in s, ms, µs, ns, and what makes ns of it.
_UNITS = ((10**11, _NS), (10**14, 1_000_000), (10**17, 1_000), (2**63, 1))


@dataclass(frozen=True, slots=True)
class Recording:
    """Bars of one symbol, oldest first: closes (bars,) in ns, values (5, bars) open to volume."""

    symbol: str
    ts: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]


def spelt(text: str, symbol: str) -> bool:
    """Whether a file that calls itself `text` is about `symbol`: ``BTC_USDT_USDT`` is ``BTCUSDT``."""
    text = text.upper()
    parts = re.split("[-_]", text)
    if len(parts) == 3 and parts[1] == parts[2]:
        return symbol == parts[0] + parts[1]
    return symbol in (text, "".join(parts))


def find(path: str, universe: Sequence[str], interval: Interval) -> dict[str, list[Path]]:
    """The files of each symbol, in the order in which they are read.

    `path` is a directory, or a pattern with ``{symbol}`` and, if wanted, ``{interval}`` and ``*``. Raises
    SourceError AF5010 for a missing file, AF5011 for an ambiguous one.
    """
    named = list(_candidates(path, interval))
    found: dict[str, list[Path]] = {}
    for symbol in universe:
        mine = [(file, words) for file, text, words in named if spelt(text, symbol)]
        if not mine:
            raise SourceError(
                "AF5010",
                f"{path}: no file of {interval} bars for {symbol}" + _seen(named),
                "name it like BTCUSDT-1h.feather, BTC_USDT_1h.csv.gz or BTCUSDT-1h-2023-01.csv, or give a "
                "pattern such as data/{symbol}.csv",
            )
        if len(mine) > 1 and not all(_DATE.fullmatch(words) for _, words in mine):
            raise _ambiguous(path, symbol, [file for file, _ in mine])
        mine.sort(key=lambda pair: pair[1])
        if len({words for _, words in mine}) != len(mine):
            raise _ambiguous(path, symbol, [file for file, _ in mine])
        found[symbol] = [file for file, _ in mine]
    return found


def _ambiguous(path: str, symbol: str, files: list[Path]) -> SourceError:
    return SourceError(
        "AF5011",
        f"{path}: {len(files)} files could be {symbol}: {', '.join(file.name for file in files[:4])}",
        "leave one of them, or narrow `path` to a pattern such as data/{symbol}-1h-futures.feather",
    )


def _seen(named: Iterable[tuple[Path, str, str]]) -> str:
    names = sorted({text for _, text, _ in named})
    return f"; there are files for {', '.join(names[:8])}" if names else "; there is none for any symbol"


def _candidates(path: str, interval: Interval) -> Iterable[tuple[Path, str, str]]:
    """(file, the symbol as it is spelt there, the remaining words) of every file that fits `path`."""
    if "{symbol}" in path:
        yield from _by_pattern(path, interval)
        return
    folder = Path(path)
    if not folder.is_dir():
        raise SourceError(
            "AF5010",
            f"{path} is no directory, and no pattern with {{symbol}} either",
            "give a directory of recorded bars, or a pattern such as data/{symbol}-1h.feather",
        )
    extensions = "|".join(re.escape(extension) for extension in EXTENSIONS)
    form = re.compile(rf"({_SYMBOL})[-_]{interval.name}(?:[-_](.+?))?(?:{extensions})")
    for file in sorted(folder.iterdir()):
        match = form.fullmatch(file.name)
        if match is not None:
            yield file, match[1], match[2] or ""


def _by_pattern(path: str, interval: Interval) -> Iterable[tuple[Path, str, str]]:
    pattern = path.replace("{interval}", interval.name)
    first, rest = pattern.split("{symbol}", 1)
    folder = Path(first).parent if not first.endswith("/") else Path(first)
    relative = (Path(first).name if not first.endswith("/") else "") + "{symbol}" + rest
    glob = relative.replace("[", "[[]").replace("?", "[?]").replace("{symbol}", "*")
    form = re.escape(relative).replace(r"\{symbol\}", f"({_SYMBOL})", 1).replace(r"\{symbol\}", r"\1")
    regex = re.compile(form.replace(r"\*", r"([^/]*)"))
    for file in sorted(folder.glob(glob)):
        match = regex.fullmatch(file.relative_to(folder).as_posix())
        if match is not None and file.name.endswith(EXTENSIONS):
            words = "-".join(match.groups()[1:])
            dated = _DATE.search(words)
            yield file, match[1], dated[0] if dated else words


def read(symbol: str, files: Sequence[Path], interval: Interval) -> Recording:
    """The bars of one symbol from its files, checked row by row.

    Raises SourceError AF5012 for a file that can't be read, AF5013 for missing columns, AF5014 for a row off
    the grid, AF5015 for rows out of order or twice, AF5016 for a value that is no finite number.
    """
    import numpy as np

    parts = [_read_file(file, interval) for file in files]
    for (before, after), files_of in zip(pairwise(parts), pairwise(files), strict=True):
        if len(before[0]) and len(after[0]) and after[0][0] <= before[0][-1]:
            raise _disorder(
                files_of[1], 1, "begins before the file ahead of it ends", f"({files_of[0].name})"
            )
    ts = np.concatenate([ts for ts, _ in parts])
    values = np.concatenate([values for _, values in parts], axis=1)
    return Recording(symbol, ts, np.ascontiguousarray(values))


def _read_file(file: Path, interval: Interval) -> tuple[Any, Any]:
    import numpy as np

    table = _table(file)
    time = next((name for name in TIME_COLUMNS if name in table.column_names), None)
    lacking = [name for name in VALUE_COLUMNS if name not in table.column_names]
    if time is None or lacking:
        what = ", ".join([*(["a time column"] if time is None else []), *lacking])
        raise SourceError(
            "AF5013",
            f"{file}: lacks {what}; it has {', '.join(table.column_names[:12])}",
            f"it takes one of {', '.join(TIME_COLUMNS)} (when the bar opens), and {', '.join(VALUE_COLUMNS)}",
        )
    values = np.vstack([_numbers(file, table, name) for name in VALUE_COLUMNS])
    ts = _opens(file, table, time) + interval.ns
    _check(file, ts, values, interval)
    return ts, values


def _table(file: Path) -> Any:
    import pyarrow as pa
    from pyarrow import csv, feather, parquet

    try:
        if file.suffix == ".feather":
            return feather.read_table(file)
        if file.suffix == ".parquet":
            return parquet.read_table(file)
        with pa.input_stream(str(file)) as stream:  # takes .gz by its name
            text = stream.read()
        # The exchange's own archive has files without a header: twelve columns, the first one a number.
        if not text[:1].isdigit():
            return csv.read_csv(pa.BufferReader(text))
        width = text.split(b"\n", 1)[0].count(b",") + 1
        columns = ["open_time", *VALUE_COLUMNS, *(f"column_{i}" for i in range(7, width + 1))][:width]
        return csv.read_csv(pa.BufferReader(text), csv.ReadOptions(column_names=columns))
    except (pa.ArrowException, OSError, EOFError) as error:
        raise SourceError(
            "AF5012",
            f"{file} can't be read: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            "it is damaged, or not what its extension says; fetch or write it again",
        ) from None


def _numbers(file: Path, table: Any, name: str) -> Any:
    import pyarrow as pa

    try:
        return table[name].cast(pa.float64()).to_numpy()
    except pa.ArrowException:
        raise SourceError(
            "AF5016",
            f"{file}: column {name} holds {table[name].type}, which are not all numbers",
            "prices and volume are numbers with a decimal point",
        ) from None


def _opens(file: Path, table: Any, name: str) -> Any:
    """The time column as ns: timestamps as they are (UTC if they name no zone), integers by their digits."""
    import numpy as np
    import pyarrow as pa

    column = table[name]
    if column.null_count:
        raise SourceError("AF5016", f"{file}: column {name} has empty rows", "remove those rows")
    try:
        if pa.types.is_string(column.type):
            column = column.cast(pa.timestamp("ns"))
        if pa.types.is_timestamp(column.type):
            return column.cast(pa.timestamp("ns", column.type.tz)).cast(pa.int64()).to_numpy()
        raw = column.cast(pa.int64()).to_numpy()
    except pa.ArrowException as error:
        raise SourceError(
            "AF5016",
            f"{file}: column {name} holds no instants: {error}",
            "write them as ISO 8601 or ms since 1970",
        ) from None
    if not len(raw):
        return raw
    scale = next(scale for limit, scale in _UNITS if int(np.abs(raw).max()) < limit)
    return raw.astype(np.int64) * scale


def _check(file: Path, ts: Any, values: Any, interval: Interval) -> None:
    import numpy as np

    unsound = np.flatnonzero(~np.isfinite(values).all(axis=0))
    if len(unsound):
        raise SourceError(
            "AF5016",
            f"{file}, row {unsound[0] + 1}: a value is missing or not finite ({len(unsound)} such rows)",
            "remove the row: a gap is the truth, an invented price is not",
        )
    off = np.flatnonzero((ts - interval.offset) % interval.ns != 0)
    if len(off):
        opens = np.datetime64(int(ts[off[0]] - interval.ns), "ns")
        raise SourceError(
            "AF5014",
            f"{file}, row {off[0] + 1}: a bar opens at {opens}Z off the grid of {interval} ({len(off)} rows)",
            f"these should be bars of {interval}, their time the open in UTC; remove stray rows",
        )
    steps = np.flatnonzero(np.diff(ts) <= 0)
    if len(steps):
        double = ts[steps[0]] == ts[steps[0] + 1]
        raise _disorder(
            file,
            int(steps[0]) + 2,
            "repeats the row before it" if double else "is older than the row before it",
        )


def _disorder(file: Path, row: int, what: str, where: str = "") -> SourceError:
    return SourceError(
        "AF5015",
        f"{file}, row {row}: {what} {where}".rstrip(),
        "sort the rows by time and leave each bar once",
    )
