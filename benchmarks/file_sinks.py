"""The sinks of files beside loops that write the same rows with the same libraries, and promise nothing."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

from alpha_forge_plugins.sinks.csv_append import CSVAppendSink
from alpha_forge_plugins.sinks.file_sink import FileSink
from alpha_forge_plugins.sinks.jsonl import JSONLinesSink
from alpha_forge_plugins.sinks.parquet import ParquetSink
from alpha_forge_plugins.sinks.sqlite import SQLiteSink
from alpha_forge_sdk import Prediction
from benchmarks.results import CaseResult, Goal
from benchmarks.timing import in_turn, per_unit

OURS = "ours: each key once, shared with other writers"
BARE = "the library in a loop, synced each batch"
SYMBOLS, BATCHES = 500, 24
START = datetime(2026, 1, 5, tzinfo=UTC)
METADATA = {"frame": "ohlcv", "column": "model.prediction", "dag_name": "bench"}
COLUMNS = ("ts", "symbol", "prediction", *METADATA, "metadata")
MICRO = 1e6

Batch = Sequence[Prediction]
Row = tuple[str, str, float, str, str, str, str]


def run(*, quick: bool) -> CaseResult:
    """µs a record, in batches of a bar of 500 symbols; a day of hours into a file of its own."""
    result = CaseResult("file_sinks", "a record in its file and synced, 500 a batch", "µs a record", BARE)
    batches = _batches()
    rounds = 2 if quick else 15
    with tempfile.TemporaryDirectory() as name:
        numbers = count()

        def fresh() -> Path:
            return Path(name) / str(next(numbers))

        for kind, (sink, bare) in CONTENDERS.items():
            units = SYMBOLS * BATCHES
            turns = {
                BARE: per_unit(lambda bare=bare: bare(fresh(), batches), units),
                OURS: per_unit(lambda sink=sink: _store(sink, fresh(), batches), units),
            }
            for title, samples in in_turn(turns, rounds).items():
                result.add(title, kind, samples, MICRO)
            ours, loop = result.of(OURS, kind), result.of(BARE, kind)
            result.goals.append(
                Goal(f"{kind}: ≤ 1.25 × the loop", ours.median / loop.median, 1.25, ours.best / loop.best)
            )
    result.notes.append(
        "Parquet's loop keeps the day in memory and writes the day's file anew for each batch, too"
    )
    return result


def _batches() -> list[list[Prediction]]:
    return [
        [
            Prediction(f"S{s}USDT", START + timedelta(hours=bar), (bar * 1000 + s) / 7.0, METADATA)
            for s in range(SYMBOLS)
        ]
        for bar in range(BATCHES)
    ]


def _store(sink: type[FileSink], path: Path, batches: Sequence[Batch]) -> None:
    made = sink(sink.Params(path=str(path)))
    made.open()
    for batch in batches:
        made.emit_batch(batch)
    made.close()


def _rows(batch: Batch) -> list[Row]:
    return [(p.ts.isoformat(), p.symbol, p.value, *METADATA.values(), "{}") for p in batch]  # type: ignore[misc]


def _csv(path: Path, batches: Sequence[Batch]) -> None:
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for batch in batches:
            writer.writerows(_rows(batch))
            file.flush()
            os.fsync(file.fileno())


def _jsonl(path: Path, batches: Sequence[Batch]) -> None:
    with path.open("a") as file:
        for batch in batches:
            file.writelines(json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n" for row in _rows(batch))
            file.flush()
            os.fsync(file.fileno())


def _sqlite(path: Path, batches: Sequence[Batch]) -> None:
    columns = ", ".join(f'"{name}"' for name in COLUMNS)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute(f"CREATE TABLE p ({columns}, PRIMARY KEY (ts, symbol))")
        for batch in batches:
            with database:
                database.executemany("INSERT OR REPLACE INTO p VALUES (?, ?, ?, ?, ?, ?, ?)", _rows(batch))


def _parquet(path: Path, batches: Sequence[Batch]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    path.mkdir()
    table: pa.Table | None = None
    for batch in batches:
        columns = zip(*((p.ts, *row[1:]) for p, row in zip(batch, _rows(batch), strict=True)), strict=True)
        new = pa.table(dict(zip(COLUMNS, map(list, columns), strict=True)))
        table = new if table is None else pa.concat_tables([table, new])
        aside = path / ".day"
        with aside.open("wb") as file:
            parquet.write_table(table, file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path / "day.parquet")


CONTENDERS: dict[str, tuple[type[FileSink], Callable[[Path, Sequence[Batch]], None]]] = {
    "CSV": (CSVAppendSink, _csv),
    "JSON lines": (JSONLinesSink, _jsonl),
    "SQLite": (SQLiteSink, _sqlite),
    "Parquet": (ParquetSink, _parquet),
}
