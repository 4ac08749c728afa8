"""Sinks that hang, fail for long, or refuse: on a time of the tests' own, nothing is lost and nobody else waits."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from alpha_forge.contracts.errors import AlphaForgeError, SinkEmitError
from alpha_forge.plan.graph import SinkSpec
from alpha_forge.runtime.delivery import outbox as outbox_module
from alpha_forge.runtime.delivery import worker as worker_module
from alpha_forge.runtime.delivery.backoff import Backoff
from alpha_forge.runtime.delivery.log import MemoryLog
from alpha_forge.runtime.delivery.outbox import Outbox
from alpha_forge.runtime.delivery.worker import SinkWorker
from alpha_forge.runtime.emitter import SignalEmitter
from alpha_forge_sdk import Params, Prediction, Rejected, RetryLater, Sink

DEADLINE = 30.0
START = datetime(2026, 1, 5, tzinfo=UTC)


def prediction(number: int, symbol: str = "BTCUSDT") -> Prediction:
    metadata = {"frame": "ohlcv", "column": "signal", "dag_name": "test"}
    return Prediction(symbol, START + timedelta(minutes=number), float(number), metadata)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it never came about"
        threading.Event().wait(0.001)


class VirtualTime:
    """A time that only `advance` moves. A wait returns when its event is set or its time has come."""

    def __init__(self) -> None:
        self._now = 0.0
        self._moved = threading.Condition()
        self.waiting: dict[int, float] = {}
        """Thread → instant at which its wait ends."""

    def monotonic(self) -> float:
        return self._now

    def now(self) -> int:
        return int(START.timestamp()) * 10**9 + int(self._now * 1e9)

    def wait(self, event: threading.Event, seconds: float | None) -> bool:
        end = float("inf") if seconds is None else self._now + seconds
        me = threading.get_ident()
        with self._moved:
            self.waiting[me] = end
            try:
                # Events are set by threads that know nothing of this time: looked at every millisecond.
                while not event.is_set() and self._now < end:
                    self._moved.wait(0.001)
            finally:
                del self.waiting[me]
        return event.is_set()

    def waits(self, thread: threading.Thread) -> bool:
        """True if the thread waits for an instant that has not come."""
        return self.waiting.get(thread.ident or 0, -1.0) > self._now

    def advance(self, seconds: float) -> None:
        with self._moved:
            self._now += seconds
            self._moved.notify_all()


def make_sink(
    take: Callable[[list[float]], Any], events: list[str] | None = None, *, idempotent: bool = True
) -> type[Sink]:
    noted: list[str] = [] if events is None else events

    class Scripted(Sink):
        idempotent_by = ("ts", "symbol") if idempotent else ()

        def open(self):
            noted.append("open")

        def emit_batch(self, predictions):
            return take([p.value for p in predictions])

        def close(self):
            noted.append("close")

    return Scripted


def spec(name: str, plugin: type[Sink], params: Params | None = None, **delivery: Any) -> SinkSpec:
    return SinkSpec(name, f"sinks.{name}", plugin, params or Params(), "ohlcv", "signal", delivery)


def emitter_of(log, specs, pacing=None, *, backoff=(0.001, 0.01), drain=DEADLINE, **bounds) -> SignalEmitter:
    workers = [SinkWorker(s, log, backoff=Backoff(*backoff, seed=1), pacing=pacing) for s in specs]
    return SignalEmitter(log, workers, drain, **bounds)


@pytest.fixture(params=["memory", "outbox"])
def log(request, tmp_path):
    made = MemoryLog() if request.param == "memory" else Outbox(tmp_path / "test.outbox.db", "test")
    yield made
    made.close()


@pytest.mark.parametrize("symbols", [3, 500])
def test_a_sink_that_hangs_for_ten_minutes_delays_no_other_by_a_batch_and_catches_up(log, symbols):
    pacing = VirtualTime()
    hangs = threading.Event()
    hangs.set()
    got: dict[str, list[float]] = {"hanging": [], "well": [], "also": []}
    events: list[str] = []

    def hanging(values: list[float]) -> None:
        while hangs.is_set():
            threading.Event().wait(0.001)
        got["hanging"].append(values[-1])

    minutes: dict[str, dict[float, float]] = {"well": {}, "also": {}}

    def taking(name: str) -> Callable[[list[float]], None]:
        def take(values: list[float]) -> None:
            got[name] += values
            for value in set(values):
                minutes[name][value] = pacing.monotonic() / 60

        return take

    specs = [spec("hanging", make_sink(hanging, events)), spec("well", make_sink(taking("well"))),
             spec("also", make_sink(taking("also")))]  # fmt: skip
    emitter = emitter_of(log, specs, pacing, backoff=(0.2, 60.0))
    emitter.start()
    names = [f"S{n}" for n in range(symbols)]
    for minute in range(11):
        emitter.emit([prediction(minute, name) for name in names])
        # The others have this minute's batch before the clock moves on: not one batch behind.
        sent = (minute + 1) * symbols
        until(lambda sent=sent: len(got["well"]) == len(got["also"]) == sent)
        assert log.backlog("hanging") == sent
        for _ in range(12):
            # Whoever waits for the one that hangs is waiting: no step of the clock passes it by.
            until(lambda: pacing.waits(emitter.workers[0]._thread))
            pacing.advance(5.0)
    assert minutes == {n: {float(m): float(m) for m in range(11)} for n in ("well", "also")}
    status = emitter.report().sinks["hanging"]
    assert status.abandoned == status.timeouts >= 5
    assert (status.backlog, status.circuit, status.may_duplicate) == (11 * symbols, "open", False)
    hangs.clear()
    until(lambda: bool(pacing.advance(5.0)) or log.backlog("hanging") == 0)
    emitter.close()
    assert 10.0 in got["hanging"]
    assert emitter.report().sinks["hanging"].circuit == "closed"
    # Every instance that hung has been closed, once it was let go.
    until(lambda: events.count("close") == events.count("open"))


def test_a_late_return_closes_the_instance_and_delivers_nothing_twice_in_the_log(log):
    pacing, let_go = VirtualTime(), threading.Event()
    taken: list[list[float]] = []
    events: list[str] = []

    def take(values: list[float]) -> None:
        first = not taken
        taken.append(values)
        if first:
            let_go.wait(DEADLINE)

    emitter = emitter_of(log, [spec("slow", make_sink(take, events, idempotent=False), timeout=7.0)], pacing)
    emitter.start()
    emitter.emit([prediction(n) for n in range(3)])
    until(lambda: len(taken) == 1)
    for _ in range(6):
        pacing.advance(1.0)
    threading.Event().wait(0.02)
    assert events == ["open"]
    until(lambda: bool(pacing.advance(1.0)) or len(taken) == 2)
    until(lambda: log.backlog("slow") == 0)
    assert events == ["open", "open"]
    let_go.set()
    until(lambda: events == ["open", "open", "close"])
    emitter.emit([prediction(3)])
    emitter.close()
    assert taken == [[0, 1, 2], [0, 1, 2], [3]]
    report = emitter.report().sinks["slow"]
    assert (report.delivered, report.abandoned, report.may_duplicate) == (4, 1, True)


def test_an_async_call_is_cancelled_by_its_timeout_and_leaves_no_thread_behind(log):
    pacing = VirtualTime()
    events: list[str] = []
    taken: list[list[float]] = []

    async def take(values: list[float]) -> None:
        if not events:
            events.append("waits")
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                events.append("cancelled")
                raise
        taken.append(values)

    emitter = emitter_of(log, [spec("one", make_sink(take), timeout=10)], pacing)
    emitter.start()
    emitter.emit([prediction(n) for n in range(3)])
    until(lambda: events == ["waits"])
    until(lambda: bool(pacing.advance(1.0)) or bool(taken))
    emitter.close()
    assert events == ["waits", "cancelled"]
    assert taken == [[0, 1, 2]]
    report = emitter.report().sinks["one"]
    assert (report.timeouts, report.abandoned) == (1, 0)


def test_no_further_instance_is_opened_while_too_many_calls_hang(log, monkeypatch, caplog):
    monkeypatch.setattr(worker_module, "MOST_ABANDONED", 3)
    pacing, let_go = VirtualTime(), threading.Event()
    events: list[str] = []
    taken: list[float] = []

    def take(values: list[float]) -> None:
        let_go.wait(DEADLINE)
        taken.extend(values)

    emitter = emitter_of(log, [spec("one", make_sink(take, events), timeout=1)], pacing)
    emitter.start()
    emitter.emit([prediction(1)])
    until(lambda: bool(pacing.advance(0.5)) or "3 calls hang" in caplog.text)
    for _ in range(50):
        pacing.advance(1.0)
    assert events == ["open"] * 3
    let_go.set()
    until(lambda: bool(pacing.advance(0.5)) or log.backlog("one") == 0)
    emitter.close()
    assert set(taken) == {1.0}
    assert events.count("open") == events.count("close")


def test_the_circuit_opens_after_five_faults_probes_with_the_same_batch_and_closes(log, caplog):
    caplog.set_level(logging.INFO)
    batches: list[list[float]] = []

    def take(values: list[float]) -> None:
        batches.append(values)
        if len(batches) <= 8:
            raise ConnectionError("refused")

    emitter = emitter_of(log, [spec("one", make_sink(take), max_batch=4)])
    emitter.emit([prediction(n) for n in range(10)])
    emitter.start()
    until(lambda: log.backlog("one") == 0)
    emitter.close()
    assert batches == [[0, 1, 2, 3]] * 9 + [[4, 5, 6, 7], [8, 9]]
    assert "circuit open after 5 fault(s)" in caplog.text
    assert "takes records again after 8 fault(s)" in caplog.text
    assert caplog.text.count("ConnectionError: refused; next try") == 5


def test_delays_follow_the_back_off_and_what_the_sink_asks_for(log):
    pacing = VirtualTime()
    calls: list[float] = []

    def take(values: list[float]) -> None:
        calls.append(pacing.monotonic())
        if len(calls) == 1:
            raise RetryLater("busy", after=40.0)

    emitter = emitter_of(log, [spec("one", make_sink(take))], pacing)
    emitter.emit([prediction(1)])
    emitter.start()
    until(lambda: len(calls) == 1 and 40.0 in pacing.waiting.values())
    for _ in range(39):
        pacing.advance(1.0)
    threading.Event().wait(0.02)
    assert len(calls) == 1
    pacing.advance(1.0)
    until(lambda: len(calls) == 2)
    assert calls == [0.0, 40.0]
    emitter.close()


@pytest.mark.parametrize("retries", [0, 2])
@pytest.mark.parametrize("culprits", [{700.0}, {0.0}, {999.0}, {13.0, 14.0, 600.0}])
def test_with_retries_the_culprit_alone_becomes_a_dead_letter(log, retries, culprits):
    got: list[float] = []
    calls = 0

    def take(values: list[float]) -> None:
        nonlocal calls
        calls += 1
        if culprits & set(values):
            raise ValueError("the destination chokes")
        got.extend(values)

    emitter = emitter_of(log, [spec("one", make_sink(take), retries=retries)])
    emitter.emit([prediction(n) for n in range(1000)])
    emitter.start()
    until(lambda: log.backlog("one") == 0)
    letters = log.dead_letters("one")
    with pytest.raises(SinkEmitError, match=f"{len(culprits)} record\\(s\\) rejected"):
        emitter.close()
    assert got == [float(n) for n in range(1000) if n not in culprits]
    assert [d.prediction.value for d in letters] == sorted(culprits)
    assert all(
        "given up after" in d.reason and "ValueError: the destination chokes" in d.reason for d in letters
    )
    assert calls <= len(culprits) * (retries + 22) + 1


def test_without_retries_a_fault_is_never_given_up(log):
    calls = 0

    def take(values: list[float]) -> None:
        nonlocal calls
        calls += 1
        if calls <= 60:
            raise ValueError("chokes")

    emitter = emitter_of(log, [spec("one", make_sink(take))], backoff=(0.0001, 0.001))
    emitter.emit([prediction(n) for n in range(5)])
    emitter.start()
    until(lambda: log.backlog("one") == 0)
    emitter.close()
    assert emitter.report().sinks["one"].dead_letters == 0


def test_what_says_how_to_mend_it_is_told_once_with_its_help(log, caplog):
    calls = 0

    def take(values: list[float]) -> None:
        nonlocal calls
        calls += 1
        if calls <= 4:
            raise AlphaForgeError("AF6010", "another header", "move the file away")

    emitter = emitter_of(log, [spec("one", make_sink(take))])
    emitter.emit([prediction(1)])
    emitter.start()
    until(lambda: log.backlog("one") == 0)
    emitter.close()
    assert caplog.text.count("help: move the file away") == 1
    assert "circuit open after 1 fault(s)" in caplog.text


def test_a_secret_that_a_client_quotes_reaches_no_log_and_no_error(log, caplog):
    class Secretive(Params):
        password: SecretStr
        nested: dict[str, SecretStr]

    def take(values: list[float]) -> None:
        raise ConnectionError("login failed: https://me:hunter2@host with token-77")

    params = Secretive(password=SecretStr("hunter2"), nested={"token": SecretStr("token-77")})
    emitter = emitter_of(log, [spec("one", make_sink(take), params)], drain=0.2)
    emitter.emit([prediction(1)])
    emitter.start()
    until(lambda: emitter.report().sinks["one"].retries > 6)
    with pytest.raises(SinkEmitError) as error:
        emitter.close()
    for text in (caplog.text, str(error.value), str(emitter.report())):
        assert "hunter2" not in text
        assert "token-77" not in text
    assert "login failed: https://me:**********@host with **********" in str(error.value)


def test_past_its_backlog_the_run_stops_and_loses_nothing(log):
    emitter = emitter_of(log, [spec("one", make_sink(lambda values: None))], max_backlog=10)
    assert emitter.emit([prediction(n) for n in range(10)]) == 10
    with pytest.raises(AlphaForgeError, match=r"11 records wait for sink one.*the limit is 10") as error:
        emitter.emit([prediction(10)])
    assert (error.value.code, error.value.exit_code) == ("AF6046", 3)
    assert log.backlog("one") == 11


def test_dropping_the_oldest_is_counted_and_told_once(log, caplog):
    got: list[float] = []
    emitter = emitter_of(log, [spec("one", make_sink(got.extend))], max_backlog=10, on_backlog="drop_oldest")
    for start in range(0, 40, 8):
        emitter.emit([prediction(n) for n in range(start, start + 8)])
    assert caplog.text.count("the oldest are dropped") == 1
    assert emitter.report().sinks["one"].dropped == 30
    emitter.start()
    emitter.close()
    assert got == list(range(30, 40))


@pytest.mark.parametrize("on_backlog", ["stop", "drop_oldest"])
def test_dead_letters_obey_the_limit_too(log, on_backlog):
    def take(values: list[float]) -> None:
        raise Rejected(dict.fromkeys(range(len(values)), "never"))

    emitter = emitter_of(log, [spec("one", make_sink(take))], max_backlog=10, on_backlog=on_backlog)
    emitter.start()
    for start in (0, 8):
        emitter.emit([prediction(n) for n in range(start, start + 8)])
        until(lambda: log.backlog("one") == 0)
    if on_backlog == "stop":
        with pytest.raises(AlphaForgeError, match="sink one has 16 dead letters; the limit is 10"):
            emitter.emit([prediction(16)])
    else:
        emitter.emit([prediction(16)])
        kept = [d.prediction.value for d in log.dead_letters("one")]
        assert kept[:10] == list(range(6, 16))
    with pytest.raises(SinkEmitError, match="rejected"):
        emitter.close()


def test_a_full_disk_is_waited_for_and_then_ends_the_run_with_nothing_half_written(
    tmp_path, monkeypatch, caplog
):
    pacing = VirtualTime()
    log = Outbox(tmp_path / "test.outbox.db", "test", pacing=pacing)
    log.register("one", "ohlcv", "signal")
    log.append([prediction(0)])
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    write, refusing = log._write, [3]

    def refuse(news):
        write_now = refusing[0] <= 0
        refusing[0] -= 1
        with log._transaction(log._appending) as db:
            db.execute("DELETE FROM records")  # rolled back with the rest
            if not write_now:
                raise full
            db.execute("ROLLBACK")
            db.execute("BEGIN IMMEDIATE")
        write(news)

    monkeypatch.setattr(log, "_write", refuse)
    found: list[int] = []
    appending = threading.Thread(target=lambda: found.append(log.append([prediction(1), prediction(2)])))
    appending.start()
    until(lambda: bool(pacing.advance(0.1)) or not appending.is_alive())
    assert found == [2]
    assert caplog.text.count("the delivery log can't be written: the disk is full; trying for 30 s") == 1
    assert [p.value for p in log.read("one", 9).predictions] == [0, 1, 2]
    refusing[0] = 10**9
    failed: list[AlphaForgeError] = []

    def append() -> None:
        try:
            log.append([prediction(3)])
        except AlphaForgeError as error:
            failed.append(error)

    appending = threading.Thread(target=append)
    appending.start()
    until(lambda: bool(pacing.advance(0.5)) or not appending.is_alive())
    assert failed[0].code == "AF6044"
    assert pacing.monotonic() >= outbox_module.PATIENCE
    monkeypatch.undo()
    assert log.append([prediction(3)]) == 1
    assert log.counters.appended == 4
    log.close()


def test_a_cursor_that_can_not_be_moved_is_not_a_reason_to_deliver_again(tmp_path, monkeypatch, caplog):
    log = Outbox(tmp_path / "test.outbox.db", "test")
    taken: list[list[float]] = []
    emitter = emitter_of(log, [spec("one", make_sink(taken.append, idempotent=False))], VirtualTime())
    settle, refusals = log.settle, [3]

    def refuse(*arguments):
        if refusals[0] > 0:
            refusals[0] -= 1
            raise AlphaForgeError("AF6044", "the disk is full")
        settle(*arguments)

    monkeypatch.setattr(log, "settle", refuse)
    emitter.emit([prediction(n) for n in range(3)])
    emitter.start()
    pacing = emitter.workers[0]._pacing
    until(lambda: bool(pacing.advance(1.0)) or log.backlog("one") == 0)
    emitter.close()
    assert taken == [[0, 1, 2]]
    # Said once, however often it is tried.
    assert caplog.text.count("the cursor is moved once that is over") == 1
