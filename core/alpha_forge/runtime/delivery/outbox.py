"""Outbox: the delivery log in a SQLite file. What `append` has returned for survives the process and the machine."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from alpha_forge.contracts.types import Prediction
from alpha_forge.runtime.delivery.log import (
    CONFLICTS_KEPT,
    Batch,
    Conflict,
    DeadLetter,
    LogCounters,
    made_prediction,
    nanoseconds,
    tell_conflicts,
)
from alpha_forge.runtime.delivery.pacing import Pacing, RealTime
from alpha_forge.runtime.delivery.schema import (
    connect,
    disk_fault,
    explained,
    open_outbox,
    to_bits,
)
from alpha_forge.runtime.delivery.streams import (
    Cursor,
    News,
    Stream,
    Symbols,
    load_streams,
    metadata_of,
    sort_out,
)

log = logging.getLogger("alpha_forge.delivery")

T = TypeVar("T")

OUTBOX = "outbox.db"
"""Suffix of the file in the state directory."""

PATIENCE = 30.0
"""Seconds that an append waits for a full or failing disk before it gives up."""
PAUSE = 0.5

TRIM_AT = 1024
"""Records that pile up behind the slowest cursor before they are deleted; deleting each batch would cost more."""
TRIM_MOST = 20_000
"""Most that one transaction deletes: nobody waits long for it."""

CHECKPOINT_PAGES = 4000
"""The write-ahead log is taken into the file by the workers' connection at 1,000 pages, SQLite's default; only if no
sink takes anything does `append` do it, at this many, so that a tick seldom pays for it."""


class Outbox:
    """See `DeliveryLog`. One process at a time writes records and cursors: whoever opens it holds the state
    directory's lock. The ``outbox`` command may move dead letters meanwhile.

    Records are committed with ``synchronous=FULL``: they are on the disk when `append` returns. Cursors are moved with
    NORMAL, which costs no sync: after a power failure a cursor may stand a few batches back, and those are delivered
    again, as after any crash between a delivery and its cursor.
    """

    durable = True

    def __init__(self, path: Path, dag_name: str, *, pacing: Pacing | None = None) -> None:
        """Open or make the file. Raises AlphaForgeError (see `open_outbox`)."""
        self.path = path
        self.counters = LogCounters()
        self._dag_name = dag_name
        self._pacing = pacing or RealTime()
        self._changed = threading.Condition()
        self._writing = threading.RLock()
        self._reading = threading.Lock()
        self._hurry = threading.Event()
        self._closed = False
        self._streams: dict[tuple[str, str], Stream] = {}
        self._cursors: dict[str, Cursor] = {}
        self._appending = open_outbox(path, create=True)
        try:
            self._moving, self._reader = connect(path), connect(path)
            self._moving.execute("PRAGMA synchronous = NORMAL")
            self._appending.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            self._load()
        except sqlite3.Error as error:
            raise explained(path, error) from error

    def _load(self) -> None:
        db = self._appending
        self._symbols = Symbols(db.execute("SELECT id, name FROM symbols"))
        self._cursors_lost = (
            db.execute("SELECT 1 FROM meta WHERE key = 'cursors_lost'").fetchone() is not None
        )
        with self._transaction(db):
            # Whoever registers is live again; the others no longer hold trimming.
            db.execute("UPDATE sinks SET live = 0")
        self._streams = load_streams(db, self._dag_name, self._symbols)

    # Adding.

    def append(self, predictions: Sequence[Prediction]) -> int:
        with self._writing:
            news = sort_out(predictions, self._symbols, self._stream, self._stored)
            if news.rows or news.conflicts:
                self._persist(lambda: self._write(news))
            self._symbols.add(news.symbols)
            # Workers read up to `end`: it moves last, when all that they need is known.
            for stream in self._streams.values():
                stream.newest.update(news.newest.get(stream.id, {}))
                stream.end = news.ends.get(stream.id, stream.end)
            self.counters.appended += len(news.rows)
            self.counters.repeated += news.repeated
            self.counters.conflicts += len(news.conflicts)
        if news.rows:
            self.wake()
        if news.conflicts:
            tell_conflicts(news.conflicts)
        return len(news.rows)

    def _stream(self, frame: str, column: str) -> Stream:
        """The stream of a column, made on first use; one write transaction then, none after."""
        known = self._streams.get((frame, column))
        if known is not None:
            return known
        with self._writing:

            def make() -> int:
                with self._transaction(self._appending) as db:
                    return db.execute(
                        'INSERT INTO streams (dag, frame, "column") VALUES (?, ?, ?)',
                        (self._dag_name, frame, column),
                    ).lastrowid  # type: ignore[return-value]

            stream = Stream(self._persist(make), metadata_of(frame, column, self._dag_name))
            self._streams[frame, column] = stream
            return stream

    def _stored(self, stream: int, symbol: int, ts: int) -> int | None:
        """The bits of a record of the file; None if it has it no more."""
        with self._reading:
            found = self._reader.execute(
                "SELECT bits FROM records WHERE stream = ? AND ts = ? AND symbol = ?", (stream, ts, symbol)
            ).fetchone()
        return None if found is None else int(found[0])

    def _write(self, news: News) -> None:
        with self._transaction(self._appending) as db:
            if news.symbols:
                db.executemany("INSERT INTO symbols (name, id) VALUES (?, ?)", news.symbols.items())
            ids = {**self._symbols.ids, **news.symbols}
            db.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?)", news.rows)
            if news.conflicts:
                self._write_conflicts(db, news.conflicts, ids)

    def _write_conflicts(
        self, db: sqlite3.Connection, conflicts: Sequence[Conflict], ids: Mapping[str, int]
    ) -> None:
        (kept,) = db.execute("SELECT count(*) FROM conflicts").fetchone()
        now = self._pacing.now()
        for c in conflicts[: max(0, CONFLICTS_KEPT - kept)]:
            p = c.prediction
            stream = self._stream(str(p.metadata["frame"]), str(p.metadata["column"]))
            row = (stream.id, ids[p.symbol], nanoseconds(p.ts), to_bits(p.value), to_bits(c.refused), now)
            db.execute("INSERT OR IGNORE INTO conflicts VALUES (?, ?, ?, ?, ?, ?)", row)
        db.execute(
            "INSERT INTO meta VALUES ('conflicts', ?) ON CONFLICT (key) DO UPDATE SET value = value + excluded.value",
            (len(conflicts),),
        )

    def mark(self, frame: str, column: str, until: Mapping[str, int]) -> None:
        with self._writing:
            stream = self._stream(frame, column)
            news = News()
            later = {
                symbol: ts
                for symbol, ts in until.items()
                if symbol not in stream.newest or stream.newest[symbol][0] < ts
            }
            if not later:
                return
            rows = [
                (stream.id, self._symbols.id_of(symbol, news.symbols), ts, None)
                for symbol, ts in later.items()
            ]

            def write() -> None:
                with self._transaction(self._appending) as db:
                    db.executemany("INSERT INTO symbols (name, id) VALUES (?, ?)", news.symbols.items())
                    db.executemany("INSERT OR REPLACE INTO newest VALUES (?, ?, ?, ?)", rows)

            self._persist(write)
            self._symbols.add(news.symbols)
            stream.newest.update({symbol: (ts, None) for symbol, ts in later.items()})

    def newest(self, frame: str, column: str) -> Mapping[str, int]:
        with self._writing:
            stream = self._streams.get((frame, column))
            return {} if stream is None else {symbol: ts for symbol, (ts, _) in stream.newest.items()}

    # Delivering.

    def register(self, sink: str, frame: str, column: str) -> None:
        with self._writing:
            stream = self._stream(frame, column)
            found = self._appending.execute(
                "SELECT stream, place, dropped FROM sinks WHERE name = ?", (sink,)
            ).fetchone()
            cursor = Cursor(stream, stream.base if self._cursors_lost else stream.end)
            if found is not None and found[0] == stream.id:
                cursor.place, cursor.dropped = min(max(found[1], stream.base), stream.end), found[2]
                if found[1] < stream.base:
                    gone = stream.base - found[1]
                    log.warning("sink %s was away: %d record(s) for it are trimmed", sink, gone)
            elif found is not None:
                log.warning("sink %s reads another column now (%s): it starts at the log's end", sink, column)

            def write() -> None:
                with self._transaction(self._appending) as db:
                    if found is None or found[0] != stream.id:
                        db.execute("INSERT OR REPLACE INTO sinks (name, stream, place) VALUES (?, ?, ?)",
                                   (sink, stream.id, cursor.place))  # fmt: skip
                    db.execute("UPDATE sinks SET live = 1, place = ? WHERE name = ?", (cursor.place, sink))

            self._persist(write)
            self._cursors[sink] = cursor
            stream.sinks.append(sink)

    def read(self, sink: str, limit: int) -> Batch:
        cursor = self._cursors[sink]
        with self._reading, self._explained():
            again = self._reader.execute(
                "SELECT id, symbol, ts, bits, stream FROM dead_letters WHERE sink = ? AND requeued = 1 "
                "ORDER BY place LIMIT ?",
                (sink, limit),
            ).fetchall()
            rows = (
                again
                or self._reader.execute(
                    "SELECT place, symbol, ts, bits FROM records WHERE stream = ? AND place > ? AND place <= ? "
                    "ORDER BY place LIMIT ?",
                    (cursor.stream.id, cursor.place, cursor.stream.end, limit),
                ).fetchall()
            )
        if again:
            metadata = {stream.id: stream.metadata for stream in self._streams.values()}
            found = tuple(
                made_prediction(self._symbols.names[r[1]], r[2], r[3], metadata[r[4]]) for r in again
            )
        else:
            names, of_all = self._symbols.names, cursor.stream.metadata
            found = tuple(made_prediction(names[r[1]], r[2], r[3], of_all) for r in rows)
        return Batch(found, [r[0] for r in rows], requeued=bool(again))

    def settle(self, sink: str, batch: Batch, rejected: Mapping[int, str] | None = None, at: int = 0) -> None:
        if not len(batch):
            return
        letters = sorted((rejected or {}).items())
        with self._writing, self._explained():
            if batch.requeued:
                self._settle_requeued(batch, dict(letters), at)
                return
            cursor = self._cursors[sink]
            place = max(cursor.place, batch.places[-1])
            # Records that were given up while the sink had them in hand were delivered all the same.
            dropped = cursor.dropped - max(0, min(cursor.place, batch.places[-1]) - batch.places[0] + 1)
            with self._transaction(self._moving) as db:
                for i, reason in letters:
                    p = batch.predictions[i]
                    row = (sink, cursor.stream.id, batch.places[i], self._symbols.ids[p.symbol], nanoseconds(p.ts),
                           to_bits(p.value), reason, at)  # fmt: skip
                    db.execute(
                        "INSERT INTO dead_letters (sink, stream, place, symbol, ts, bits, reason, at) "
                        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                        row,
                    )
                db.execute(
                    "UPDATE sinks SET place = ?, dropped = ?, delivered = delivered + ? WHERE name = ?",
                    (place, dropped, len(batch) - len(letters), sink),
                )
                base = self._trim(db, cursor.stream, {sink: place}, TRIM_AT)
            cursor.place, cursor.dropped, cursor.stream.base = place, dropped, base

    def _settle_requeued(self, batch: Batch, rejected: Mapping[int, str], at: int) -> None:
        with self._transaction(self._moving) as db:
            for i, id in enumerate(batch.places):
                if i in rejected:
                    db.execute(
                        "UPDATE dead_letters SET requeued = 0, reason = ?, at = ? WHERE id = ?",
                        (rejected[i], at, id),
                    )
                else:
                    db.execute("DELETE FROM dead_letters WHERE id = ?", (id,))

    def _trim(self, db: sqlite3.Connection, stream: Stream, moved: Mapping[str, int], least: int) -> int:
        """Delete what every live sink has, if that is `least` records or more; returns the new base."""
        slowest = min((moved.get(s, self._cursors[s].place) for s in stream.sinks), default=stream.base)
        if slowest - stream.base < least:
            return stream.base
        base = min(slowest, stream.base + TRIM_MOST)
        gone = (stream.id, base)
        db.execute(
            "INSERT INTO newest SELECT stream, symbol, ts, bits FROM records WHERE stream = ? AND place <= ? "
            "ORDER BY place ON CONFLICT (stream, symbol) "
            "DO UPDATE SET ts = excluded.ts, bits = excluded.bits WHERE excluded.ts > newest.ts",
            gone,
        )
        db.execute("DELETE FROM records WHERE stream = ? AND place <= ?", gone)
        return base

    def backlog(self, sink: str) -> int:
        cursor = self._cursors[sink]
        return cursor.stream.end - cursor.place

    def dead_letters(self, sink: str) -> list[DeadLetter]:
        metadata = {stream.id: stream.metadata for stream in self._streams.values()}
        with self._reading, self._explained():
            rows = self._reader.execute(
                "SELECT symbol, ts, bits, stream, reason, at FROM dead_letters WHERE sink = ? ORDER BY place",
                (sink,),
            ).fetchall()
        return [
            DeadLetter(made_prediction(self._symbols.names[r[0]], r[1], r[2], metadata[r[3]]), r[4], r[5])
            for r in rows
        ]

    def dead_letter_count(self, sink: str) -> int:
        with self._reading, self._explained():
            query = "SELECT count(*) FROM dead_letters WHERE sink = ?"
            return int(self._reader.execute(query, (sink,)).fetchone()[0])

    def drop_dead_letters(self, sink: str, keep: int) -> int:
        with self._writing, self._explained(), self._transaction(self._moving) as db:
            return db.execute(
                "DELETE FROM dead_letters WHERE id IN (SELECT id FROM dead_letters WHERE sink = ? "
                "ORDER BY place DESC LIMIT -1 OFFSET ?)",
                (sink, keep),
            ).rowcount

    def drop_oldest(self, sink: str, keep: int) -> int:
        with self._writing, self._explained():
            cursor = self._cursors[sink]
            gone = max(0, cursor.stream.end - cursor.place - keep)
            if gone:
                place, dropped = cursor.place + gone, cursor.dropped + gone
                with self._transaction(self._moving) as db:
                    db.execute(
                        "UPDATE sinks SET place = ?, dropped = ? WHERE name = ?", (place, dropped, sink)
                    )
                    base = self._trim(db, cursor.stream, {sink: place}, TRIM_AT)
                cursor.place, cursor.dropped, cursor.stream.base = place, dropped, base
            return gone

    def dropped(self, sink: str) -> int:
        return self._cursors[sink].dropped

    def note(self, sink: str, *, circuit: str, may_duplicate: bool, last_error: str) -> None:
        with self._writing, suppress(sqlite3.Error), self._transaction(self._moving) as db:
            db.execute(
                "UPDATE sinks SET circuit = ?, may_duplicate = max(may_duplicate, ?), last_error = ? WHERE name = ?",
                (circuit, int(may_duplicate), last_error, sink),
            )

    def wait(self, sink: str, timeout: float | None) -> bool:
        with self._changed:
            if not self.backlog(sink) and not self._closed:
                self._changed.wait(timeout)
        # Another process may have put dead letters back: whoever waited looks for himself.
        return self.backlog(sink) > 0

    def wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def hurry(self) -> None:
        """Let an append that waits for the disk give up now."""
        self._hurry.set()

    def close(self) -> None:
        self.hurry()
        with self._writing, self._reading:
            if self._closed:
                return
            self._closed = True
            with suppress(sqlite3.Error):  # what can't be trimmed now is at the next start
                if self._cursors_lost:
                    self._moving.execute("DELETE FROM meta WHERE key = 'cursors_lost'")
                for stream in self._streams.values():
                    with self._transaction(self._moving) as db:
                        stream.base = self._trim(db, stream, {}, 1)
            for connection in (self._reader, self._moving, self._appending):
                connection.close()
        self.wake()

    # What both share.

    @contextmanager
    def _transaction(self, db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise explained(self.path, error) from error

    def _persist(self, work: Callable[[], T]) -> T:
        """Do it, again while the disk refuses, for `PATIENCE` seconds. Raises AlphaForgeError AF6042 or AF6044."""
        until: float | None = None
        while True:
            try:
                return work()
            except sqlite3.Error as error:
                fault = disk_fault(error)
                now = self._pacing.monotonic()
                if until is None:
                    until = now + PATIENCE
                    log.error(
                        "the delivery log can't be written: %s; trying for %g s", fault or error, PATIENCE
                    )
                with suppress(sqlite3.Error):  # what is in the write-ahead log twice gives room back
                    self._appending.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                if fault is None or now >= until or self._pacing.wait(self._hurry, PAUSE):
                    raise explained(self.path, error) from error
