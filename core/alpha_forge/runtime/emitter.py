"""From the engine's values to the sinks: PredictionEmitter decides what is a prediction, SignalEmitter delivers it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from types import MappingProxyType

import numpy as np

from alpha_forge.contracts.errors import AlphaForgeError, SinkEmitError
from alpha_forge.contracts.interval import Interval, to_datetime
from alpha_forge.contracts.types import Prediction
from alpha_forge.dsl.document import Document
from alpha_forge.plan.graph import EventFlowDAG
from alpha_forge.runtime.delivery.log import DeliveryLog, MemoryLog
from alpha_forge.runtime.delivery.outbox import OUTBOX, Outbox
from alpha_forge.runtime.delivery.status import DeliveryReport, SinkReport
from alpha_forge.runtime.delivery.worker import SinkWorker
from alpha_forge.runtime.results import PredictedRow
from alpha_forge.runtime.state import StateDirectory

log = logging.getLogger("alpha_forge.emitter")

DRAIN_SECONDS = 10.0
MAX_BACKLOG = 1_000_000
"""Records that may wait for one sink."""


class SignalEmitter:
    """Hands predictions to all sinks through the log; one failing sink never stops the others."""

    def __init__(
        self,
        delivery: DeliveryLog,
        workers: Sequence[SinkWorker],
        drain_seconds: float = DRAIN_SECONDS,
        *,
        max_backlog: int = MAX_BACKLOG,
        on_backlog: str = "stop",
    ) -> None:
        self.log = delivery
        self.workers = tuple(workers)
        self._drain_seconds = drain_seconds
        self._max_backlog = max_backlog
        self._drop = on_backlog == "drop_oldest"
        self._dropping: set[str] = set()
        self._rejected_at_count: dict[str, int] = {}
        self._started = False

    def start(self) -> None:
        """Start every sink's worker."""
        self._started = True
        for worker in self.workers:
            worker.start()

    def emit(self, predictions: Sequence[Prediction]) -> int:
        """Append a batch to the log; from here on each sink gets it. Returns how many were new.

        Raises AlphaForgeError AF6046 if a sink's backlog is over its limit and nothing may be dropped: the batch is in
        the log then, and the run should end; what the log itself raises if it can't take the batch, or if a sink's
        records can't be read from it.
        """
        new = self.log.append(predictions)
        for worker in self.workers:
            if worker.failure is not None:
                raise worker.failure  # its part of the log can't be read: going on would pile up what it never gets
            self._bound_dead_letters(worker)
            if self.log.backlog(worker.name) > self._max_backlog:
                self._over(worker)
            elif worker.name in self._dropping and not self.log.backlog(worker.name):
                self._dropping.discard(worker.name)
        return new

    def _bound_dead_letters(self, worker: SinkWorker) -> None:
        """Dead letters obey the backlog's limit too, or a sink that rejects everything would fill the disk. They are
        counted at the start and each time that the sink has rejected some share of the limit."""
        seen = self._rejected_at_count.get(worker.name)
        if seen is not None and worker.status.rejected - seen < max(1, self._max_backlog // 100):
            return
        self._rejected_at_count[worker.name] = worker.status.rejected
        count = self.log.dead_letter_count(worker.name)
        if count <= self._max_backlog:
            return
        what = f"sink {worker.name} has {count} dead letters; the limit is {self._max_backlog}"
        if not self._drop:
            raise AlphaForgeError(
                "AF6046",
                what,
                "see why with 'alpha_forge outbox show', then retry or drop them; or raise delivery.max_backlog, "
                "or let the oldest go with delivery.on_backlog: drop_oldest",
            )
        self.log.drop_dead_letters(worker.name, self._max_backlog)
        log.error("%s, so the oldest are dropped", what)

    def _over(self, worker: SinkWorker) -> None:
        cause = worker.status.last_error or "it does not take them as fast as they come"
        what = f"{self.log.backlog(worker.name)} records wait for sink {worker.name}: {cause}"
        if not self._drop:
            raise AlphaForgeError(
                "AF6046",
                f"{what}; the limit is {self._max_backlog}",
                "mend the destination and start again: nothing is lost; or raise delivery.max_backlog, or let the "
                "oldest go with delivery.on_backlog: drop_oldest",
            )
        gone = self.log.drop_oldest(worker.name, self._max_backlog)
        if worker.name not in self._dropping:
            self._dropping.add(worker.name)
            log.error("%s; the limit is %d, so the oldest are dropped for it", what, self._max_backlog)
        log.debug("sink %s: %d record(s) dropped", worker.name, gone)

    def hurry(self) -> None:
        """The run ends: an `emit` that waits for a full disk gives up. Thread-safe."""
        self.log.hurry()

    def report(self) -> DeliveryReport:
        """Counts of the log and of each sink at this moment. Thread-safe."""
        counters = self.log.counters
        sinks = {worker.name: self._report(worker) for worker in self.workers}
        return DeliveryReport(counters.appended, counters.repeated, counters.conflicts, sinks)

    def _report(self, worker: SinkWorker) -> SinkReport:
        status = worker.status
        return SinkReport(
            delivered=status.delivered,
            backlog=self.log.backlog(worker.name),
            dead_letters=status.rejected,
            dropped=self.log.dropped(worker.name),
            retries=status.retries,
            timeouts=status.timeouts,
            abandoned=status.abandoned,
            circuit=status.circuit,
            may_duplicate=status.may_duplicate,
            last_error=status.last_error,
        )

    def close(self) -> None:
        """Drain every sink within the deadline, then close it and the log.

        Raises SinkEmitError for what was not delivered, and for what was rejected in this run: what is left in a
        durable log is not lost, but the sinks have not taken everything.
        """
        try:
            failures = self._drain() if self._started else {}
        finally:
            self.log.close()
        if failures:
            raise SinkEmitError(failures)

    def _drain(self) -> dict[str, str]:
        deadline = time.monotonic() + self._drain_seconds
        for worker in self.workers:
            worker.drain()
        late = [worker for worker in self.workers if not worker.join(deadline - time.monotonic())]
        for worker in late:
            worker.abandon()
        failures = {}
        for worker in self.workers:
            worker.join(1.0 if worker in late else 0.0)
            left = self.log.backlog(worker.name)
            status = worker.status
            if left:
                cause = status.last_error or "it did not take them in time"
                kept = " yet; they are kept for the next start" if self.log.durable else ""
                failures[worker.name] = f"{left} record(s) not delivered{kept}: {cause}"
            elif status.rejected:
                failures[worker.name] = f"{status.rejected} record(s) rejected: {status.last_rejection}"
        return failures


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
    document: Document, dag: EventFlowDAG, state: StateDirectory | None = None
) -> SignalEmitter:
    """The SignalEmitter of a configuration: one worker a sink over one log, not yet started.

    The log is the outbox in the state directory, whose lock the caller holds; in memory without one, and with
    ``durability: memory``. Raises AlphaForgeError if the outbox can't be opened (see `open_outbox`).
    """
    options = document.signal.delivery
    delivery: DeliveryLog
    if state is None or options.get("durability") == "memory":
        delivery = MemoryLog()
    else:
        delivery = Outbox(state.path(OUTBOX), dag.name)
    try:
        workers = [SinkWorker(spec, delivery) for spec in dag.sinks]
    except BaseException:
        delivery.close()
        raise
    return SignalEmitter(
        delivery,
        workers,
        float(options.get("drain_seconds", DRAIN_SECONDS)),
        max_backlog=int(options.get("max_backlog", MAX_BACKLOG)),
        on_backlog=str(options.get("on_backlog", "stop")),
    )
