"""SinkWorker: one sink, one cursor, one thread that waits for it. What one sink does never delays another."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from alpha_forge.contracts.errors import AlphaForgeError, Rejected, RetryLater
from alpha_forge.contracts.plugin import Sink
from alpha_forge.contracts.types import Prediction
from alpha_forge.plan.graph import SinkSpec
from alpha_forge.runtime.delivery.backoff import Backoff
from alpha_forge.runtime.delivery.calls import CallHangsError, CallLeftError, CallTimeoutError, SinkThread
from alpha_forge.runtime.delivery.log import Batch, DeliveryLog
from alpha_forge.runtime.delivery.pacing import Pacing, RealTime
from alpha_forge.runtime.delivery.status import CLOSED, OPEN, SinkStatus, hidden, one_line, secrets_of

log = logging.getLogger("alpha_forge.delivery")

FAULTS_TO_OPEN = 5
"""Faults in a row after which the circuit is open: from then on a try is a probe, one batch, seldom logged."""

MOST_ABANDONED = 32
"""Calls that may hang at once; while there are so many no further instance is opened: each holds a thread."""

LAST_CLOSE_SECONDS = 0.8
"""Real seconds that a worker that was told to end at once gives an instance to close."""

LOOK_AGAIN = 0.5
"""Real seconds after which an idle worker looks for dead letters that another process has put back."""


class SinkWorker:
    """Reads from its cursor, hands batches to the sink, moves the cursor after the sink returned.

    The sink is opened, used and closed on one thread of its own; this worker's thread waits for it, as long as the
    sink's timeout allows. A fault is retried for ever with back-off, with the same batch; the cursor does not move past
    it unless ``retries`` of the sink's delivery says otherwise (see `_give_up`). Records that the sink rejects become
    dead letters.
    """

    def __init__(
        self,
        spec: SinkSpec,
        delivery: DeliveryLog,
        *,
        backoff: Backoff | None = None,
        pacing: Pacing | None = None,
    ) -> None:
        self.spec = spec
        self.status = SinkStatus()
        self.failure: AlphaForgeError | None = None
        """Why the worker has ended by itself: the log failed."""
        self._log = delivery
        self._backoff = backoff or Backoff()
        self._pacing = pacing or RealTime()
        self._single = spec.plugin.emit_batch is Sink.emit_batch
        # Records of a sink that takes them one by one are acknowledged one by one: a fault repeats none of the others.
        self._most = 1 if self._single else int(spec.delivery.get("max_batch") or spec.plugin.max_batch)
        self._timeout = float(spec.delivery.get("timeout") or spec.plugin.timeout)
        self._retries: int | None = spec.delivery.get("retries")
        self._secrets = secrets_of(spec.params)
        self._held: Batch | None = None
        """What the sink was given and has not taken: given again as it is, so that a destination that knows the
        batch by its content (a deduplication token) knows it again."""
        self._tries = 0
        """Faults of the batch at hand."""
        self._search: tuple[int, int] | None = None
        """While a culprit is searched for: (records in a batch, place of the last suspect)."""
        self._at_once = False
        """The next try needs no pause before it."""
        self._draining = threading.Event()
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._finished = threading.Event()
        self._caller: SinkThread | None = None
        self._hanging: list[SinkThread] = []
        self._told = ""
        self._thread = threading.Thread(target=self._run, name=f"deliver {spec.name}", daemon=True)
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
        caller = self._caller
        if caller is not None:
            caller.leave()
        self._log.wake()

    def join(self, timeout: float) -> bool:
        """True if the worker has ended within `timeout` seconds."""
        return self._finished.wait(max(0.0, timeout))

    # One instance after another.

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                fault = self._session()
                if fault is None:
                    break
                self._pause(fault)
        except AlphaForgeError as error:
            # The log itself fails: there is nothing to read, and nowhere to note what was delivered.
            self.failure = error
            self.status.last_error = one_line(error)
            log.error("sink %s: delivery ends: %s", self.name, self.status.last_error)
        except Exception as error:
            # No thread to be had, or a fault of ours: never a worker that has gone without a word.
            text = one_line(error, self._secrets)
            self.failure = AlphaForgeError("AF9001", f"delivery to {self.name} ended: unexpected {text}")
            self.status.last_error = text
            log.exception("sink %s: delivery ends", self.name)
        finally:
            if self._caller is not None:
                self._caller.end()
            self._finished.set()

    def _session(self) -> BaseException | None:
        """Open an instance and deliver until it faults. Returns the fault; None if the worker is done."""
        if not self._may_open():
            return None
        if self._caller is None:
            self._caller = SinkThread(f"sink {self.name}", self._pacing)
            if self._stop.is_set():
                return None
        opened: list[Sink] = []  # close follows every path that calls open, a failed open included
        try:
            sink = self._call(lambda: self.spec.plugin(self.spec.params))
            # What is right for a batch may be too short for reading an index or making a table.
            self._call(partial(_open, sink, opened), least=self.spec.plugin.timeout)
            self._deliver(sink)
            fault = None
        except _LogError as error:
            self._close(opened)
            raise error.cause from None
        except CallLeftError as error:
            self._leave_behind(opened, free=not error.begun)
            return None
        except CallHangsError as error:
            self._note_timeout(hangs=True)
            self._leave_behind(opened)
            return error
        except BaseException as error:  # noqa: BLE001 - a sink's code: whatever it raises delays this sink alone
            if isinstance(error, CallTimeoutError):
                self._note_timeout(hangs=False)
            fault = error
        self._close(opened)
        return fault

    def _call(self, function: Callable[[], Any], least: float = 0.0) -> Any:
        assert self._caller is not None
        return self._caller.call(function, max(self._timeout, least))

    def _close(self, sinks: Sequence[Sink]) -> None:
        for sink in sinks:
            try:
                self._call(sink.close)
            except CallLeftError as error:
                self._leave_behind(() if error.begun else (sink,), free=not error.begun)
            except CallHangsError:
                self._leave_behind(())
            except BaseException as error:  # noqa: BLE001 - a sink's code; its records are safe already
                self.status.last_error = f"close: {one_line(error, self._secrets)}"
                log.warning("sink %s: close failed: %s", self.name, self.status.last_error)

    def _leave_behind(self, sinks: Sequence[Sink], *, free: bool = False) -> None:
        """Give the thread up with the call that hangs in it; its instance is closed if that ever returns.

        A thread that is `free` has no such call: there is no reason for the close to take long.
        """
        caller = self._caller
        assert caller is not None
        self._caller = None
        self._hanging = [thread for thread in self._hanging if thread.alive] + [caller]

        def close() -> Any:
            log.info("sink %s: a call that was given up has returned; its instance is closed", self.name)
            return sinks[0].close() if sinks else None

        caller.after(close)
        if free:
            caller.join(LAST_CLOSE_SECONDS)

    def _note_timeout(self, *, hangs: bool) -> None:
        self.status.timeouts += 1
        self.status.abandoned += hangs
        if self._held is not None and not self.spec.plugin.idempotent_by and not self.status.may_duplicate:
            self.status.may_duplicate = True
            log.warning(
                "sink %s may hold records twice: a call was given up after %g s and may still have written, and "
                "the sink does not know a record again",
                self.name,
                self._timeout,
            )

    def _may_open(self) -> bool:
        """Wait while too many calls hang. False if the worker was told to end meanwhile."""
        told = False
        while not self._stop.is_set():
            self._hanging = [thread for thread in self._hanging if thread.alive]
            if len(self._hanging) < MOST_ABANDONED:
                return True
            if not told:
                log.error("sink %s: %d calls hang; it is not tried again until one returns",
                          self.name, MOST_ABANDONED)  # fmt: skip
                told = True
            self._pacing.wait(self._stop, 1.0)
        return False

    # One batch after another.

    def _deliver(self, sink: Sink) -> None:
        """Until there is nothing left to drain, or the worker is told to end. Raises the sink's fault, `_LogError`."""
        while not self._stop.is_set():
            batch = self._held or self._next()
            if not len(batch):
                if self._draining.is_set():
                    return
                self._log.wait(self.name, LOOK_AGAIN)
                continue
            self._held = batch
            rejected: dict[int, str] = {}
            try:
                self._hand_over(sink, batch.predictions)
            except Rejected as error:
                rejected = self._rejected(batch, error)
            except RetryLater as error:
                self._pause(error)
                continue
            except CallLeftError:
                raise
            except BaseException as error:
                # Whatever it was, the instance may be broken: the next try is another one's.
                self._tries += 1
                self._give_up(batch, error)
                raise
            self._settle(batch, rejected)
            self._recovered()

    def _next(self) -> Batch:
        size = self._most
        if self._search is not None:
            size = self._search[0]
        try:
            return self._log.read(self.name, size)
        except AlphaForgeError as error:
            raise _LogError(error) from error

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

    def _settle(self, batch: Batch, rejected: dict[int, str]) -> None:
        """Note in the log that the sink has the batch; tried until it works, since the sink would get it again."""
        told = False
        while True:
            try:
                self._log.settle(self.name, batch, rejected, self._pacing.now())
                break
            except AlphaForgeError as error:
                if error.code != "AF6044":
                    raise _LogError(error) from error
                self.status.last_error = one_line(error)
                if not told:
                    told = True
                    log.error(
                        "sink %s: %s; the cursor is moved once that is over",
                        self.name,
                        self.status.last_error,
                    )
                if self._pacing.wait(self._stop, 1.0):
                    raise _LogError(error) from error
        self._held = None
        self.status.delivered += len(batch) - len(rejected)
        self.status.rejected += len(rejected)
        if rejected:
            self.status.last_rejection = rejected[max(rejected)]
            log.error(
                "sink %s rejected %d record(s): %s", self.name, len(rejected), self.status.last_rejection
            )
        if self._search is not None and (batch.requeued or batch.places[-1] >= self._search[1]):
            self._search = None

    def _rejected(self, batch: Batch, error: Rejected) -> dict[int, str]:
        return {i: hidden(str(r), self._secrets) for i, r in error.reasons.items() if 0 <= i < len(batch)}

    def _give_up(self, batch: Batch, error: BaseException) -> None:
        """After ``retries`` further tries of one batch, search for the record that is to blame: the batch is halved
        until a record fails alone, which becomes a dead letter.

        Halves are tried at once. One culprit a round, then a pause and all the tries again: where the destination
        itself is down, its records do not pass into the dead letters by the thousand.
        """
        if self._retries is None or (self._search is None and self._tries <= self._retries):
            return
        if len(batch) > 1:
            last = batch.places[-1] if self._search is None else self._search[1]
            self._search = len(batch) // 2, last
            self._held = None
            self._at_once = True
            return
        cause = one_line(error, self._secrets)
        self._settle(batch, {0: f"given up after {self._tries} tries: {cause}"})
        self._tries, self._search = 0, None

    # Faults.

    def _pause(self, fault: BaseException) -> None:
        """Wait before the next try; ends early when the worker is told to stop or to drain."""
        delay = self._backoff.failed()
        self.status.retries += 1
        cause = f"{fault}" if isinstance(fault, RetryLater) else one_line(fault, self._secrets)
        cause = self.status.last_error = hidden(cause, self._secrets)
        # What says of itself what to mend will not pass by itself.
        lasting = isinstance(fault, AlphaForgeError)
        if isinstance(fault, RetryLater) and fault.after is not None:
            delay = max(0.0, fault.after)
        if self._at_once:
            self._at_once, delay = False, 0.0
        if self.status.circuit == OPEN:
            log.debug("sink %s: %s; next probe in %.1f s", self.name, cause, delay)
        else:
            log.warning("sink %s: %s; next try in %.1f s", self.name, cause, delay)
        if lasting and cause != self._told:
            self._told = cause
            log.error("sink %s needs to be mended: %s", self.name, hidden(str(fault), self._secrets))
        if self.status.circuit == CLOSED and (lasting or self._backoff.failures >= FAULTS_TO_OPEN):
            self.status.circuit = OPEN
            log.error("sink %s: circuit open after %d fault(s); its records wait in the log, a batch is tried "
                      "now and then", self.name, self._backoff.failures)  # fmt: skip
        self._note()
        # Once told to drain it is tried at once, and after that at its pace, until there is no time left.
        self._pacing.wait(self._stop if self._hurry.is_set() else self._hurry, delay)

    def _recovered(self) -> None:
        self._tries = 0
        if self._backoff.failures == 0:
            return
        failures = self._backoff.failures
        self._backoff.reset()
        self._told = ""
        if self.status.circuit == OPEN:
            self.status.circuit = CLOSED
            log.info("sink %s takes records again after %d fault(s)", self.name, failures)
        self._note()

    def _note(self) -> None:
        status = self.status
        self._log.note(
            self.name,
            circuit=status.circuit,
            may_duplicate=status.may_duplicate,
            last_error=status.last_error,
        )


def _open(sink: Sink, opened: list[Sink]) -> Any:
    """On the sink's thread: from here on it is to be closed, however long this takes."""
    opened.append(sink)
    return sink.open()


class _LogError(Exception):
    """The log failed, not the sink."""

    def __init__(self, cause: AlphaForgeError) -> None:
        super().__init__(str(cause))
        self.cause = cause
