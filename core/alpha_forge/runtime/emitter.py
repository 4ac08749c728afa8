"""From the engine's values to the sinks: PredictionEmitter decides what is a prediction, SignalEmitter delivers it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from types import MappingProxyType

import numpy as np

from alpha_forge.contracts.errors import SinkEmitError
from alpha_forge.contracts.interval import Interval, to_datetime
from alpha_forge.contracts.types import Prediction
from alpha_forge.dsl.document import Document
from alpha_forge.plan.graph import EventFlowDAG
from alpha_forge.runtime.delivery.log import DeliveryLog, MemoryLog
from alpha_forge.runtime.delivery.worker import SinkWorker
from alpha_forge.runtime.results import PredictedRow

log = logging.getLogger("alpha_forge.emitter")

DRAIN_SECONDS = 10.0


class SignalEmitter:
    """Hands predictions to all sinks through the log; one failing sink never stops the others."""

    def __init__(
        self, delivery: DeliveryLog, workers: Sequence[SinkWorker], drain_seconds: float = DRAIN_SECONDS
    ) -> None:
        self._log = delivery
        self.workers = tuple(workers)
        self._drain_seconds = drain_seconds
        self._started = False

    def start(self) -> None:
        """Start every sink's worker."""
        self._started = True
        for worker in self.workers:
            worker.start()

    def emit(self, predictions: Sequence[Prediction]) -> int:
        """Append a batch to the log; from here on each sink gets it. Returns how many were new."""
        return self._log.append(predictions)

    def close(self) -> None:
        """Drain every sink within the deadline, then close it. Raises SinkEmitError for what was not delivered."""
        if not self._started:
            return
        deadline = time.monotonic() + self._drain_seconds
        for worker in self.workers:
            worker.drain()
        late = [worker for worker in self.workers if not worker.join(deadline - time.monotonic())]
        for worker in late:
            worker.abandon()
        failures = {}
        for worker in self.workers:
            worker.join(1.0 if worker in late else 0.0)
            left = self._log.backlog(worker.name)
            if left:
                cause = worker.status.last_error or "it did not take them in time"
                failures[worker.name] = f"{left} record(s) not delivered: {cause}"
            elif worker.status.dead_letters:
                failures[worker.name] = f"{len(worker.status.dead_letters)} record(s) rejected: " + (
                    worker.status.dead_letters[-1].reason
                )
        self._log.close()
        if failures:
            raise SinkEmitError(failures)


class PredictionEmitter:
    """Turns values of delivered columns into predictions: finite ones, on closes of the schedule."""

    def __init__(self, dag: EventFlowDAG, emitter: SignalEmitter) -> None:
        self._dag = dag
        self._emitter = emitter
        self._schedule: Interval | None = dag.emit_interval
        self._metadata = {
            (frame, column): MappingProxyType({"frame": frame, "column": column, "dag_name": dag.name})
            for frame, column in dag.sink_columns()
        }
        self.emitted = 0
        self.not_ready = 0

    def emit_if_ready(self, rows: Sequence[PredictedRow]) -> int:
        """Emit the value of each bar just processed; a NaN counts as not ready. Returns how many were emitted."""
        batch: list[Prediction] = []
        for row in rows:
            if self._schedule is not None and not self._schedule.on_grid(row.ts):
                continue
            predictions = self.predictions(row)
            self.not_ready += len(row.values) - len(predictions)
            batch += predictions
        new = self._emitter.emit(batch) if batch else 0
        self.emitted += new
        return new

    def predictions(self, row: PredictedRow) -> list[Prediction]:
        """The row's values as records, NaN left out, in the order of the universe."""
        symbols = self._dag.frames[row.frame].symbols
        ts = to_datetime(row.ts)
        metadata = self._metadata[(row.frame, row.column)]
        ready = np.flatnonzero(~np.isnan(row.values))
        return [Prediction(symbols[row.symbols[i]], ts, float(row.values[i]), metadata) for i in ready]


def create_emitter_from_dsl(
    document: Document, dag: EventFlowDAG, delivery: DeliveryLog | None = None
) -> SignalEmitter:
    """The SignalEmitter of a configuration: one worker a sink over one log (in memory by default), not yet started."""
    log_of_all = delivery if delivery is not None else MemoryLog()
    workers = [SinkWorker(spec, log_of_all) for spec in dag.sinks]
    return SignalEmitter(
        log_of_all, workers, float(document.signal.delivery.get("drain_seconds", DRAIN_SECONDS))
    )
