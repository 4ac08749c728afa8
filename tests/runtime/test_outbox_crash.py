"""SIGKILL anywhere between a prediction and its sink: what the log had is delivered, once to a sink that knows keys."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from alpha_forge.plan.graph import SinkSpec
from alpha_forge.runtime.delivery.backoff import Backoff
from alpha_forge.runtime.delivery.outbox import Outbox
from alpha_forge.runtime.delivery.worker import SinkWorker
from alpha_forge.runtime.emitter import SignalEmitter
from alpha_forge_sdk import Params, Prediction, Sink
from alpha_forge_sdk.testing.crash import SUPPORTED, At, CrashServer
from alpha_forge_sdk.testing.crash_counter import report

pytestmark = pytest.mark.skipif(not SUPPORTED, reason="needs fork")

START = datetime(2026, 1, 5, tzinfo=UTC)
SYMBOLS = ("A", "B", "C")
BATCHES = 12


class Into(Params):
    path: str


class Keyed(Sink):
    """A table with the key of a record: a second one with it is no second one."""

    Params = Into
    idempotent_by = ("ts", "symbol")

    def open(self):
        self._db = sqlite3.connect(self.params.path, timeout=30)
        self._db.execute("CREATE TABLE IF NOT EXISTS t (symbol, ts, value, PRIMARY KEY (symbol, ts))")

    def emit_batch(self, predictions):
        rows = [(p.symbol, p.ts.isoformat(), p.value) for p in predictions]
        with self._db:
            self._db.executemany("INSERT OR REPLACE INTO t VALUES (?, ?, ?)", rows)

    def close(self):
        self._db.close()


class Lines(Sink):
    """A file that takes whatever comes, a batch at once."""

    Params = Into

    def open(self):
        self._fd = os.open(self.params.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def emit_batch(self, predictions):
        os.write(self._fd, b"".join(f"{p.symbol} {p.value:g}\n".encode() for p in predictions))
        os.fsync(self._fd)

    def close(self):
        os.close(self._fd)


def work(folder: str) -> None:
    """What a run does, from where the log stands: batches into the log, out of it into two sinks, and a clean end."""
    log = Outbox(Path(folder) / "test.outbox.db", "test")
    sinks = [
        SinkSpec("keyed", "sinks.keyed", Keyed, Into(path=f"{folder}/keyed.db"), "f", "c", {"max_batch": 4}),
        SinkSpec("lines", "sinks.lines", Lines, Into(path=f"{folder}/lines"), "f", "c", {}),
    ]
    emitter = SignalEmitter(log, [SinkWorker(s, log, backoff=Backoff(0.001, 0.01)) for s in sinks], 30.0)
    known = log.newest("f", "c").values()
    done = int((max(known) / 1e9 - START.timestamp()) // 60) if known else -1
    metadata = {"frame": "f", "column": "c", "dag_name": "test"}
    emitter.start()
    for number in range(done + 1, BATCHES):
        emitter.emit(
            [Prediction(s, START + timedelta(minutes=number), float(number), metadata) for s in SYMBOLS]
        )
        report(str(number))
    emitter.close()


@pytest.fixture(scope="module")
def server() -> Iterator[CrashServer]:
    with CrashServer() as made:
        yield made


def run(server: CrashServer, folder: Path, at: At | None = None):
    return server.run(f"{__name__}:work", str(folder), at=at, file=str(Path(__file__).resolve()))


def check(folder: Path, told: set[int]) -> None:
    """After a run that came to its end: every record is where it belongs."""
    everything = [(s, float(n)) for n in range(BATCHES) for s in SYMBOLS]
    assert told == set(range(BATCHES))
    db = sqlite3.connect(folder / "keyed.db")
    assert sorted(db.execute("SELECT symbol, value FROM t")) == sorted(everything)
    db.close()
    lines = [(s, float(v)) for s, v in (line.split() for line in (folder / "lines").read_text().splitlines())]
    assert list(dict.fromkeys(lines)) == everything, "none is missing, and each comes first in its order"


def said(crash) -> set[int]:
    return {int(r) for r in crash.reports}


@pytest.mark.parametrize("seed", range(5))
def test_killed_anywhere_and_killed_again_it_delivers_everything(server, tmp_path, seed):
    draw = random.Random(seed)
    whole = tmp_path / "whole"
    whole.mkdir()
    crash = run(server, whole)
    assert not crash.killed, crash.error
    assert not crash.error
    check(whole, said(crash))
    folder = tmp_path / "killed"
    folder.mkdir()
    told: set[int] = set()
    kills = 0
    for _ in range(6):
        crash = run(server, folder, At(event=draw.randrange(1, max(2, crash.events or 3000))))
        kills += crash.killed
        told |= said(crash)
        assert not crash.error
        if crash.killed and told:
            log = Outbox(folder / "test.outbox.db", "test")
            newest = log.newest("f", "c")
            log.close()
            # What append had returned for is in the log, of every symbol of the batch: a batch is whole or not there.
            assert len(set(newest.values())) == 1
            assert (next(iter(newest.values())) / 1e9 - START.timestamp()) // 60 >= max(told)
            told |= set(range(int((max(newest.values()) / 1e9 - START.timestamp()) // 60) + 1))
    assert kills >= 2
    last = run(server, folder)
    assert not last.error
    # The last run went on from where the log stood: what came before it had been committed.
    check(folder, told | said(last) | set(range(min(said(last), default=BATCHES))))


@pytest.mark.parametrize(
    ("call", "hits"),
    [("append", 5), ("_write", 5), ("executemany", 9), ("execute", 40), ("emit_batch", 2), ("settle", 2),
     ("write", 3), ("fsync", 3), ("read", 4), ("close", 1)],
)  # fmt: skip
def test_killed_at_a_given_step_it_delivers_everything(server, tmp_path, call, hits):
    crash = run(server, tmp_path, At(call=call, hits=hits))
    assert crash.killed, crash
    last = run(server, tmp_path)
    assert not last.error
    check(tmp_path, said(crash) | said(last) | set(range(min(said(last), default=BATCHES))))


def test_a_transaction_that_was_cut_off_is_not_there(server, tmp_path):
    crash = run(server, tmp_path, At(call="executemany", hits=8))
    assert crash.killed
    log = Outbox(tmp_path / "test.outbox.db", "test")
    newest = set(log.newest("f", "c").values())
    assert len(newest) <= 1
    log.close()
    db = sqlite3.connect(tmp_path / "test.outbox.db")
    counts = {n for (n,) in db.execute("SELECT count(*) FROM records GROUP BY ts")}
    db.close()
    assert counts <= {len(SYMBOLS)}
