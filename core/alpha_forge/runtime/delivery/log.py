"""The delivery log: what was predicted, in order, kept until every sink has it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Protocol

from alpha_forge.contracts.types import Prediction


class DeliveryLog(Protocol):
    """An ordered log with one cursor for each sink. Thread-safe."""

    def append(self, predictions: Sequence[Prediction]) -> int:
        """Add a batch as one transaction, without those it has already; returns how many were new.

        When this returns the log has them. The key is (dag name, frame, column, symbol, ts).
        """

    def register(self, sink: str, frame: str, column: str) -> None:
        """Make a cursor for a sink that receives one column, at the log's end."""

    def read(self, sink: str, limit: int) -> list[Prediction]:
        """Up to `limit` records behind the sink's cursor, oldest first; the cursor stays."""

    def advance(self, sink: str, count: int) -> None:
        """Move the sink's cursor over `count` records: it has them."""

    def backlog(self, sink: str) -> int:
        """Records that the sink has not taken yet."""

    def wait(self, sink: str, timeout: float | None) -> bool:
        """Block until there is something to read for the sink, or `wake` is called, or the timeout passes."""

    def wake(self) -> None:
        """Let every `wait` return."""

    def close(self) -> None:
        """Release everything. Idempotent."""


@dataclass(slots=True)
class _Stream:
    """The records of one column: ``base`` counts those that were dropped behind the slowest cursor."""

    records: deque[Prediction] = field(default_factory=deque)
    base: int = 0
    sinks: list[str] = field(default_factory=list)
    newest: dict[str, datetime] = field(default_factory=dict)
    """Predictions of a symbol come in order of ts, so its newest ts tells a repetition."""

    @property
    def end(self) -> int:
        return self.base + len(self.records)


class MemoryLog:
    """The log in memory: a crash loses what the sinks have not taken."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._streams: dict[tuple[str, str], _Stream] = {}
        self._of_sink: dict[str, _Stream] = {}
        self._cursors: dict[str, int] = {}

    def append(self, predictions: Sequence[Prediction]) -> int:
        with self._changed:
            new = 0
            for prediction in predictions:
                stream = self._stream(str(prediction.metadata["frame"]), str(prediction.metadata["column"]))
                newest = stream.newest.get(prediction.symbol)
                if newest is None or prediction.ts > newest:
                    stream.newest[prediction.symbol] = prediction.ts
                    stream.records.append(prediction)
                    new += 1
            if new:
                self._changed.notify_all()
            return new

    def _stream(self, frame: str, column: str) -> _Stream:
        return self._streams.setdefault((frame, column), _Stream())

    def register(self, sink: str, frame: str, column: str) -> None:
        with self._changed:
            stream = self._stream(frame, column)
            stream.sinks.append(sink)
            self._of_sink[sink] = stream
            self._cursors[sink] = stream.end

    def read(self, sink: str, limit: int) -> list[Prediction]:
        with self._changed:
            stream = self._of_sink[sink]
            start = self._cursors[sink] - stream.base
            return list(islice(stream.records, start, start + limit))

    def advance(self, sink: str, count: int) -> None:
        with self._changed:
            self._cursors[sink] += count
            stream = self._of_sink[sink]
            slowest = min(self._cursors[s] for s in stream.sinks)
            while stream.base < slowest:
                stream.records.popleft()
                stream.base += 1

    def backlog(self, sink: str) -> int:
        with self._changed:
            return self._of_sink[sink].end - self._cursors[sink]

    def wait(self, sink: str, timeout: float | None) -> bool:
        with self._changed:
            stream = self._of_sink[sink]
            if stream.end == self._cursors[sink]:
                self._changed.wait(timeout)
            return stream.end > self._cursors[sink]

    def wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        self.wake()
