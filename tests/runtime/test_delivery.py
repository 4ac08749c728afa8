"""Delivery: what one sink does never reaches another, order is kept, nothing is lost, every opened instance is closed."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from alpha_forge.contracts.errors import SinkEmitError
from alpha_forge.contracts.interval import Interval
from alpha_forge.plan.graph import SinkSpec
from alpha_forge.runtime.delivery.backoff import Backoff
from alpha_forge.runtime.delivery.log import DeliveryLog, MemoryLog
from alpha_forge.runtime.delivery.outbox import Outbox
from alpha_forge.runtime.delivery.worker import SinkWorker
from alpha_forge.runtime.emitter import PredictionEmitter, SignalEmitter
from alpha_forge.runtime.results import PredictedRow
from alpha_forge_sdk import Params, Prediction, Rejected, RetryLater, Sink

DEADLINE = 20.0
START = datetime(2026, 1, 5, tzinfo=UTC)


def prediction(number: int, symbol: str = "BTCUSDT", column: str = "signal") -> Prediction:
    metadata = {"frame": "ohlcv", "column": column, "dag_name": "test"}
    return Prediction(symbol, START + timedelta(hours=number), float(number), metadata)


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; fail when the deadline has passed."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it never came about"
        threading.Event().wait(0.002)


NEW_LOG: list[Callable[[], DeliveryLog]] = []


@pytest.fixture(autouse=True, params=["memory", "outbox"])
def _either_log(request, tmp_path):
    """Every test here runs on both logs."""
    numbers = itertools.count()
    if request.param == "memory":
        NEW_LOG.append(MemoryLog)
    else:
        NEW_LOG.append(lambda: Kept(tmp_path / f"{next(numbers)}.outbox.db", "test"))
    yield
    NEW_LOG.pop()


class Kept(Outbox):
    """An outbox that can still be asked after it was closed."""

    def dead_letters(self, sink):
        if not self._closed:
            return super().dead_letters(sink)
        again = Outbox(self.path, "test")
        try:
            return again.dead_letters(sink)
        finally:
            again.close()


class Recorder:
    """What happened to the sinks of a test, over all instances. `script` gives what each emit call does."""

    def __init__(self, script: Callable[[int, list[float]], None] | None = None) -> None:
        self.taken: list[float] = []
        self.calls = 0
        self.opened = 0
        self.closed = 0
        self.open_now = 0
        self.threads: set[int] = set()
        self.script = script or (lambda call, values: None)
        self.refuse_open = 0
        self.refuse_close = False

    def note(self) -> None:
        self.threads.add(threading.get_ident())

    def open(self) -> None:
        self.note()
        self.opened += 1
        self.open_now += 1
        if self.refuse_open:
            self.refuse_open -= 1
            raise OSError("can't be opened yet")

    def emit(self, values: list[float]) -> None:
        self.note()
        assert self.open_now == 1
        self.calls += 1
        self.script(self.calls, values)
        self.taken += values

    def close(self) -> None:
        self.note()
        self.closed += 1
        self.open_now -= 1
        if self.refuse_close:
            raise OSError("can't be closed")


def batches(recorder: Recorder) -> type[Sink]:
    class Batches(Sink):
        def open(self):
            recorder.open()

        def emit_batch(self, predictions):
            recorder.emit([p.value for p in predictions])

        def close(self):
            recorder.close()

    return Batches


def singles(recorder: Recorder) -> type[Sink]:
    class Singles(Sink):
        def open(self):
            recorder.open()

        def emit(self, symbol, ts, prediction, metadata):
            assert (symbol, metadata["column"]) == ("BTCUSDT", "signal")
            assert ts == START + timedelta(hours=int(prediction))
            recorder.emit([prediction])

        def close(self):
            recorder.close()

    return Singles


def asynchronous(recorder: Recorder) -> type[Sink]:
    class Asynchronous(Sink):
        async def open(self):
            self.loop = asyncio.get_running_loop()
            recorder.open()

        async def emit_batch(self, predictions):
            assert asyncio.get_running_loop() is self.loop
            await asyncio.sleep(0)
            recorder.emit([p.value for p in predictions])

        async def close(self):
            assert asyncio.get_running_loop() is self.loop
            recorder.close()

    return Asynchronous


FORMS = [batches, singles, asynchronous]


def spec(name: str, plugin: type[Sink], column: str = "signal", **delivery: Any) -> SinkSpec:
    return SinkSpec(name, f"sinks.{name}", plugin, Params(), "ohlcv", column, delivery)


def emitter_of(
    sinks: dict[str, type[Sink]], *, drain: float = DEADLINE, **delivery: Any
) -> tuple[SignalEmitter, DeliveryLog]:
    log = NEW_LOG[-1]()
    workers = [
        SinkWorker(spec(name, plugin, **delivery), log, backoff=Backoff(0.001, 0.01, seed=1))
        for name, plugin in sinks.items()
    ]
    return SignalEmitter(log, workers, drain), log


def status(emitter: SignalEmitter, name: str):
    return next(w.status for w in emitter.workers if w.name == name)


def failing(times: int, error: Callable[[], BaseException]) -> Callable[[int, list[float]], None]:
    def script(call: int, values: list[float]) -> None:
        if call <= times:
            raise error()

    return script


FAULTS = [
    lambda: OSError("the disk is full"),
    lambda: RetryLater("busy", after=0.001),
    lambda: RetryLater(),
    lambda: asyncio.CancelledError("of its own"),
    lambda: SystemExit(7),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: repr(f()))
def test_a_fault_delays_its_own_sink_keeps_the_order_and_loses_nothing(form, fault):
    ill, well = Recorder(failing(4, fault)), Recorder()
    emitter, _ = emitter_of({"ill": form(ill), "well": batches(well)}, max_batch=7)
    emitter.start()
    numbers = list(range(40))
    for start in range(0, 40, 5):
        assert emitter.emit([prediction(n) for n in numbers[start : start + 5]]) == 5
    emitter.close()
    assert ill.taken == numbers
    assert well.taken == numbers
    assert status(emitter, "ill").retries == 4
    assert status(emitter, "ill").delivered == status(emitter, "well").delivered == 40
    for recorder in (ill, well):
        assert recorder.closed == recorder.opened >= 1
        assert recorder.open_now == 0
        assert len(recorder.threads) == 1
    assert ill.threads != well.threads


def test_a_sink_that_takes_single_records_gets_none_twice_after_a_fault():
    def script(call: int, values: list[float]) -> None:
        if call in (4, 5, 9):
            raise OSError("dropped")

    recorder = Recorder(script)
    emitter, _ = emitter_of({"one": singles(recorder)})
    emitter.emit([prediction(n) for n in range(12)])
    emitter.start()
    emitter.close()
    assert recorder.taken == list(range(12))


def test_a_sink_that_can_not_be_opened_is_tried_again():
    late, well = Recorder(), Recorder()
    late.refuse_open = 5
    emitter, _ = emitter_of({"late": batches(late), "well": batches(well)})
    emitter.start()
    emitter.emit([prediction(n) for n in range(9)])
    until(lambda: late.taken == list(range(9)))
    emitter.close()
    assert late.opened == late.closed == 6
    assert well.opened == well.closed == 1


def test_a_sink_whose_making_or_closing_fails_hurts_nobody():
    made: list[int] = []
    well, sore = Recorder(), Recorder()
    sore.refuse_close = True

    class Unmade(Sink):
        def __init__(self, params):
            made.append(1)
            raise ValueError("no such thing")

        def emit_batch(self, predictions):
            raise AssertionError("never made")

        def close(self):
            raise AssertionError("never made")

    emitter, _ = emitter_of({"unmade": Unmade, "well": batches(well), "sore": batches(sore)}, drain=0.5)
    emitter.start()
    emitter.emit([prediction(1)])
    until(lambda: len(made) > 3)
    with pytest.raises(SinkEmitError) as error:
        emitter.close()
    assert set(error.value.failures) == {"unmade"}
    assert "ValueError: no such thing" in error.value.failures["unmade"]
    assert well.taken == sore.taken == [1.0]
    assert sore.closed == 1
    assert "close: OSError" in status(emitter, "sore").last_error


@pytest.mark.parametrize("form", FORMS)
def test_what_is_rejected_becomes_a_dead_letter_and_the_rest_arrives(form):
    recorder = Recorder()
    bad = {3.0, 4.0, 17.0}

    def script(call: int, values: list[float]) -> None:
        reasons = {i: f"{v:g} is not for us" for i, v in enumerate(values) if v in bad}
        if reasons:
            recorder.taken += [v for v in values if v not in bad]
            raise Rejected(reasons)

    recorder.script = script
    well = Recorder()
    emitter, log = emitter_of({"choosy": form(recorder), "well": batches(well)})
    emitter.emit([prediction(n) for n in range(20)])
    emitter.start()
    with pytest.raises(SinkEmitError) as error:
        emitter.close()
    assert set(error.value.failures) == {"choosy"}
    assert "3 record(s) rejected: 17 is not for us" in error.value.failures["choosy"]
    assert recorder.taken == [float(n) for n in range(20) if n not in bad]
    assert well.taken == list(range(20))
    letters = log.dead_letters("choosy")
    assert [(d.prediction.value, d.reason) for d in letters] == [
        (v, f"{v:g} is not for us") for v in sorted(bad)
    ]
    assert status(emitter, "choosy").delivered == 17
    assert log.dead_letters("well") == []
    assert log.backlog("choosy") == 0


@pytest.mark.parametrize("form", [batches, asynchronous])
def test_the_drain_names_the_sink_that_did_not_take_everything(form):
    broken, well = Recorder(failing(10**9, lambda: OSError("gone for good"))), Recorder()
    emitter, log = emitter_of({"broken": form(broken), "well": form(well)}, drain=0.3)
    emitter.start()
    emitter.emit([prediction(n) for n in range(3)])
    until(lambda: broken.calls > 2)
    with pytest.raises(SinkEmitError) as error:
        emitter.close()
    assert error.value.failures.keys() == {"broken"}
    assert error.value.failures["broken"].startswith("3 record(s) not delivered")
    assert error.value.failures["broken"].endswith(": OSError: gone for good")
    assert error.value.code == "AF6002"
    assert "broken" in error.value.message
    assert log.backlog("broken") == 3
    assert well.taken == [0, 1, 2]
    until(lambda: broken.closed == broken.opened)


def test_a_sink_that_hangs_is_left_behind_and_closed_when_it_returns():
    let_go = threading.Event()
    hanging, well = Recorder(lambda call, values: let_go.wait(DEADLINE) and None), Recorder()
    emitter, _ = emitter_of({"hanging": batches(hanging), "well": batches(well)}, drain=0.2)
    emitter.start()
    emitter.emit([prediction(n) for n in range(3)])
    until(lambda: hanging.calls == 1)
    with pytest.raises(SinkEmitError) as error:
        emitter.close()
    assert "hanging" in error.value.failures
    assert well.taken == [0, 1, 2]
    assert hanging.closed == 0
    let_go.set()
    until(lambda: hanging.closed == 1)


def test_a_sink_that_has_come_back_is_tried_once_more_before_the_end():
    """In the middle of a long pause the run ends: what waits is offered again at once."""
    recorder = Recorder(failing(1, lambda: RetryLater("in an hour", after=3600.0)))
    emitter, _ = emitter_of({"busy": batches(recorder)})
    emitter.start()
    emitter.emit([prediction(n) for n in range(3)])
    until(lambda: status(emitter, "busy").retries == 1)
    emitter.close()
    assert recorder.taken == [0, 1, 2]


def test_closing_what_never_started_does_nothing():
    recorder = Recorder()
    emitter, _ = emitter_of({"idle": batches(recorder)})
    emitter.close()
    assert recorder.opened == recorder.closed == 0


def test_batches_grow_with_the_backlog_up_to_their_limit():
    sizes: list[int] = []
    recorder = Recorder(lambda call, values: sizes.append(len(values)))
    emitter, _ = emitter_of({"one": batches(recorder)}, max_batch=8)
    emitter.emit([prediction(n) for n in range(20)])
    emitter.start()
    emitter.close()
    assert sizes == [8, 8, 4]


def row(values: list[float], hour: int = 1) -> PredictedRow:
    ts = int((START + timedelta(hours=hour)).timestamp()) * 10**9
    return PredictedRow("ohlcv", "signal", ts, np.arange(len(values)), np.array(values))


def dag_of(symbols: list[str], emit: str | None = None) -> Any:
    return SimpleNamespace(
        name="test",
        frames={"ohlcv": SimpleNamespace(symbols=tuple(symbols))},
        emit_interval=None if emit is None else Interval.parse(emit),
        sink_columns=lambda: frozenset({("ohlcv", "signal")}),
    )


def test_nan_is_not_ready_and_everything_else_is_emitted():
    recorder = Recorder()
    emitter, _ = emitter_of({"one": batches(recorder)})
    emitter.start()
    predictions = PredictionEmitter(dag_of(["A", "B", "C", "D"]), emitter)
    assert predictions.emit_if_ready([row([1.0, np.nan, -np.inf, 0.0]), row([np.nan] * 4, hour=2)]) == 3
    assert (predictions.emitted, predictions.not_ready) == (3, 5)
    emitter.close()
    assert recorder.taken == [1.0, -np.inf, 0.0]


def test_only_closes_of_the_schedule_are_emitted_and_none_twice():
    recorder = Recorder()
    emitter, _ = emitter_of({"one": batches(recorder)})
    emitter.start()
    predictions = PredictionEmitter(dag_of(["A"], emit="2h"), emitter)
    rows = [row([float(hour)], hour=hour) for hour in (1, 2, 3, 4)]
    assert predictions.emit_if_ready(rows) == 2
    assert predictions.emit_if_ready(rows) == 0
    assert predictions.emitted == 2
    emitter.close()
    assert recorder.taken == [2.0, 4.0]
