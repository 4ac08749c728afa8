"""OutboxAdmin: looking into an outbox and moving its dead letters, also while a run delivers from it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from alpha_forge.contracts.errors import UsageError, did_you_mean
from alpha_forge.runtime.delivery.schema import explained, from_bits, open_outbox


@dataclass(frozen=True, slots=True)
class SinkState:
    """One sink's place in the log. Instants are ns since the epoch."""

    name: str
    frame: str
    column: str
    live: bool
    """The last run had it; a sink that is not live does not hold trimming."""
    delivered: int
    backlog: int
    oldest: int | None
    """ts of the oldest record that waits."""
    dead_letters: int
    requeued: int
    """Of the dead letters, those that go to the sink again."""
    dropped: int
    may_duplicate: bool
    circuit: str
    last_error: str


@dataclass(frozen=True, slots=True)
class Record:
    """A record that waits (``reason`` is None), or a dead letter."""

    sink: str
    symbol: str
    ts: int
    value: float
    column: str
    reason: str | None = None
    at: int | None = None
    requeued: bool = False


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A record that came again with another value."""

    column: str
    symbol: str
    ts: int
    kept: float
    refused: float
    at: int


class OutboxAdmin:
    """A view of the outbox at `path`; each method is one transaction, so that a run may go on beside it.

    Every method raises AlphaForgeError (see `open_outbox`) for a file that fails.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = open_outbox(path)

    def __enter__(self) -> OutboxAdmin:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def sinks(self) -> list[SinkState]:
        """Every sink that the log knows, by name."""
        with self._transaction("DEFERRED") as db:
            rows = db.execute(
                "SELECT name, stream, place, live, delivered, dropped, may_duplicate, circuit, last_error, frame, "
                '"column" FROM sinks JOIN streams ON streams.id = sinks.stream ORDER BY name'
            ).fetchall()
            return [self._sink(db, row) for row in rows]

    def _sink(self, db: sqlite3.Connection, row: Sequence) -> SinkState:  # type: ignore[type-arg]
        name, stream, place, live, delivered, dropped, doubled, circuit, error, frame, column = row
        (end,) = db.execute("SELECT max(place) FROM records WHERE stream = ?", (stream,)).fetchone()
        (first,) = db.execute("SELECT min(place) FROM records WHERE stream = ?", (stream,)).fetchone()
        waiting = max(0, (end or 0) - max(place, (first or 1) - 1))
        oldest = db.execute(
            "SELECT ts FROM records WHERE stream = ? AND place > ? ORDER BY place LIMIT 1", (stream, place)
        ).fetchone()
        dead, requeued = db.execute(
            "SELECT count(*), coalesce(sum(requeued), 0) FROM dead_letters WHERE sink = ?", (name,)
        ).fetchone()
        return SinkState(name, frame, column, bool(live), delivered, waiting, oldest and oldest[0], dead, requeued,
                         dropped, bool(doubled), circuit, error)  # fmt: skip

    def conflict_count(self) -> int:
        """Records that came again with another value, over all runs."""
        with self._transaction("DEFERRED") as db:
            found = db.execute("SELECT value FROM meta WHERE key = 'conflicts'").fetchone()
        return int(found[0]) if found else 0

    def waiting(self, sink: str, limit: int) -> list[Record]:
        """What the sink gets next of the log, oldest first."""
        with self._transaction("DEFERRED") as db:
            rows = db.execute(
                'SELECT symbols.name, records.ts, records.bits, streams."column" FROM sinks '
                "JOIN records ON records.stream = sinks.stream AND records.place > sinks.place "
                "JOIN symbols ON symbols.id = records.symbol JOIN streams ON streams.id = records.stream "
                "WHERE sinks.name = ? ORDER BY records.place LIMIT ?",
                (sink, limit),
            ).fetchall()
        return [Record(sink, symbol, ts, from_bits(bits), column) for symbol, ts, bits, column in rows]

    def dead_letters(self, sink: str, limit: int) -> list[Record]:
        """The sink's dead letters, oldest record first."""
        with self._transaction("DEFERRED") as db:
            rows = db.execute(
                'SELECT symbols.name, ts, bits, streams."column", reason, at, requeued FROM dead_letters '
                "JOIN symbols ON symbols.id = dead_letters.symbol JOIN streams ON streams.id = dead_letters.stream "
                "WHERE sink = ? ORDER BY place LIMIT ?",
                (sink, limit),
            ).fetchall()
        return [Record(sink, s, ts, from_bits(bits), c, reason, at, bool(again))
                for s, ts, bits, c, reason, at, again in rows]  # fmt: skip

    def conflicts(self, limit: int) -> list[Contradiction]:
        """Conflicts that are kept with both values, oldest record first."""
        with self._transaction("DEFERRED") as db:
            rows = db.execute(
                'SELECT streams."column", symbols.name, ts, kept, refused, at FROM conflicts '
                "JOIN symbols ON symbols.id = conflicts.symbol JOIN streams ON streams.id = conflicts.stream "
                "ORDER BY ts, symbols.name LIMIT ?",
                (limit,),
            ).fetchall()
        return [Contradiction(c, s, ts, from_bits(k), from_bits(r), at) for c, s, ts, k, r, at in rows]

    def retry(self, sink: str) -> int:
        """Put the sink's dead letters back, in the order of the log, before what waits for it; returns how many.

        A running process delivers them within a second, else the next start does.
        """
        with self._transaction() as db:
            return db.execute(
                "UPDATE dead_letters SET requeued = 1 WHERE sink = ? AND requeued = 0", (sink,)
            ).rowcount

    def drop_dead_letters(self, sink: str) -> int:
        """Remove the sink's dead letters for good; returns how many."""
        with self._transaction() as db:
            return db.execute("DELETE FROM dead_letters WHERE sink = ?", (sink,)).rowcount

    def drop_sink(self, sink: str) -> int:
        """Forget a sink: its cursor, and its dead letters, whose number is returned."""
        with self._transaction() as db:
            db.execute("DELETE FROM sinks WHERE name = ?", (sink,))
            return db.execute("DELETE FROM dead_letters WHERE sink = ?", (sink,)).rowcount

    def require(self, sink: str) -> None:
        """Raise UsageError AF6047 if the log knows no such sink."""
        known = [state.name for state in self.sinks()]
        if sink not in known:
            raise UsageError(
                "AF6047", f"the delivery log {self.path} has no sink '{sink}'", did_you_mean(sink, known)
            )

    @contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
        try:
            self._db.execute(f"BEGIN {kind}")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise explained(self.path, error) from error
