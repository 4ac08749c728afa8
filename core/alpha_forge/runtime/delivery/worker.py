"""SinkWorker: one sink, one thread, one cursor. What one sink does never delays another."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from alpha_forge.contracts.errors import AlphaForgeError, Rejected, RetryLater
from alpha_forge.contracts.plugin import Sink
from alpha_forge.contracts.types import Prediction
from alpha_forge.plan.graph import SinkSpec
from alpha_forge.runtime.delivery.backoff import Backoff
from alpha_forge.runtime.delivery.log import DeliveryLog

log = logging.getLogger("alpha_forge.delivery")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that a sink will never take, why, and when that was said."""

    prediction: Prediction
    reason: str
    at: datetime


@dataclass(slots=True)
class SinkStatus:
    """What a worker has done so far."""

    delivered: int = 0
    retries: int = 0
    last_error: str = ""
    dead_letters: list[DeadLetter] = field(default_factory=list)


class SinkWorker:
    """Reads from its cursor, hands batches to the sink, moves the cursor after the sink returned.

    The sink is opened, used and closed on this worker's thread only. A fault is retried for ever with back-off; the
    cursor does not move past it. Records that the sink rejects become dead letters.
    """

    def __init__(self, spec: SinkSpec, delivery: DeliveryLog, *, backoff: Backoff | None = None) -> None:
        self.spec = spec
        self.status = SinkStatus()
        self._log = delivery
        self._backoff = backoff or Backoff()
        self._single = spec.plugin.emit_batch is Sink.emit_batch
        # Records of a sink that takes them one by one are acknowledged one by one: a fault repeats none of the others.
        self._batch = 1 if self._single else int(spec.delivery.get("max_batch") or spec.plugin.max_batch)
        self._draining = threading.Event()
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._finished = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"sink {spec.name}", daemon=True)
        self._runner: asyncio.Runner | None = None
        delivery.register(spec.name, spec.frame, spec.column)

    @property
    def name(self) -> str:
        return self.spec.name

    def start(self) -> None:
        self._thread.start()

    def drain(self) -> None:
        """Ask the worker to end once its backlog is empty. A pause that it is in ends: there may be no later try."""
        self._draining.set()
        self._hurry.set()
        self._log.wake()

    def abandon(self) -> None:
        """Ask the worker to end now; what it has not delivered stays behind its cursor."""
        self._stop.set()
        self._hurry.set()
        self._log.wake()

    def join(self, timeout: float) -> bool:
        """True if the worker has ended within `timeout` seconds."""
        return self._finished.wait(max(0.0, timeout))

    def _run(self) -> None:
        try:
            with asyncio.Runner() as self._runner:
                while not self._stop.is_set():
                    if self._session():
                        break
        finally:
            self._finished.set()

    def _session(self) -> bool:
        """Open an instance and deliver until it faults. True if the worker is done."""
        sink: Sink | None = None
        opened = False
        try:
            sink = self.spec.plugin(self.spec.params)
            opened = True  # close follows every path that calls open, a failed open included
            self._call(sink.open)
            return self._deliver(sink)
        except RetryLater as error:
            self._pause(f"{error}", error.after)
        except BaseException as error:  # noqa: BLE001 - a sink's code: whatever it raises delays this sink alone
            self._pause(_cause(error), None)
        finally:
            if sink is not None and opened:
                self._close(sink)
        return self._stop.is_set()

    def _deliver(self, sink: Sink) -> bool:
        while not self._stop.is_set():
            batch = self._log.read(self.name, self._batch)
            if not batch:
                if self._draining.is_set():
                    return True
                self._log.wait(self.name, 0.5)
                continue
            try:
                self._hand_over(sink, batch)
            except Rejected as error:
                self._reject(batch, error)
            except RetryLater as error:
                self._pause(f"{error}", error.after)
                continue
            self._log.advance(self.name, len(batch))
            self.status.delivered += len(batch)
            self._backoff.reset()
        return True

    def _hand_over(self, sink: Sink, batch: Sequence[Prediction]) -> None:
        """Batch or single, sync or async: whichever form the sink has."""
        if not self._single:
            self._call(partial(sink.emit_batch, batch))
            return
        (p,) = batch
        try:
            self._call(partial(sink.emit, p.symbol, p.ts, p.value, p.metadata))
        except Rejected as error:
            raise Rejected({0: next(iter(error.reasons.values()), str(error))}) from error

    def _call(self, function: Callable[[], Any]) -> None:
        result = function()
        if inspect.isawaitable(result):
            assert self._runner is not None
            self._runner.run(_awaited(result))

    def _reject(self, batch: Sequence[Prediction], error: Rejected) -> None:
        now = datetime.now(UTC)
        reasons = {i: reason for i, reason in error.reasons.items() if 0 <= i < len(batch)}
        self.status.dead_letters += [DeadLetter(batch[i], reason, now) for i, reason in reasons.items()]
        self.status.delivered -= len(reasons)
        log.error("sink %s rejected %d record(s): %s", self.name, len(reasons), error)

    def _pause(self, cause: str, after: float | None) -> None:
        """Wait before the next try; ends early when the worker is told to stop."""
        delay = self._backoff.failed()
        self.status.retries += 1
        self.status.last_error = cause
        seconds = delay if after is None else after
        log.warning("sink %s: %s; next try in %.1f s", self.name, cause, seconds)
        # Once told to drain it is tried at once, and after that at its pace, until there is no time left.
        (self._stop if self._hurry.is_set() else self._hurry).wait(seconds)

    def _close(self, sink: Sink) -> None:
        try:
            self._call(sink.close)
        except BaseException as error:  # noqa: BLE001 - a sink's code; its records are safe already
            self.status.last_error = f"close: {_cause(error)}"
            log.warning("sink %s: close failed: %s", self.name, error)


def _cause(error: BaseException) -> str:
    """One line for logs: an error with a code by its code and message, any other by its type."""
    if isinstance(error, AlphaForgeError):
        return f"[{error.code}] {error.message}"
    return f"{type(error).__name__}: {error}"


async def _awaited(awaitable: Any) -> Any:
    return await awaitable
