"""The outbox's file: its tables, and opening it with every doubt about it turned into a clear error."""

from __future__ import annotations

import os
import sqlite3
import struct
from pathlib import Path

from alpha_forge.contracts.errors import AlphaForgeError, UsageError

VERSION = 1
"""Of the tables below, kept in ``user_version``. A log with a higher one was written by a newer Alpha Forge."""

APPLICATION = 0x41_46_6F_62
"""``AFob``, kept in ``application_id``: tells an outbox from any other SQLite file."""

RECOVERED = ".recovered"
"""Suffix of what a recovery has saved, until it takes the damaged file's place."""

BUSY_SECONDS = 30.0
"""How long a statement waits for another process (the ``outbox`` command) to end its transaction."""

TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE symbols (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE streams (
    id INTEGER PRIMARY KEY, dag TEXT NOT NULL, frame TEXT NOT NULL, "column" TEXT NOT NULL,
    UNIQUE (dag, frame, "column")
);
CREATE TABLE records (
    stream INTEGER NOT NULL, place INTEGER NOT NULL, symbol INTEGER NOT NULL, ts INTEGER NOT NULL,
    bits INTEGER NOT NULL, PRIMARY KEY (stream, place)
) WITHOUT ROWID;
CREATE UNIQUE INDEX records_key ON records (stream, ts, symbol);
CREATE TABLE newest (
    stream INTEGER NOT NULL, symbol INTEGER NOT NULL, ts INTEGER NOT NULL, bits INTEGER,
    PRIMARY KEY (stream, symbol)
) WITHOUT ROWID;
CREATE TABLE sinks (
    name TEXT PRIMARY KEY, stream INTEGER NOT NULL, place INTEGER NOT NULL, live INTEGER NOT NULL DEFAULT 1,
    delivered INTEGER NOT NULL DEFAULT 0, dropped INTEGER NOT NULL DEFAULT 0,
    may_duplicate INTEGER NOT NULL DEFAULT 0, circuit TEXT NOT NULL DEFAULT 'closed',
    last_error TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY, sink TEXT NOT NULL, stream INTEGER NOT NULL, place INTEGER NOT NULL,
    symbol INTEGER NOT NULL, ts INTEGER NOT NULL, bits INTEGER NOT NULL, reason TEXT NOT NULL,
    at INTEGER NOT NULL, requeued INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX dead_letters_of_sink ON dead_letters (sink, requeued, place);
CREATE TABLE conflicts (
    stream INTEGER NOT NULL, symbol INTEGER NOT NULL, ts INTEGER NOT NULL, kept INTEGER NOT NULL,
    refused INTEGER NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (stream, ts, symbol, refused)
) WITHOUT ROWID;
"""
# Values are the 64 bits of the float: REAL would store -0.0 as the integer 0, and NaN as NULL. The index of keys leads
# with ts, so that the rows of one close lie together: led by symbol, each commit would touch a page for each symbol.


def to_bits(value: float) -> int:
    """The 64 bits of a float as the signed integer that SQLite stores."""
    bits: int = struct.unpack("<q", struct.pack("<d", value))[0]
    return bits


def from_bits(bits: int) -> float:
    """The float with these 64 bits."""
    value: float = struct.unpack("<d", struct.pack("<q", bits))[0]
    return value


class DamagedLogError(AlphaForgeError):
    """The outbox's file is damaged; it was left as it is."""

    def __init__(self, path: Path, cause: object) -> None:
        super().__init__(
            "AF6042",
            f"the delivery log {path} is damaged: {cause}",
            "it was left as it is: 'alpha_forge outbox recover CONFIG' moves it aside and takes over "
            "what can be read; with --state DIR, give it the same DIR",
        )


def open_outbox(path: Path, *, create: bool = False) -> sqlite3.Connection:
    """A connection to the outbox at `path`, checked; usable from any thread, by one at a time.

    Raises AlphaForgeError: AF6042 if the file is damaged or no outbox, AF6043 if a newer version wrote it, AF6044 if
    the disk refuses, AF6045 if there is none and `create` isn't set. Transactions are the caller's: ``isolation_level``
    is None.
    """
    if not path.exists():
        # SQLite would play a write-ahead log that is left into the new file; and a recovery ends before a log begins.
        for left in (path.with_name(path.name + "-wal"), path.with_name(path.name + RECOVERED)):
            if left.exists():
                raise DamagedLogError(path, f"the file itself is missing, and {left.name} is there")
        if not create:
            raise UsageError(
                "AF6045",
                f"there is no delivery log {path}",
                "it is made by the first 'alpha_forge signal' of this configuration; give the --state DIR of that run",
            )
        _create(path)
    try:
        connection = connect(path)
    except sqlite3.Error as error:
        raise explained(path, error) from error
    try:
        _prepare(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise explained(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _create(path: Path) -> None:
    """Make an empty outbox, whole or not at all: a file without tables can only be a damaged one."""
    new = path.with_name(path.name + ".new")
    try:
        for left in (new, new.with_name(new.name + "-wal"), new.with_name(new.name + "-shm")):
            left.unlink(missing_ok=True)
        create_outbox(new)
        os.replace(new, path)
    except sqlite3.Error as error:
        raise explained(path, error) from error
    except OSError as error:
        raise AlphaForgeError(
            "AF6044", f"the delivery log {path} can't be made: {error.strerror or error}", _DISK_HELP
        ) from error


def create_outbox(path: Path) -> None:
    """Write an empty outbox into a file that does not exist yet. Raises sqlite3.Error."""
    connection = connect(path)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(
            f"BEGIN IMMEDIATE;{TABLES}PRAGMA application_id = {APPLICATION};"
            f"PRAGMA user_version = {VERSION};COMMIT;"
        )
    finally:
        connection.close()  # the last connection takes the write-ahead log into the file


def connect(path: Path) -> sqlite3.Connection:
    """A bare connection. Raises sqlite3.Error."""
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    # A damaged or hostile schema must not run functions of ours; and pages that can't be true are told at once.
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION or not tables:
        raise DamagedLogError(path, "it is another program's SQLite file" if tables else "it is empty")
    if version > VERSION:
        raise UsageError(
            "AF6043",
            f"the delivery log {path} was written by a newer Alpha Forge (version {version} of the log; "
            f"this one knows {VERSION})",
            "run the newer Alpha Forge, or give this one another --state DIR",
        )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise DamagedLogError(path, str(found).replace("\n", " "))


_DISK_HELP = (
    "make room, or give this user the right to write there, and start again: "
    "what is in the log is safe, and what is not yet in it is predicted again"
)
_DISK = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk can't be read or written",
    sqlite3.SQLITE_CANTOPEN: "it can't be opened or made",
    sqlite3.SQLITE_READONLY: "it can't be written",
    sqlite3.SQLITE_PERM: "it may not be opened",
    sqlite3.SQLITE_BUSY: f"another process has held it for over {BUSY_SECONDS:g} s",
    sqlite3.SQLITE_LOCKED: "another process holds it",
}


def disk_fault(error: sqlite3.Error) -> str | None:
    """What refuses, if the error is the disk's or another process's and may pass; None for any other."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else _DISK.get(code & 0xFF)


def explained(path: Path, error: sqlite3.Error) -> AlphaForgeError:
    """The AlphaForgeError for what SQLite said about the file."""
    fault = disk_fault(error)
    if isinstance(error, sqlite3.ProgrammingError):
        fault = "it is closed already"
    if fault is None:
        return DamagedLogError(path, error)
    return AlphaForgeError(
        "AF6044",
        f"the delivery log {path} can't be used: {fault} ({error})",
        _DISK_HELP,
    )
