"""The market of a run, what momentum makes of it, and what the destinations hold. Imports nothing of the product."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import sqlite3
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

MINUTE = 60 * 10**9
FIRST = 1_767_571_200 * 10**9
"""Open of the first recorded bar: 2026-01-05T00:00Z."""

WINDOW = 20
PAST = 60
"""Recorded bars before the exchange's clock starts."""

RECORDED = 6_000
COLUMNS = ("ts", "symbol", "prediction", "frame", "column", "dag_name", "metadata")
FRAME, COLUMN, NAME = "ohlcv", "mom_20", "chaos"
WORDS = [FRAME, COLUMN, NAME, "{}"]

Key = tuple[str, int]
"""Symbol, and close in ns since the epoch."""


@dataclass(frozen=True)
class Stored:
    """What one destination holds: (symbol, ts, bits of the value) of each whole record in its order, and how many are
    not whole."""

    records: Sequence[tuple[str, int, int]]
    torn: int = 0


@dataclass(frozen=True)
class Market:
    """Closes in whole cents, (symbols, bars); a minute each from `FIRST` on."""

    names: tuple[str, ...]
    cents: np.ndarray = field(repr=False)

    @classmethod
    def make(cls, seed: int, symbols: int) -> Market:
        rng = np.random.default_rng([seed, 5])
        steps = rng.normal(0, 0.002, (symbols, RECORDED))
        prices = 10 ** rng.uniform(1, 5, (symbols, 1)) * np.exp(np.cumsum(steps, axis=1))
        names = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "LINKUSDT", "AVAXUSDT")[:symbols]
        return cls(names, np.maximum(1, np.round(prices * 100)).astype(np.int64))

    def write(self, folder: Path) -> None:
        """A kline file a symbol, as the sandbox reads them."""
        folder.mkdir(parents=True)
        for name, cents in zip(self.names, self.cents.tolist(), strict=True):
            lines = ["open_time,open,high,low,close,volume"]
            before = cents[0]
            for row, close in enumerate(cents):
                texts = (_decimal(v) for v in (before, max(before, close), min(before, close), close))
                lines.append(f"{(FIRST + row * MINUTE) // 1_000_000},{','.join(texts)},{1 + row % 7}")
                before = close
            (folder / f"{name.removesuffix('USDT')}_USDT_1m.csv").write_text("\n".join(lines) + "\n")

    def predictions(self) -> dict[Key, int]:
        """close[t] / close[t - WINDOW] - 1 of every close that has it, as bits."""
        found = {}
        for name, cents in zip(self.names, self.cents.tolist(), strict=True):
            closes = [float(_decimal(value)) for value in cents]
            for row in range(WINDOW, RECORDED):
                value = closes[row] / closes[row - WINDOW] - 1.0
                found[name, FIRST + (row + 1) * MINUTE] = bits_of(value)
        return found


@dataclass
class Verdict:
    """One destination beside the truth, in records."""

    stored: int = 0
    lost: int = 0
    duplicated: int = 0
    torn: int = 0
    wrong: int = 0
    """Another value than the bar's, by a bit."""
    invented: int = 0
    unordered: int = 0
    """Of one symbol, earlier than the record before it."""
    first_lost: str = ""

    @property
    def faults(self) -> dict[str, object]:
        found = dict(vars(self))
        del found["stored"]
        return {name: count for name, count in found.items() if count}


def judge(stored: Stored, truth: Mapping[Key, int], after: int, until: Mapping[str, int]) -> Verdict:
    """Every record of `truth` with ``after < ts <= until[symbol]`` exactly once, to the bit, and no other."""
    wanted = {key for key in truth if after < key[1] <= until.get(key[0], 0)}
    counts = Counter((symbol, ts) for symbol, ts, _ in stored.records)
    newest: dict[str, int] = {}
    unordered = 0
    lost = sorted((ts, symbol) for symbol, ts in wanted - counts.keys())
    for symbol, ts, _ in stored.records:
        unordered += ts < newest.get(symbol, 0)
        newest[symbol] = ts
    return Verdict(
        stored=len(stored.records),
        lost=len(lost),
        first_lost=", ".join(f"{symbol} @ {(ts - FIRST) // MINUTE}" for ts, symbol in (lost[:1] + lost[-1:])),
        duplicated=sum(counts.values()) - len(counts),
        torn=stored.torn,
        wrong=sum(truth.get((s, ts), bits) != bits for s, ts, bits in stored.records),
        invented=len(counts.keys() - wanted),
        unordered=unordered,
    )


def newest_of(every: Iterable[Stored]) -> dict[str, int]:
    """The last close of each symbol that any of them holds."""
    newest: dict[str, int] = {}
    for stored in every:
        for symbol, ts, _ in stored.records:
            newest[symbol] = max(ts, newest.get(symbol, 0))
    return newest


def bits_of(value: float) -> int:
    bits: int = struct.unpack("<Q", struct.pack("<d", value))[0]
    return bits


def nanoseconds(text: str) -> int:
    """Of an ISO 8601 text in UTC."""
    moment = dt.datetime.fromisoformat(text)
    assert moment.utcoffset() == dt.timedelta(0), text
    return (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1) * 1000


# The destinations, read without the sinks that filled them.


def read_csv(path: Path) -> Stored:
    """A row that lacks its line break, a field or a readable value is torn; a second header is a torn row, too."""
    data = path.read_bytes() if path.exists() else b""
    whole, _, rest = data.rpartition(b"\n")
    rows = list(csv.reader(io.StringIO(whole.decode(), newline="")))
    if not rows:
        return Stored((), torn=bool(rest))
    return _rows((row for row in rows[1:]), torn=bool(rest) + (tuple(rows[0]) != COLUMNS))


def read_sqlite(path: Path) -> Stored:
    """In the order of ids. A damaged file raises sqlite3.DatabaseError."""
    if not path.exists():
        return Stored(())
    database = sqlite3.connect(path)
    try:
        (fine,) = database.execute("PRAGMA integrity_check").fetchone()
        assert fine == "ok", f"{path.name}: {fine}"
        columns = ", ".join(f'"{name}"' for name in COLUMNS)
        return _rows(database.execute(f"SELECT {columns} FROM predictions ORDER BY id").fetchall())
    finally:
        database.close()


def read_clickhouse(query: Callable[[str], str], table: str) -> Stored:
    """`query` sends a statement and returns its answer."""
    answer = query(
        f"SELECT symbol, toUnixTimestamp64Nano(CAST(ts, 'DateTime64(9, \\'UTC\\')')), "
        f"reinterpretAsUInt64(prediction), frame, column, dag_name, metadata FROM {table} FINAL "
        "ORDER BY symbol, ts FORMAT JSONCompactEachRowWithNames "
        "SETTINGS output_format_json_quote_64bit_integers = 0"
    )
    found, torn = [], 0
    for symbol, ts, bits, *words in map(json.loads, answer.splitlines()[1:]):
        torn += words != WORDS
        found.append((symbol, ts, bits))
    return Stored(found, torn)


def read_dynamodb(client: Any, table: str) -> Stored:
    """By key, so that the order of one symbol is that of its closes. `client` is boto3's."""
    found, torn = [], 0
    for page in client.get_paginator("scan").paginate(TableName=table, ConsistentRead=True):
        for item in page["Items"]:
            values = {name: next(iter(typed.values())) for name, typed in item.items()}
            words = [values.get(name) for name in COLUMNS[3:6]] + ["{}"]
            if words != WORDS or set(values) - set(COLUMNS):
                torn += 1
                continue
            found.append((values["symbol"], nanoseconds(values["ts"]), bits_of(float(values["prediction"]))))
    return Stored(sorted(found), torn)


def read_replay(path: Path) -> Stored:
    """The table that ``alpha_forge replay --out`` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [(r["ts"], r["symbol"], r["prediction"], *WORDS) for r in csv.DictReader(file)]
    return _rows(rows)


def _rows(rows: Iterable[Sequence[Any]], torn: int = 0) -> Stored:
    """`rows` have `COLUMNS`."""
    found = []
    for row in rows:
        try:
            ts, symbol, value, *words = row
            record = symbol, nanoseconds(ts), bits_of(float(value))
        except (ValueError, TypeError):
            torn += 1
            continue
        torn += words != WORDS
        found.append(record)
    return Stored(found, torn)


# The delivery log, read without the program that wrote it.


def log_newest(path: Path) -> dict[str, int]:
    """The newest ts of each symbol in the log; empty while there is none, or nobody may read it."""
    if not path.exists():
        return {}
    try:
        database = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)
        try:
            rows = database.execute(
                "SELECT name, max(ts) FROM (SELECT symbol, ts FROM newest UNION ALL SELECT symbol, ts FROM records) "
                "JOIN symbols ON symbols.id = symbol GROUP BY name"
            ).fetchall()
        finally:
            database.close()
    except sqlite3.OperationalError:
        return {}
    return dict(rows)


def log_left(path: Path) -> dict[str, int]:
    """Dead letters, contradictions, and records that sinks still lack."""
    database = sqlite3.connect(path, timeout=5)
    try:
        count = {name: database.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
                 for name in ("dead_letters", "conflicts")}  # fmt: skip
        (waiting,) = database.execute(
            "SELECT count(*) FROM sinks JOIN records ON records.stream = sinks.stream AND records.place > sinks.place"
        ).fetchone()
    finally:
        database.close()
    return {name: n for name, n in {**count, "waiting": waiting}.items() if n}


def _decimal(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"
