"""The four sinks of files by name, and reading back what they stored as their users read it: by libraries alone."""

from __future__ import annotations

import csv
import json
import math
import sqlite3
import struct
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from alpha_forge_sdk import Prediction

SINKS = {
    "csv": "alpha_forge_plugins.sinks.csv_append:CSVAppendSink",
    "jsonl": "alpha_forge_plugins.sinks.jsonl:JSONLinesSink",
    "sqlite": "alpha_forge_plugins.sinks.sqlite:SQLiteSink",
    "parquet": "alpha_forge_plugins.sinks.parquet:ParquetSink",
}
NAMES = {"csv": "out.csv", "jsonl": "out.jsonl", "sqlite": "out.db", "parquet": "out"}
NAMED = ("frame", "column", "dag_name")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Stored = tuple[str, int, str, str]
"""Symbol, microseconds, bits of the value, metadata as sorted JSON."""


def sink(kind: str, path: Path, **params: Any) -> Any:
    module, _, name = SINKS[kind].partition(":")
    made = getattr(__import__(module, fromlist=[name]), name)
    return made(made.Params(path=str(path), **params))


def opened(kind: str, path: Path, **params: Any) -> Any:
    made = sink(kind, path, **params)
    made.open()
    return made


def store(kind: str, path: Path, *batches: Sequence[Prediction], **params: Any) -> None:
    """One life of a sink: open, emit each batch, close."""
    made = opened(kind, path, **params)
    try:
        for batch in batches:
            made.emit_batch(batch)
    finally:
        made.close()


def stored(p: Prediction) -> Stored:
    """What must be found of a record."""
    return _found(p.symbol, p.ts, float(p.value), dict(p.metadata))


def read(kind: str, path: Path) -> list[Stored]:
    """Everything that is at `path`, in its order. Raises whatever tells that something is torn."""
    return READERS[kind](path)


def _found(symbol: str, ts: datetime, value: float, metadata: dict[str, Any]) -> Stored:
    bits = "nan" if math.isnan(value) else struct.pack(">d", value).hex()
    return symbol, (ts - EPOCH) // timedelta(microseconds=1), bits, json.dumps(metadata, sort_keys=True)


def _row(ts: str, symbol: str, value: float, named: Sequence[str], metadata: str) -> Stored:
    kept = {k: t for k, t in zip(NAMED, named, strict=True) if t}
    return _found(symbol, datetime.fromisoformat(ts), value, {**kept, **json.loads(metadata)})


def _csv(path: Path) -> list[Stored]:
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, strict=True)
    assert header == ["ts", "symbol", "prediction", *NAMED, "metadata"]
    return [_row(ts, symbol, float(value), named, last) for ts, symbol, value, *named, last in rows]


def _jsonl(path: Path) -> list[Stored]:
    text = path.read_bytes().decode()
    assert text == "" or text.endswith("\n")
    found = []
    for line in text.split("\n")[:-1]:
        said = json.loads(line, parse_constant=lambda what: _no_json(what))
        named = {k: said[k] for k in NAMED if k in said}
        ts = datetime.fromisoformat(said["ts"])
        found.append(_found(said["symbol"], ts, said["prediction"], {**named, **said["metadata"]}))
    return found


def _no_json(what: str) -> None:
    raise AssertionError(f"{what} is no JSON")


def _sqlite(path: Path) -> list[Stored]:
    with closing(sqlite3.connect(path, timeout=10)) as database:
        query = (
            'SELECT ts, symbol, prediction, frame, "column", dag_name, metadata FROM predictions ORDER BY id'
        )
        rows = database.execute(query).fetchall()
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    return [_row(t, s, math.nan if v is None else v, named, last) for t, s, v, *named, last in rows]


def _parquet(path: Path) -> list[Stored]:
    import pyarrow.parquet

    found = []
    for file in sorted(path.glob("*.parquet")):
        table = pyarrow.parquet.read_table(file, use_threads=False)
        for row in table.to_pylist():
            named = {k: row[k] for k in NAMED if row[k]}
            metadata = {**named, **json.loads(row["metadata"])}
            found.append(_found(row["symbol"], row["ts"], row["prediction"], metadata))
    return found


READERS: dict[str, Callable[[Path], list[Stored]]] = {
    "csv": _csv,
    "jsonl": _jsonl,
    "sqlite": _sqlite,
    "parquet": _parquet,
}
