"""The delivery log, in memory and in its file: one contract, checked against a model that knows neither."""

from __future__ import annotations

import itertools
import math
import struct
import tempfile
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpha_forge.runtime.delivery.log import DeliveryLog, MemoryLog
from alpha_forge.runtime.delivery.outbox import Outbox
from alpha_forge_sdk import Prediction

DEADLINE = 20.0
START = datetime(2026, 1, 5, tzinfo=UTC)
HOUR = 3600 * 10**9
FIRST = 1_767_571_200 * 10**9


def prediction(
    number: int, symbol: str = "BTCUSDT", column: str = "signal", value: float | None = None
) -> Prediction:
    metadata = {"frame": "ohlcv", "column": column, "dag_name": "test"}
    return Prediction(
        symbol, START + timedelta(hours=number), float(number) if value is None else value, metadata
    )


def bits(value: float) -> bytes:
    return struct.pack(">d", value)


@pytest.fixture(params=["memory", "outbox"])
def log(request, tmp_path):
    made = MemoryLog() if request.param == "memory" else Outbox(tmp_path / "test.outbox.db", "test")
    yield made
    made.close()


class Model:
    """What a log must do, in the plainest words: lists, and a cursor into them."""

    def __init__(self) -> None:
        self.records: dict[str, list[tuple[str, int, bytes]]] = {}
        self.newest: dict[tuple[str, str], int] = {}
        self.column: dict[str, str] = {}
        self.cursor: dict[str, int] = {}
        self.dead: dict[str, list[tuple[str, int, bytes, str]]] = {}
        self.dropped: dict[str, int] = {}
        self.conflicts = 0

    def append(self, batch: list[Prediction]) -> int:
        new = 0
        for p in batch:
            column, number = p.metadata["column"], int((p.ts - START) / timedelta(hours=1))
            records = self.records.setdefault(column, [])
            if number > self.newest.get((column, p.symbol), -1):
                self.newest[column, p.symbol] = number
                records.append((p.symbol, number, bits(p.value)))
                new += 1
                continue
            known = {r[2] for r in records if r[:2] == (p.symbol, number)}
            self.conflicts += bool(known) and bits(p.value) not in known
        return new

    def register(self, sink: str, column: str) -> None:
        self.column[sink] = column
        self.cursor[sink] = len(self.records.get(column, []))
        self.dead[sink], self.dropped[sink] = [], 0

    def waiting(self, sink: str) -> list[tuple[str, int, bytes]]:
        return self.records.get(self.column[sink], [])[self.cursor[sink] :]


def plain(p: Prediction) -> tuple[str, int, bytes]:
    return p.symbol, int((p.ts - START) / timedelta(hours=1)), bits(p.value)


VALUES = st.sampled_from([0.0, -0.0, 1.5, math.inf, -math.inf, 5e-324, 0.1 + 0.2, math.pi])
records = st.builds(
    prediction,
    number=st.integers(0, 12),
    symbol=st.sampled_from(["A", "B", "C"]),
    column=st.sampled_from(["x", "y"]),
    value=VALUES,
)
SINKS = {"x1": "x", "x2": "x", "y1": "y"}
ALL = st.sampled_from([*SINKS, "late"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(records, max_size=6)),
        st.tuples(st.just("take"), st.tuples(ALL, st.integers(1, 4), st.sets(st.integers(0, 3)))),
        st.tuples(st.just("drop"), st.tuples(ALL, st.integers(0, 4))),
        st.tuples(st.just("join"), st.just("late")),
        st.tuples(st.just("reopen"), st.none()),
    ),
    max_size=30,
)


def check(model: Model, make: Callable[[], DeliveryLog], steps, *, lasting: bool) -> None:
    log = make()
    for sink, column in SINKS.items():
        log.register(sink, "ohlcv", column)
        model.register(sink, column)
    for number, (what, argument) in enumerate(steps):
        if what == "append":
            assert log.append(argument) == model.append(argument)
        elif what == "take" and argument[0] in model.column:
            sink, limit, refused = argument
            batch = log.read(sink, limit)
            assert log.read(sink, limit).predictions == batch.predictions
            found = [plain(p) for p in batch.predictions]
            assert found == model.waiting(sink)[:limit]
            rejected = {i: f"no {number}" for i in refused if i < len(found)}
            log.settle(sink, batch, rejected, at=number)
            model.cursor[sink] += len(found)
            model.dead[sink] += [(*found[i], reason) for i, reason in sorted(rejected.items())]
        elif what == "drop" and argument[0] in model.column:
            sink, keep = argument
            gone = max(0, len(model.waiting(sink)) - keep)
            assert log.drop_oldest(sink, keep) == gone
            model.cursor[sink] += gone
            model.dropped[sink] += gone
        elif what == "join" and "late" not in model.column:
            model.register("late", "x")
            log.register("late", "ohlcv", "x")
        elif what == "reopen" and lasting:
            log.close()
            log = make()
            for sink, column in model.column.items():
                log.register(sink, "ohlcv", column)
    for sink in model.column:
        assert log.backlog(sink) == len(model.waiting(sink))
        assert [plain(p) for p in log.read(sink, 10**6).predictions] == model.waiting(sink)
        assert log.wait(sink, 0) == bool(model.waiting(sink))
        assert [(*plain(d.prediction), d.reason) for d in log.dead_letters(sink)] == model.dead[sink]
        assert log.dropped(sink) == model.dropped[sink]
    for column in ("x", "y"):
        marks = {symbol: (ts - FIRST) // HOUR for symbol, ts in log.newest("ohlcv", column).items()}
        assert marks == {s: n for (c, s), n in model.newest.items() if c == column}
    log.close()


@settings(deadline=None, max_examples=120)
@given(steps)
def test_the_log_in_memory_does_what_the_model_does(steps):
    model = Model()
    check(model, MemoryLog, steps, lasting=False)


@settings(deadline=None, max_examples=80)
@given(steps)
def test_the_log_in_its_file_does_what_the_model_does_also_when_opened_again(steps):
    with tempfile.TemporaryDirectory() as folder:
        check(Model(), lambda: Outbox(Path(folder) / "test.outbox.db", "test"), steps, lasting=True)


def test_a_value_comes_back_to_the_last_bit(log):
    log.register("one", "ohlcv", "signal")
    payload = struct.unpack(">d", bytes.fromhex("7ff800000000beef"))[0]
    values = [0.0, -0.0, math.inf, -math.inf, 5e-324, -1.7976931348623157e308, 0.1, payload, 2.0**53, 1.0]
    log.append([prediction(n, value=value) for n, value in enumerate(values)])
    assert [bits(p.value) for p in log.read("one", 100).predictions] == [bits(v) for v in values]
    assert log.append([prediction(n, value=value) for n, value in enumerate(values)]) == 0
    assert (log.counters.repeated, log.counters.conflicts) == (len(values), 0)


@pytest.mark.parametrize(("kept", "refused"), [(0.0, -0.0), (1.0, 2.0), (math.nan, 1.0), (1.0, math.nan)])
def test_another_value_under_a_known_key_is_kept_out_and_told(log, caplog, kept, refused):
    log.register("one", "ohlcv", "signal")
    log.append([prediction(1, value=kept), prediction(2)])
    for number in (1, 2):
        assert log.append([prediction(number, value=refused)]) == 0
    assert log.counters.conflicts == 2 - (refused == 2.0)
    assert f"{kept!r} stays, {refused!r} was refused" in caplog.text
    assert [bits(p.value) for p in log.read("one", 9).predictions] == [bits(kept), bits(2.0)]


def test_a_batch_that_contradicts_itself_keeps_its_first_value(log):
    log.register("one", "ohlcv", "signal")
    assert log.append([prediction(1), prediction(2), prediction(1, value=7.0), prediction(1)]) == 2
    assert (log.counters.conflicts, log.counters.repeated) == (1, 1)
    assert [p.value for p in log.read("one", 9).predictions] == [1.0, 2.0]


def test_marks_count_as_processed_and_never_go_back(log):
    log.register("one", "ohlcv", "signal")
    log.mark("ohlcv", "signal", {"A": FIRST + 5 * HOUR, "B": FIRST})
    assert log.append([prediction(5, "A"), prediction(6, "A"), prediction(1, "B")]) == 2
    log.mark("ohlcv", "signal", {"A": FIRST + 3 * HOUR, "C": FIRST + HOUR})
    assert log.newest("ohlcv", "signal") == {"A": FIRST + 6 * HOUR, "B": FIRST + HOUR, "C": FIRST + HOUR}
    assert log.newest("ohlcv", "another") == {}
    assert [plain(p)[:2] for p in log.read("one", 9).predictions] == [("A", 6), ("B", 1)]


def test_what_is_dropped_while_the_sink_has_it_in_hand_counts_as_delivered(log):
    log.register("one", "ohlcv", "signal")
    log.append([prediction(n) for n in range(10)])
    batch = log.read("one", 4)
    assert log.drop_oldest("one", 3) == 7
    log.settle("one", batch)
    assert log.dropped("one") == 3
    assert [p.value for p in log.read("one", 99).predictions] == [7.0, 8.0, 9.0]


def test_five_hundred_symbols_one_late_one_with_a_hole(log):
    names = [f"S{n:03d}" for n in range(500)]
    log.register("one", "ohlcv", "signal")
    sent = []
    for hour in range(6):
        batch = [prediction(hour, s) for s in reversed(names) if s != "S007" and (s, hour) != ("S009", 3)]
        batch += [prediction(hour - 2, "S007")] if hour >= 2 else []
        sent += [plain(p) for p in batch]
        assert log.append(batch) == len(batch)
        assert log.append(batch) == 0
    got = []
    while len(batch := log.read("one", 333)):
        got += [plain(p) for p in batch.predictions]
        log.settle("one", batch)
    assert got == sent
    assert log.newest("ohlcv", "signal")["S007"] == FIRST + 3 * HOUR


def test_the_log_in_memory_keeps_no_more_than_the_slowest_sink_needs():
    log = MemoryLog()
    for sink in ("fast", "slow"):
        log.register(sink, "ohlcv", "signal")
    log.append([prediction(n) for n in range(100)])
    log.settle("fast", log.read("fast", 100))
    assert log.backlog("slow") == 100
    stream = log._streams["ohlcv", "signal"]
    for left in (40, 0):
        log.settle("slow", log.read("slow", log.backlog("slow") - left))
        assert len(stream.records) == len(stream.held) == left


def test_waiting_ends_with_a_record_and_with_a_call(log):
    log.register("one", "ohlcv", "signal")
    found: list[bool] = []
    numbers = itertools.count()
    for wake in (lambda: log.append([prediction(next(numbers))]), log.wake):
        waiter = threading.Thread(target=lambda: found.append(log.wait("one", DEADLINE)))
        waiter.start()
        while waiter.is_alive():
            wake()
            waiter.join(0.01)
        log.settle("one", log.read("one", 10**6))
    assert found == [True, False]
