"""A correct sink that replaces: a table in a SQLite file."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from alpha_forge.contracts.params import Params as BaseParams
from alpha_forge.contracts.plugin import Sink
from alpha_forge.contracts.types import Prediction
from alpha_forge_sdk.conformance.case import SinkConformance

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_CREATE = """
    CREATE TABLE IF NOT EXISTS predictions (
        ts INTEGER NOT NULL, symbol TEXT NOT NULL, value BLOB NOT NULL, metadata TEXT NOT NULL,
        UNIQUE (ts, symbol)
    )
"""
_STORE = """
    INSERT INTO predictions (ts, symbol, value, metadata) VALUES (?, ?, ?, ?)
    ON CONFLICT (ts, symbol) DO UPDATE SET value = excluded.value, metadata = excluded.metadata
"""


class NewestValueTable(Sink):
    """A correct sink: one row a key, the newest value stands; a batch is one transaction."""

    class Params(BaseParams):
        """Where to."""

        path: str = Field(
            "predictions.db", min_length=1, description="the database; its directory must exist"
        )

    delivery = "effectively_once"
    idempotent_by: ClassVar[tuple[str, ...]] = ("ts", "symbol")

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self.database: sqlite3.Connection | None = None

    def open(self) -> None:
        self.database = sqlite3.connect(self.params.path, timeout=10)
        with self.database:
            self.database.execute(_CREATE)

    def emit_batch(self, predictions: Sequence[Prediction]) -> None:
        if self.database is None:
            raise RuntimeError(f"{type(self).__name__} is not open: call open() first")
        # SQLite's REAL would store -0.0 as 0 and NaN as NULL: eight bytes hold any float64.
        rows = [
            (
                (p.ts - _EPOCH) // _MICROSECOND,
                p.symbol,
                struct.pack("<d", p.value),
                json.dumps(dict(p.metadata)),
            )
            for p in predictions
        ]
        with self.database:
            self.database.executemany(_STORE, rows)

    def close(self) -> None:
        if self.database is not None:
            self.database.close()
            self.database = None


class TableCase(SinkConformance):
    """Reads the table in the order in which keys first came."""

    plugin = NewestValueTable
    crashes = 12

    def params(self, tmp_path: Path) -> Mapping[str, Any]:
        return {"path": str(tmp_path / "predictions.db")}

    def read_back(self, params: Mapping[str, Any]) -> Iterator[Prediction]:
        if not Path(params["path"]).exists():
            return
        with closing(sqlite3.connect(params["path"])) as database:
            query = "SELECT ts, symbol, value, metadata FROM predictions ORDER BY rowid"
            for ts, symbol, value, metadata in database.execute(query).fetchall():
                number = struct.unpack("<d", value)[0]
                yield Prediction(symbol, _EPOCH + ts * _MICROSECOND, number, json.loads(metadata))
