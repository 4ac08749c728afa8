"""The delivery log: what was predicted, in order, kept until every sink has it. The protocol, and the log in memory."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Protocol

from alpha_forge.contracts.interval import iso, to_datetime
from alpha_forge.contracts.types import Prediction
from alpha_forge.runtime.delivery.schema import from_bits, to_bits

log = logging.getLogger("alpha_forge.delivery")

CONFLICTS_KEPT = 1000
"""How many conflicts are kept with both values; all are counted."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Batch:
    """Records that a sink gets next. ``places`` are their numbers in the log, or of requeued dead letters."""

    predictions: tuple[Prediction, ...]
    places: Sequence[int]
    requeued: bool = False

    def __len__(self) -> int:
        return len(self.predictions)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that a sink will never take, why, and when that was said (ns since the epoch)."""

    prediction: Prediction
    reason: str
    at: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """A record that came again with another value: ``kept`` stays, ``refused`` was not taken."""

    prediction: Prediction
    """With the value that was kept."""
    refused: float


@dataclass(slots=True)
class LogCounters:
    """What the log has seen since it was opened."""

    appended: int = 0
    repeated: int = 0
    """Records that it had already, with the same value or one that it can't compare any more."""
    conflicts: int = 0


class DeliveryLog(Protocol):
    """An ordered log with one cursor for each sink. Thread-safe."""

    counters: LogCounters
    durable: bool
    """True if what is left when the process ends is there at the next start."""

    def append(self, predictions: Sequence[Prediction]) -> int:
        """Add a batch as one transaction, without those it has already; returns how many were new.

        When this returns the log has them. The key is (dag name, frame, column, symbol, ts); records of one symbol
        come in order of ts. One that comes again with another value (compared bit by bit) is kept out, counted and
        logged. Raises AlphaForgeError if the log can't take them; then it took none.
        """

    def register(self, sink: str, frame: str, column: str) -> None:
        """Give a sink its cursor over one column: the one it had when it last read that column, else the end."""

    def read(self, sink: str, limit: int) -> Batch:
        """Up to `limit` records that the sink gets next: requeued dead letters, else those behind its cursor, oldest
        first. Nothing moves."""

    def settle(self, sink: str, batch: Batch, rejected: Mapping[int, str] | None = None, at: int = 0) -> None:
        """The sink has the records of `batch`, but for those `rejected` (index → reason): they become dead letters,
        said at `at`, in the same transaction that moves the cursor."""

    def backlog(self, sink: str) -> int:
        """Records behind the cursor that the sink has not taken yet."""

    def dead_letters(self, sink: str) -> list[DeadLetter]:
        """The sink's dead letters, oldest record first."""

    def dead_letter_count(self, sink: str) -> int:
        """How many dead letters the sink has."""

    def drop_dead_letters(self, sink: str, keep: int) -> int:
        """Remove the sink's oldest dead letters so that `keep` are left; returns how many."""

    def drop_oldest(self, sink: str, keep: int) -> int:
        """Move the sink's cursor so that `keep` records are left; returns how many it never gets."""

    def dropped(self, sink: str) -> int:
        """Records that the sink never got, of all that `drop_oldest` passed over."""

    def newest(self, frame: str, column: str) -> Mapping[str, int]:
        """Symbol → newest ts (ns) that the log has had or that was marked, also after trimming."""

    def mark(self, frame: str, column: str, until: Mapping[str, int]) -> None:
        """Count the symbols' closes up to these (ns) as processed, as if they had been appended and delivered."""

    def note(self, sink: str, *, circuit: str, may_duplicate: bool, last_error: str) -> None:
        """Keep a worker's state beside the cursor, for whoever looks at the log. Best effort: raises nothing."""

    def wait(self, sink: str, timeout: float | None) -> bool:
        """Block until there is something to read for the sink, or `wake` is called, or the timeout passes."""

    def wake(self) -> None:
        """Let every `wait` return."""

    def hurry(self) -> None:
        """Let an append that waits for the disk give up: the run ends."""

    def close(self) -> None:
        """Release everything. Idempotent."""


def nanoseconds(instant: datetime) -> int:
    """An aware datetime as ns since the epoch, exact."""
    return (instant - _EPOCH) // _MICROSECOND * 1000


def tell_conflicts(found: Sequence[Conflict]) -> None:
    """One line for the conflicts of a batch."""
    first = found[0].prediction
    log.error(
        "%d record(s) came again with another value and were kept out, the first of them %s of %s at %s: "
        "%r stays, %r was refused; has a plugin or a checkpoint changed under the same name?",
        len(found),
        first.metadata["column"],
        first.symbol,
        iso(nanoseconds(first.ts)),
        first.value,
        found[0].refused,
    )


@dataclass(slots=True)
class _Stream:
    """The records of one column: ``base`` counts those that were dropped behind the slowest cursor."""

    records: deque[Prediction] = field(default_factory=deque)
    base: int = 0
    sinks: list[str] = field(default_factory=list)
    newest: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    """Symbol → ts and bits (None: only marked) of its newest record. They come in order of ts, so it tells a
    repetition."""
    held: dict[tuple[str, int], int] = field(default_factory=dict)
    """(symbol, ts) → bits of the records at hand."""

    @property
    def end(self) -> int:
        return self.base + len(self.records)


@dataclass(slots=True)
class _Cursor:
    stream: _Stream
    place: int
    dropped: int = 0
    letters: list[DeadLetter] = field(default_factory=list)


class MemoryLog:
    """The log in memory: a crash loses what the sinks have not taken."""

    durable = False

    def __init__(self) -> None:
        self.counters = LogCounters()
        self.conflicts: list[Conflict] = []
        self._changed = threading.Condition()
        self._streams: dict[tuple[str, str], _Stream] = {}
        self._cursors: dict[str, _Cursor] = {}

    def append(self, predictions: Sequence[Prediction]) -> int:
        with self._changed:
            new, conflicts = 0, []
            for p in predictions:
                stream = self._stream(str(p.metadata["frame"]), str(p.metadata["column"]))
                ts, bits = nanoseconds(p.ts), to_bits(p.value)
                newest = stream.newest.get(p.symbol)
                if newest is None or ts > newest[0]:
                    stream.newest[p.symbol] = ts, bits
                    stream.held[p.symbol, ts] = bits
                    stream.records.append(p)
                    new += 1
                    continue
                known = newest[1] if ts == newest[0] else stream.held.get((p.symbol, ts))
                if known is None or known == bits:
                    self.counters.repeated += 1
                else:
                    kept = Prediction(p.symbol, p.ts, from_bits(known), p.metadata)
                    conflicts.append(Conflict(kept, p.value))
            self.counters.appended += new
            self.counters.conflicts += len(conflicts)
            self.conflicts += conflicts[: CONFLICTS_KEPT - len(self.conflicts)]
            if new:
                self._changed.notify_all()
        if conflicts:
            tell_conflicts(conflicts)
        return new

    def _stream(self, frame: str, column: str) -> _Stream:
        return self._streams.setdefault((frame, column), _Stream())

    def register(self, sink: str, frame: str, column: str) -> None:
        with self._changed:
            stream = self._stream(frame, column)
            stream.sinks.append(sink)
            self._cursors[sink] = _Cursor(stream, stream.end)

    def read(self, sink: str, limit: int) -> Batch:
        with self._changed:
            cursor = self._cursors[sink]
            start = cursor.place - cursor.stream.base
            found = tuple(islice(cursor.stream.records, start, start + limit))
            return Batch(found, range(cursor.place + 1, cursor.place + 1 + len(found)))

    def settle(self, sink: str, batch: Batch, rejected: Mapping[int, str] | None = None, at: int = 0) -> None:
        if not len(batch):
            return
        with self._changed:
            cursor = self._cursors[sink]
            letters = sorted((rejected or {}).items())
            cursor.letters += [DeadLetter(batch.predictions[i], reason, at) for i, reason in letters]
            # Records that were given up while the sink had them in hand were delivered all the same.
            cursor.dropped -= max(0, min(cursor.place, batch.places[-1]) - batch.places[0] + 1)
            cursor.place = max(cursor.place, batch.places[-1])
            self._trim(cursor.stream)

    def _trim(self, stream: _Stream) -> None:
        slowest = min(self._cursors[s].place for s in stream.sinks)
        while stream.base < slowest:
            p = stream.records.popleft()
            del stream.held[p.symbol, nanoseconds(p.ts)]
            stream.base += 1

    def backlog(self, sink: str) -> int:
        with self._changed:
            cursor = self._cursors[sink]
            return cursor.stream.end - cursor.place

    def dead_letters(self, sink: str) -> list[DeadLetter]:
        with self._changed:
            return list(self._cursors[sink].letters)

    def dead_letter_count(self, sink: str) -> int:
        with self._changed:
            return len(self._cursors[sink].letters)

    def drop_dead_letters(self, sink: str, keep: int) -> int:
        with self._changed:
            letters = self._cursors[sink].letters
            gone = max(0, len(letters) - keep)
            del letters[:gone]
            return gone

    def drop_oldest(self, sink: str, keep: int) -> int:
        with self._changed:
            cursor = self._cursors[sink]
            gone = max(0, cursor.stream.end - cursor.place - keep)
            cursor.place += gone
            cursor.dropped += gone
            self._trim(cursor.stream)
            return gone

    def dropped(self, sink: str) -> int:
        with self._changed:
            return self._cursors[sink].dropped

    def newest(self, frame: str, column: str) -> Mapping[str, int]:
        with self._changed:
            return {symbol: ts for symbol, (ts, _) in self._stream(frame, column).newest.items()}

    def mark(self, frame: str, column: str, until: Mapping[str, int]) -> None:
        with self._changed:
            newest = self._stream(frame, column).newest
            for symbol, ts in until.items():
                if symbol not in newest or newest[symbol][0] < ts:
                    newest[symbol] = ts, None

    def note(self, sink: str, *, circuit: str, may_duplicate: bool, last_error: str) -> None:
        pass  # nobody but this process can look at it, and it has the worker's own status

    def wait(self, sink: str, timeout: float | None) -> bool:
        with self._changed:
            cursor = self._cursors[sink]
            if cursor.stream.end == cursor.place:
                self._changed.wait(timeout)
            return cursor.stream.end > cursor.place

    def wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def hurry(self) -> None:
        pass  # nothing here waits for a disk

    def close(self) -> None:
        self.wake()


def made_prediction(symbol: str, ts: int, bits: int, metadata: Mapping[str, str]) -> Prediction:
    """A record as it was: from the parts that the log keeps."""
    return Prediction(symbol, to_datetime(ts), from_bits(bits), metadata)
