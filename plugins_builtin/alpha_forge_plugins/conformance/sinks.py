"""How the built-in file sinks are proved: each is read as its users read it, by nothing of the sink's."""

from __future__ import annotations

import csv
import json
import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from alpha_forge_sdk import Prediction
from alpha_forge_sdk.conformance import SinkConformance
from alpha_forge_sdk.testing.predictions import METADATA, START

_COLUMNS = ["ts", "symbol", "prediction", "frame", "column", "dag_name", "metadata"]
_NAMED = _COLUMNS[3:6]


class FileConformance(SinkConformance):
    """What the cases of files share: text that no UTF-8 file can hold is rejected."""

    def culprit(self) -> Prediction:
        """Half of a surrogate pair."""
        return Prediction("\ud83d", START, 0.5, METADATA)


class CSVAppendConformance(FileConformance):
    """Reads the file with the standard library alone; anything but whole rows under one header raises ValueError."""

    plugin = "sinks.csv_append"

    def params(self, tmp_path: Path) -> Mapping[str, Any]:
        return {"path": str(tmp_path / "predictions.csv")}

    def read_back(self, params: Mapping[str, Any]) -> Iterator[Prediction]:
        with open(params["path"], encoding="utf-8", newline="") as file:
            header, *rows = list(csv.reader(file, strict=True)) or [[]]
        if header != _COLUMNS:
            raise ValueError(f"the file begins with {header}")
        for ts, symbol, value, *named, metadata in rows:
            yield _prediction(ts, symbol, float(value), named, metadata)


class JSONLinesConformance(FileConformance):
    """Reads the file line by line as strict JSON: NaN and Infinity are no numbers there."""

    plugin = "sinks.jsonl"

    def params(self, tmp_path: Path) -> Mapping[str, Any]:
        return {"path": str(tmp_path / "predictions.jsonl")}

    def read_back(self, params: Mapping[str, Any]) -> Iterator[Prediction]:
        with open(params["path"], encoding="utf-8", newline="\n") as file:
            for line in file:
                if not line.endswith("\n"):
                    raise ValueError(f"a torn line: {line[:80]}")
                said = json.loads(line, parse_constant=_no_number)
                kept = {name: said[name] for name in _NAMED if name in said}
                ts = datetime.fromisoformat(said["ts"])
                yield Prediction(said["symbol"], ts, said["prediction"], {**kept, **said["metadata"]})


class SQLiteConformance(FileConformance):
    """Asks the table by its columns, in the order of its ids. NULL is NaN."""

    plugin = "sinks.sqlite"

    def params(self, tmp_path: Path) -> Mapping[str, Any]:
        return {"path": str(tmp_path / "predictions.db")}

    def read_back(self, params: Mapping[str, Any]) -> Iterator[Prediction]:
        if not Path(params["path"]).exists():
            return
        columns = ", ".join(f'"{name}"' for name in _COLUMNS)
        with closing(sqlite3.connect(params["path"], timeout=10)) as database:
            if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'predictions'").fetchone():
                return
            rows = database.execute(f"SELECT {columns} FROM predictions ORDER BY id").fetchall()
        for ts, symbol, value, *named, metadata in rows:
            yield _prediction(ts, symbol, math.nan if value is None else value, named, metadata)


class ParquetConformance(FileConformance):
    """Reads the directory as one dataset, as every reader of Parquet can."""

    plugin = "sinks.parquet"

    def params(self, tmp_path: Path) -> Mapping[str, Any]:
        return {"path": str(tmp_path / "predictions")}

    def read_back(self, params: Mapping[str, Any]) -> Iterator[Prediction]:
        import pyarrow.dataset

        if not Path(params["path"]).exists():
            return
        table = pyarrow.dataset.dataset(params["path"], format="parquet").to_table(use_threads=False)
        if table.num_columns == 0:  # no file yet, no columns
            return
        texts = table.column("ts").cast("int64").to_pylist()
        for row, ts in zip(table.to_pylist(), texts, strict=True):
            if ts != round(row["ts"].timestamp() * 1_000_000):
                raise ValueError(f"ts is no microseconds of UTC: {table.schema.field('ts').type}")
            named = [row[name] for name in _NAMED]
            metadata = {**dict(zip(_NAMED, named, strict=True)), **json.loads(row["metadata"])}
            yield Prediction(row["symbol"], row["ts"], row["prediction"], metadata)


def _prediction(ts: str, symbol: str, value: float, named: Sequence[str], metadata: str) -> Prediction:
    kept = {name: text for name, text in zip(_NAMED, named, strict=True) if text}
    return Prediction(symbol, datetime.fromisoformat(ts), value, {**kept, **json.loads(metadata)})


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON")
