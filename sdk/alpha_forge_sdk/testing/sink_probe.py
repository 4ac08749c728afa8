"""Drives any sink as the runtime does: on one thread of its own, sync or async, single or batch, with deadlines."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from functools import partial
from typing import Any

from alpha_forge.contracts.errors import Rejected
from alpha_forge.contracts.plugin import Sink
from alpha_forge.contracts.types import Prediction


class CallTimedOut(Exception):
    """A call of the sink did not end in time. The call goes on in its thread, which nothing can end."""


class SinkDriver:
    """Calls a sink the way the runtime does, on the caller's own thread. All calls must come from one thread."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self._runner: asyncio.Runner | None = None

    def open(self) -> None:
        self._call(self.sink.open)

    def close(self) -> None:
        self._call(self.sink.close)

    def emit(self, prediction: Prediction) -> None:
        """Hand over one record by ``emit``, whichever form the sink prefers."""
        p = prediction
        self._call(partial(self.sink.emit, p.symbol, p.ts, p.value, p.metadata))

    def emit_batch(self, predictions: Sequence[Prediction]) -> None:
        """Hand over records, by ``emit_batch`` if the sink has it, else one by one.

        Raises what the sink raises; from single records, `Rejected` with their indices after all others were offered.
        """
        if type(self.sink).emit_batch is not Sink.emit_batch:
            self._call(partial(self.sink.emit_batch, predictions))
            return
        reasons: dict[int, str] = {}
        for index, prediction in enumerate(predictions):
            try:
                self.emit(prediction)
            except Rejected as error:
                reasons[index] = next(iter(error.reasons.values()), str(error))
        if reasons:
            raise Rejected(reasons)

    def end(self) -> None:
        """Release the event loop that async sinks were run on. Does not close the sink."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None

    def _call(self, function: Callable[[], Any]) -> None:
        result = function()
        if inspect.isawaitable(result):
            if self._runner is None:
                self._runner = asyncio.Runner()
            self._runner.run(_awaited(result))


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


class SinkProbe:
    """A `SinkDriver` on a thread of its own. Every call is made there, waited for, and given a deadline.

    ``seconds`` is how long the last call took. ``hung`` is True once a call did not end: the probe is of no use then.
    """

    def __init__(self, sink: Sink, *, timeout: float | None = None) -> None:
        """`timeout` in seconds, default the sink's own ``timeout``."""
        self.sink = sink
        self.timeout = sink.timeout if timeout is None else timeout
        self.seconds = 0.0
        self.hung = False
        self._driver = SinkDriver(sink)
        self._jobs: queue.SimpleQueue[tuple[Future[None], Callable[[], None]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"probe of {type(sink).__name__}", daemon=True)
        self._thread.start()

    def open(self) -> None:
        self._ask("open", self._driver.open)

    def emit(self, prediction: Prediction) -> None:
        self._ask("emit", partial(self._driver.emit, prediction))

    def emit_batch(self, predictions: Sequence[Prediction]) -> None:
        self._ask("emit_batch", partial(self._driver.emit_batch, predictions))

    def close(self) -> None:
        self._ask("close", self._driver.close)

    def end(self) -> None:
        """End the thread. Does not close the sink. After a call that hung, the thread ends when that call does."""
        self._jobs.put(None)
        if not self.hung:
            self._thread.join()

    def _ask(self, name: str, function: Callable[[], None]) -> None:
        if self.hung:
            raise CallTimedOut(f"{name} was not called: an earlier call still hangs")
        answer: Future[None] = Future()
        started = time.monotonic()
        self._jobs.put((answer, function))
        done, _ = wait([answer], timeout=self.timeout)
        self.seconds = time.monotonic() - started
        if not done:
            self.hung = True
            raise CallTimedOut(f"{name} did not end within {self.timeout:g} s")
        answer.result()

    def _run(self) -> None:
        try:
            while (job := self._jobs.get()) is not None:
                answer, function = job
                try:
                    function()
                except BaseException as error:  # noqa: BLE001 - carried to the calling thread
                    answer.set_exception(error)
                else:
                    answer.set_result(None)
        finally:
            self._driver.end()


@contextlib.contextmanager
def sink_probe(sink: Sink, *, timeout: float | None = None) -> Iterator[SinkProbe]:
    """Open the sink in a thread of its own, hand out its probe, close it at the end: what a run does with a sink.

    ``close`` follows a failed ``open`` too, as the contract says. `timeout` (seconds, default the sink's) holds for
    each call; `CallTimedOut` tells that one did not end.

    >>> with sink_probe(ParquetSink(params)) as probe:      # doctest: +SKIP
    ...     probe.emit_batch(made_predictions(25))
    """
    probe = SinkProbe(sink, timeout=timeout)
    try:
        try:
            probe.open()
            yield probe
        finally:
            if not probe.hung:
                probe.close()
    finally:
        probe.end()
