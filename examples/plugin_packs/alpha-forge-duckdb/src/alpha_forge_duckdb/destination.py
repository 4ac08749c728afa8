"""A table in a DuckDB file. Nothing in here knows Alpha Forge."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb

Row = tuple[datetime, str, float, str]


class Locked(Exception):
    """Another process has the file open for writing."""


def row(symbol: str, ts: datetime, value: float, metadata: Mapping[str, Any]) -> Row:
    """One record as the table holds it, ``ts`` naive in UTC. Raises TypeError or ValueError for what it can't hold."""
    symbol.encode()  # a text that is no UTF-8 is refused here, not in the middle of a batch
    return ts.astimezone(UTC).replace(tzinfo=None), symbol, float(value), json.dumps(dict(metadata))


class Table:
    """One table of one file.

    DuckDB lets one process at a time open a file for writing, and none read it meanwhile. So the file is open only as
    long as a batch takes: other writers, and people with questions, get their turn between two batches.
    """

    def __init__(self, path: str, name: str) -> None:
        """`name` is an identifier: letters, digits and _."""
        self._path = Path(path)
        self._name = name

    def create(self) -> None:
        """Make file and table if they are absent. Raises Locked, duckdb.Error, or OSError."""
        if not self._path.exists():
            self._create_file()
        with self._connected(self._path) as db:
            self._create_table(db)

    def _create_file(self) -> None:
        """Two processes that make one file at once damage it: it is made aside, and linked when whole."""
        with tempfile.TemporaryDirectory(prefix=f".{self._path.name}-", dir=self._path.parent) as folder:
            made = Path(folder) / self._path.name
            with self._connected(made) as db:
                self._create_table(db)
            with suppress(FileExistsError):  # somebody else was first
                os.link(made, self._path)

    def _create_table(self, db: duckdb.DuckDBPyConnection) -> None:
        # Rows have no order of their own: `id` keeps the one in which they came.
        db.execute(f"CREATE SEQUENCE IF NOT EXISTS {self._name}_id")
        db.execute(
            f"""CREATE TABLE IF NOT EXISTS {self._name} (
                ts TIMESTAMP NOT NULL, symbol VARCHAR NOT NULL, value DOUBLE NOT NULL, metadata VARCHAR NOT NULL,
                id BIGINT NOT NULL DEFAULT nextval('{self._name}_id'),
                PRIMARY KEY (ts, symbol))"""
        )

    def put(self, rows: Sequence[Row]) -> None:
        """Store all of them or none, in one transaction; a row replaces an earlier one with its ts and symbol.

        Returns when DuckDB has committed, which is when its log has been synced. Raises Locked, or duckdb.Error.
        """
        # One statement may touch a row once only: of those with the same key the last one counts.
        newest = {r[:2]: r for r in rows}
        if not newest:
            return
        places = ", ".join(["(?, ?, ?, ?)"] * len(newest))
        with self._connected(self._path) as db:
            db.execute(
                f"INSERT INTO {self._name} (ts, symbol, value, metadata) VALUES {places} "
                "ON CONFLICT (ts, symbol) DO UPDATE SET value = excluded.value, metadata = excluded.metadata",
                [field for new in newest.values() for field in new],
            )

    @contextmanager
    def _connected(self, path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
        import duckdb

        try:
            db = duckdb.connect(path)
        except duckdb.IOException as error:
            if "lock" in str(error).lower():
                raise Locked(f"{path} is open in another process") from error
            raise
        with db:
            yield db
