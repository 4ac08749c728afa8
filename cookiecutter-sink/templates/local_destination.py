"""Where the predictions go: a table in a SQLite file. Nothing in here knows Alpha Forge."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

Row = tuple[str, str, float, str]

_CREATE = """
CREATE TABLE IF NOT EXISTS predictions (
    ts TEXT NOT NULL,        -- close of the bar: ISO 8601, UTC, microseconds
    symbol TEXT NOT NULL,
    value,                   -- no type: SQLite would turn -0.0 into 0. NULL stands for NaN
    metadata TEXT NOT NULL,  -- a JSON object
    PRIMARY KEY (ts, symbol)
)"""
_PUT = """
INSERT INTO predictions (ts, symbol, value, metadata) VALUES (?, ?, ?, ?)
ON CONFLICT (ts, symbol) DO UPDATE SET value = excluded.value, metadata = excluded.metadata"""
_LOCK_WAIT = 10.0
"""Seconds to wait for another process that writes."""


def row(symbol: str, ts: datetime, value: float, metadata: Mapping[str, Any]) -> Row:
    """One record as the table holds it. Raises TypeError or ValueError for what it can't hold."""
    symbol.encode()  # a text that is no UTF-8 is refused here, not in the middle of a batch
    moment = ts.astimezone(UTC).isoformat(timespec="microseconds")
    return moment, symbol, value, json.dumps(dict(metadata))


class Table:
    """The open table. One thread at a time; several processes may have it open."""

    def __init__(self, path: str) -> None:
        """Open the file, and make file and table if they are absent. Raises sqlite3.Error."""
        self._db = sqlite3.connect(path, timeout=_LOCK_WAIT)
        try:
            # A commit has then reached the disk when it returns, at the cost of one sync.
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            with self._db:
                self._db.execute(_CREATE)
        except BaseException:
            self._db.close()
            raise

    def put(self, rows: Sequence[Row]) -> None:
        """Store all of them or none, in one transaction; a row with a known key replaces the old one."""
        if rows:
            with self._db:
                self._db.executemany(_PUT, rows)

    def close(self) -> None:
        self._db.close()
