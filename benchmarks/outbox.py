"""The outbox in a tick: the predictions of a close → committed and synced; and what workers cost it."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

import numpy as np

from alpha_forge.contracts.types import Prediction
from alpha_forge.plan.graph import SinkSpec
from alpha_forge.runtime.delivery.log import DeliveryLog, MemoryLog
from alpha_forge.runtime.delivery.outbox import Outbox
from alpha_forge.runtime.delivery.worker import SinkWorker
from alpha_forge_sdk import Params, Sink
from benchmarks.results import CaseResult, Disagreement, Goal
from benchmarks.timing import in_turn, per_unit

OURS = "ours: append, synchronous=FULL"
BUSY = "ours, while two sinks take what comes"
MEMORY = "ours in memory: append"
BARE = "the limit: the rows alone into one table, FULL"
MILLI = 1e3
START = datetime(2026, 1, 5, tzinfo=UTC)
METADATA = MappingProxyType({"frame": "ohlcv", "column": "signal", "dag_name": "bench"})


def run(*, quick: bool) -> CaseResult:
    """Milliseconds for the batch of one close, on the disk of the temporary directory."""
    result = CaseResult("outbox", "the predictions of a close into the delivery log", "ms a close", OURS)
    rounds = 20 if quick else 200
    for symbols in (500,) if quick else (20, 100, 500):
        _case(result, symbols, rounds)
    ours = result.of(OURS, "500 symbols")
    result.goals.append(Goal("≤ 6 ms at 500 symbols with synchronous=FULL", ours.median, 6.0, ours.best))
    result.notes.append(f"99th percentile at 500 symbols: {ours.p99:.1f} ms of {ours.samples} closes")
    return result


class Takes(Sink):
    """Takes everything at once."""

    idempotent_by = ("ts", "symbol")

    def emit_batch(self, predictions):  # type: ignore[no-untyped-def]
        pass


class _Closes:
    """Batches of one close after another, made before they are timed."""

    def __init__(self, symbols: int, count: int) -> None:
        values = np.random.default_rng(0).normal(size=(count, symbols))
        names = [f"S{n:03d}USDT" for n in range(symbols)]
        self.batches = [
            [
                Prediction(s, START + timedelta(minutes=k), float(v), METADATA)
                for s, v in zip(names, row, strict=True)
            ]
            for k, row in enumerate(values)
        ]

    def into(self, take: Callable[[list[Prediction]], object]) -> Callable[[], None]:
        following = iter(self.batches)
        return lambda: (take(next(following)), None)[1]


def _case(result: CaseResult, symbols: int, rounds: int) -> None:
    closes = _Closes(symbols, rounds + 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        alone, busy, memory = (
            Outbox(folder / "alone.db", "bench"),
            Outbox(folder / "busy.db", "bench"),
            MemoryLog(),
        )
        for log in (alone, memory):
            log.register("one", "ohlcv", "signal")
        workers = [
            SinkWorker(SinkSpec(n, "sinks.takes", Takes, Params(), "ohlcv", "signal", {}), busy)
            for n in ("first", "second")
        ]
        for worker in workers:
            worker.start()
        bare = _bare(folder / "bare.db", symbols)
        turns = {
            OURS: per_unit(closes.into(alone.append), 1),
            BUSY: per_unit(closes.into(busy.append), 1),
            BARE: per_unit(closes.into(bare), 1),
            MEMORY: per_unit(closes.into(memory.append), 1),
        }
        for contender, seconds in in_turn(turns, rounds, warm=3).items():
            result.add(contender, f"{symbols} symbols", seconds, MILLI)
        for worker in workers:
            worker.drain()
        taken = all(worker.join(60.0) for worker in workers)
        if not taken or any(worker.status.delivered != (rounds + 3) * symbols for worker in workers):
            raise Disagreement("outbox: a sink has not got every record")
        _check(alone, closes)
        alone.close()
        busy.close()


def _bare(path: Path, symbols: int) -> Callable[[list[Prediction]], None]:
    """A table of the same rows, without keys, cursors, or anything known."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE records (place INTEGER PRIMARY KEY, symbol INTEGER, ts INTEGER, value REAL)")
    ids = range(symbols)

    def take(batch: list[Prediction]) -> None:
        ts = int(batch[0].ts.timestamp())
        db.execute("BEGIN IMMEDIATE")
        rows = [(s, ts, p.value) for s, p in zip(ids, batch, strict=True)]
        db.executemany("INSERT INTO records (symbol, ts, value) VALUES (?, ?, ?)", rows)
        db.execute("COMMIT")

    return take


def _check(log: DeliveryLog, closes: _Closes) -> None:
    """The log gives back what went in, to the bit and in order."""
    sent = [(p.symbol, p.ts, p.value) for batch in closes.batches for p in batch]
    if [(p.symbol, p.ts, p.value) for p in log.read("one", len(sent) + 1).predictions] != sent:
        raise Disagreement("outbox: what the log gives back is not what went in")
