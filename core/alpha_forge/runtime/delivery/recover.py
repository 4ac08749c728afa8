"""Taking over what can be read of a damaged outbox into a new one."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from alpha_forge.contracts.errors import AlphaForgeError, UsageError
from alpha_forge.runtime.delivery.schema import RECOVERED, connect, create_outbox, open_outbox

Row = tuple[object, ...]

KEYS = {
    "meta": ("key",),
    "symbols": ("id",),
    "streams": ("id",),
    "sinks": ("name",),
    "records": ("stream", "place"),
    "newest": ("stream", "symbol"),
    "dead_letters": ("id",),
    "conflicts": ("stream", "ts", "symbol", "refused"),
}
"""Each table's key: rows are read in its order, so that a place that can't be read can be stepped over."""

FURTHEST = 1 << 40
"""How far beyond an unreadable place a readable one is looked for."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was taken over. ``missing`` are records that the log had between those that could be read."""

    aside: Path
    """The damaged file, as it was."""
    records: int
    missing: int
    sinks: int
    dead_letters: int
    symbols: int


def recover(path: Path) -> Recovery:
    """Make a new outbox at `path` of what can be read there; the damaged one is kept beside it.

    The caller holds the state directory's lock. Sinks whose cursor can't be read start at the log's beginning: they get
    records twice rather than never. Raises UsageError AF6048 if nothing is wrong with the file, AF6045 if there is
    none, AlphaForgeError AF6044 if the disk refuses.
    """
    recovered = path.with_name(path.name + RECOVERED)
    wal, shm = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
    if not path.exists() and not wal.exists() and not recovered.exists():
        open_outbox(path)  # says that there is none
    _refuse_a_sound_one(path)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    try:
        if path.exists() or not recovered.exists():
            for source, suffix in ((path, ""), (wal, "-wal")):
                if source.exists():
                    shutil.copy2(source, aside.with_name(aside.name + suffix))
            recovered.unlink(missing_ok=True)
            _take_over(aside, recovered)
        # Without the file nobody mistakes what is left for a log: a start in between is refused.
        for left in (path, wal, shm):
            left.unlink(missing_ok=True)
        os.replace(recovered, path)
    except OSError as error:
        raise AlphaForgeError(
            "AF6044", f"the delivery log {path} can't be recovered: {error.strerror or error}", "make room"
        ) from error
    # A recovery that was interrupted and is ended now had put the damaged file aside under its own time.
    return _counted(path, max(path.parent.glob(f"{path.name}.damaged-*Z"), default=aside))


def _refuse_a_sound_one(path: Path) -> None:
    if not path.exists():
        return
    try:
        connection = open_outbox(path)
    except AlphaForgeError as error:
        if error.code != "AF6042":
            raise
        return
    connection.close()
    raise UsageError("AF6048", f"the delivery log {path} is not damaged", "run the configuration as usual")


def _take_over(aside: Path, recovered: Path) -> None:
    """Copy row by row. A copy is read, never the original: reading a log with a journal writes."""
    building = recovered.with_name(recovered.name + ".new")
    building.unlink(missing_ok=True)
    create_outbox(building)
    target = connect(building)
    reading = aside.with_name(aside.name + ".reading")
    try:
        for suffix in ("", "-wal"):
            part = aside.with_name(aside.name + suffix)
            if part.exists():
                shutil.copy2(part, reading.with_name(reading.name + suffix))
        source: sqlite3.Connection | None = None
        if reading.exists():
            try:
                source = connect(reading)
                source.execute("SELECT count(*) FROM sqlite_master").fetchone()
            except sqlite3.Error:
                source = None
        target.execute("BEGIN IMMEDIATE")
        for table, key in KEYS.items():
            for row in readable(source, table, key) if source is not None else ():
                marks = ", ".join("?" * len(row))
                try:
                    target.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)
                except sqlite3.Error:
                    continue  # a row of another shape: not one of ours
        _mend(target)
        target.execute("COMMIT")
        if source is not None:
            source.close()
    finally:
        target.close()
        for suffix in ("", "-wal", "-shm"):
            reading.with_name(reading.name + suffix).unlink(missing_ok=True)
    os.replace(building, recovered)


def readable(db: sqlite3.Connection, table: str, key: Sequence[str]) -> Iterator[Row]:
    """The rows of a table that can be read: on from its beginning, over unreadable places where the key's last part
    is a number, and back from its end."""
    columns = ", ".join(f'"{k}"' for k in key)
    last: Row | None = None
    step = 0
    while step <= FURTHEST:
        after = _after(last, step)
        try:
            where = f"WHERE ({columns}) > ({', '.join('?' * len(key))})" if after else ""
            for row in db.execute(
                f"SELECT {columns}, * FROM {table} {where} ORDER BY {columns}", after or ()
            ):
                last, step = row[: len(key)], 0
                yield row[len(key) :]
            return
        except sqlite3.Error:
            if last is None or not isinstance(last[-1], int):
                break
            step = step * 2 or 1
    try:
        back = ", ".join(f'"{k}" DESC' for k in key)
        for row in db.execute(f"SELECT {columns}, * FROM {table} ORDER BY {back}"):
            if last is not None and row[: len(key)] <= last:
                return
            yield row[len(key) :]
    except sqlite3.Error:
        return


def _after(last: Row | None, step: int) -> Row | None:
    if last is None or not step:
        return last
    end = last[-1]
    assert isinstance(end, int)
    return (*last[:-1], end + step)


def _mend(db: sqlite3.Connection) -> None:
    """Make the tables fit each other again."""
    for table in ("records", "newest", "dead_letters", "conflicts"):
        db.execute(f"DELETE FROM {table} WHERE symbol NOT IN (SELECT id FROM symbols)")
        db.execute(f"DELETE FROM {table} WHERE stream NOT IN (SELECT id FROM streams)")
    db.execute("DELETE FROM sinks WHERE stream NOT IN (SELECT id FROM streams)")
    db.execute(
        "INSERT INTO newest SELECT r.stream, r.symbol, r.ts, r.bits FROM records r "
        "WHERE r.ts = (SELECT max(ts) FROM records WHERE stream = r.stream AND symbol = r.symbol) "
        "ON CONFLICT (stream, symbol) DO UPDATE SET ts = excluded.ts, bits = excluded.bits "
        "WHERE excluded.ts > newest.ts"
    )
    # Until the next end of a run, a sink without a cursor starts at the beginning: the log may have had one for it.
    db.execute("INSERT OR REPLACE INTO meta VALUES ('cursors_lost', 1)")


def _counted(path: Path, aside: Path) -> Recovery:
    db = open_outbox(path)
    try:
        records, missing = 0, 0
        for count, first, end in db.execute(
            "SELECT count(*), min(place), max(place) FROM records GROUP BY stream"
        ):
            records += count
            missing += end - first + 1 - count
        counts = [
            db.execute(f"SELECT count(*) FROM {t}").fetchone()[0]
            for t in ("sinks", "dead_letters", "symbols")
        ]
        return Recovery(aside, records, missing, *counts)
    finally:
        db.close()
