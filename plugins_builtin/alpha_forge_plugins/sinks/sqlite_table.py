"""The table under ``sinks.sqlite``: made where absent, checked where not, and written a transaction at a time."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from alpha_forge_plugins.sinks.paths import (
    check_file,
    foreign,
    is_at,
    make_directory,
    no_file,
    other_form,
)
from alpha_forge_plugins.sinks.rows import COLUMNS
from alpha_forge_sdk import RetryLater

Row = tuple[str, str, float, str, str, str, str]

_MAGIC = b"SQLite format 3\0"
_POLL = 0.01

# No type for `prediction`: a column of type REAL would turn -0.0 into 0.0, for SQLite stores whole numbers in it as
# integers. NaN it holds in no column: it becomes NULL, which nothing else is here.
_TYPES = {
    "id": "INTEGER",
    "ts": "TEXT",
    "symbol": "TEXT",
    "prediction": "",
    "frame": "TEXT",
    "column": "TEXT",
    "dag_name": "TEXT",
    "metadata": "TEXT",
}
_CREATE = """CREATE TABLE IF NOT EXISTS "{table}" (
    id INTEGER PRIMARY KEY,
    ts TEXT NOT NULL,
    symbol TEXT NOT NULL,
    prediction CHECK (typeof(prediction) IN ('real', 'null')),
    frame TEXT NOT NULL,
    "column" TEXT NOT NULL,
    dag_name TEXT NOT NULL,
    metadata TEXT NOT NULL,
    UNIQUE ({key})
)"""
_STORE = """INSERT INTO "{table}" ({columns}) VALUES ({places})
ON CONFLICT ({key}) DO UPDATE SET {updates}"""


class PredictionTable:
    """One table of one file, shared with other writers and with readers.

    A batch is one transaction, begun as a writer, so that it never fails halfway for want of a lock. Nothing is
    remembered between batches: the table itself knows its keys.
    """

    def __init__(self, path: Path, table: str, dedup_key: Sequence[str], *, lock_wait: float) -> None:
        """Open file and table, made where absent, and check the table.

        `table` and `dedup_key` are identifiers that are safe to quote. Raises AlphaForgeError, RetryLater while the
        database is locked, OSError if the disk refuses.
        """
        # Absolute: SQLite takes ":memory:" and "" for databases that are nowhere.
        self._path = path.absolute()
        self._name = table
        self._key = tuple(dedup_key)
        self._lock_wait = lock_wait
        self._store = _store_statement(table, self._key)
        self._database = self._connect()

    def put(self, rows: Sequence[Row]) -> None:
        """Store all rows or none, in order; a row replaces one with its key. Committed and synced on return.

        Raises as `__init__` does.
        """
        if not is_at(self._path, self._file):
            # Moved or deleted by somebody: rows would go into a file that nobody finds.
            self._database.close()
            self._database = self._connect()
        with self._told(), self._transaction(self._database):
            self._database.executemany(self._store, rows)

    def close(self) -> None:
        self._database.close()

    def _connect(self) -> sqlite3.Connection:
        make_directory(self._path.parent)
        check_file(self._path)
        with self._told():
            database = sqlite3.connect(self._path, timeout=self._lock_wait, isolation_level=None)
            try:
                self._prepare(database)
                self._check(database)
                self._file = os.stat(self._path)
            except BaseException:
                database.close()
                raise
        return database

    def _prepare(self, database: sqlite3.Connection) -> None:
        # EXTRA: also the deletion of a rollback journal is synced, before which a commit may be undone.
        database.execute("PRAGMA synchronous = EXTRA")
        database.execute("PRAGMA fullfsync = ON")  # macOS: past the cache of the disk
        if database.execute("PRAGMA page_count").fetchone() == (0,):
            self._make_write_ahead(database)
        with self._transaction(database):
            database.execute(_CREATE.format(table=self._name, key=_quoted(self._key)))

    def _make_write_ahead(self, database: sqlite3.Connection) -> None:
        """Readers and the writer of a new database don't wait for each other; an existing one is left as it is."""
        deadline = time.monotonic() + self._lock_wait
        while True:
            try:
                database.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                # SQLite does not wait here by itself if another writer makes the same database.
                if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                    raise
                time.sleep(_POLL)

    def _check(self, database: sqlite3.Connection) -> None:
        kind = database.execute(
            "SELECT type FROM sqlite_master WHERE name = ? COLLATE NOCASE AND type IN ('table', 'view')",
            (self._name,),
        ).fetchone()
        if kind != ("table",):
            raise self._other("a view", "a table")
        found = database.execute(f'PRAGMA table_info("{self._name}")').fetchall()
        types = {name: kind.upper() for _, name, kind, *_ in found}
        for name, wanted in _TYPES.items():
            if name not in types:
                raise self._other(f"the columns {', '.join(types)}", f"this sink's, {', '.join(_TYPES)}")
            if types[name] != wanted:
                raise self._other(
                    f"a column {name} of type {types[name] or 'none'}",
                    wanted or "none, which holds any float64",
                )
        for _, name, _, not_null, default, _ in found:
            if name not in _TYPES and not_null and default is None:
                raise self._other(f"a column {name} that must have a value", "none that this sink can't fill")
        keys = list(self._unique_keys(database))
        if keys != [frozenset(self._key)]:
            told = " and ".join(f"({', '.join(sorted(key))})" for key in keys) or "none"
            raise self._other(f"the unique key {told}", f"`dedup_key`, ({', '.join(self._key)})")

    def _unique_keys(self, database: sqlite3.Connection) -> Iterator[frozenset[str]]:
        """The columns of each unique index of the table; one that folds case, or holds for a part, is no key."""
        for _, name, unique, _, partial in database.execute(f'PRAGMA index_list("{self._name}")').fetchall():
            if unique:
                quoted = name.replace('"', '""')
                parts = database.execute(f'PRAGMA index_xinfo("{quoted}")').fetchall()
                columns = [(column, collation) for _, _, column, _, collation, key in parts if key]
                exact = not partial and all(collation == "BINARY" for _, collation in columns)
                yield frozenset(str(c) if exact else f"{c} {collation}" for c, collation in columns)

    def _other(self, found: str, wanted: str) -> Exception:
        return other_form(self._path, f"a table {self._name} with {found}", wanted)

    @staticmethod
    @contextlib.contextmanager
    def _transaction(database: sqlite3.Connection) -> Iterator[None]:
        database.execute("BEGIN IMMEDIATE")
        try:
            yield
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:  # some faults have rolled back already
                database.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Tell SQLite's faults as those of the other files are told: what passes, what a person must mend."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = _code(error)
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise RetryLater(f"{self._path} was locked for over {self._lock_wait:g} s") from error
            if code == sqlite3.SQLITE_FULL:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path)) from error
            if code == sqlite3.SQLITE_IOERR:
                raise OSError(errno.EIO, str(error), str(self._path)) from error
            if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
                raise no_file(self._path, str(error)) from error
            if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
                raise foreign(self._path, str(error)) from error
            raise


def check_database(path: Path) -> None:
    """Raise what `PredictionTable` would raise for the path, as far as it can be known without opening a database."""
    if check_file(path):
        with path.open("rb") as file:
            head = file.read(len(_MAGIC))
        if head and head != _MAGIC:
            raise foreign(path, "it is no SQLite database")


def _store_statement(table: str, key: Sequence[str]) -> str:
    rest = [name for name in COLUMNS if name not in key]
    return _STORE.format(
        table=table,
        columns=_quoted(COLUMNS),
        places=", ".join("?" * len(COLUMNS)),
        key=_quoted(key),
        updates=", ".join(f'"{name}" = excluded."{name}"' for name in rest),
    )


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 for what Python raised itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
