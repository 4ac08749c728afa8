"""Sinks that come, go, and come back: where they start in the outbox, and what may be trimmed behind them."""

from __future__ import annotations

import logging
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from alpha_forge.runtime.delivery import outbox as module
from alpha_forge.runtime.delivery.outbox import Outbox
from alpha_forge_sdk import Prediction

START = datetime(2026, 1, 5, tzinfo=UTC)


def predictions(first: int, last: int, column: str = "signal") -> list[Prediction]:
    metadata = {"frame": "ohlcv", "column": column, "dag_name": "test"}
    return [Prediction("A", START + timedelta(minutes=n), float(n), metadata) for n in range(first, last)]


def opened(folder: Path, *sinks: str, column: str = "signal") -> Outbox:
    log = Outbox(folder / "test.outbox.db", "test")
    for sink in sinks:
        log.register(sink, "ohlcv", column)
    return log


def take(log: Outbox, sink: str, most: int = 10**6) -> list[float]:
    found = []
    while most > 0 and len(batch := log.read(sink, min(most, 500))):
        log.settle(sink, batch)
        found += [p.value for p in batch.predictions]
        most -= len(batch)
    return found


def stored(folder: Path) -> int:
    db = sqlite3.connect(folder / "test.outbox.db")
    try:
        return int(db.execute("SELECT count(*) FROM records").fetchone()[0])
    finally:
        db.close()


def test_records_go_once_the_slowest_live_sink_has_them_and_the_newest_ts_stays(tmp_path):
    log = opened(tmp_path, "fast", "slow")
    log.append(predictions(0, 5000))
    take(log, "fast")
    assert stored(tmp_path) == 5000
    take(log, "slow", 3000)
    assert 2000 <= stored(tmp_path) <= 2000 + module.TRIM_AT
    take(log, "slow")
    assert stored(tmp_path) <= module.TRIM_AT
    log.close()
    assert stored(tmp_path) == 0
    again = opened(tmp_path, "fast", "slow")
    assert again.newest("ohlcv", "signal") == {
        "A": int((START + timedelta(minutes=4999)).timestamp()) * 10**9
    }
    assert again.append(predictions(4990, 5003)) == 3
    assert again.counters.conflicts == 0
    assert take(again, "slow") == [5000, 5001, 5002]
    again.close()


def test_a_removed_sink_holds_nothing_back_and_is_told_what_it_missed_when_it_returns(tmp_path, caplog):
    log = opened(tmp_path, "stays", "leaves")
    log.append(predictions(0, 10))
    take(log, "stays")
    log.close()
    assert stored(tmp_path) == 10
    log = opened(tmp_path, "stays")
    log.append(predictions(10, 30))
    take(log, "stays", 15)
    log.close()
    assert stored(tmp_path) == 5
    with caplog.at_level(logging.WARNING):
        log = opened(tmp_path, "stays", "leaves")
    assert "sink leaves was away: 25 record(s) for it are trimmed" in caplog.text
    assert take(log, "leaves") == take(log, "stays") == [25, 26, 27, 28, 29]
    log.close()


def test_a_new_name_and_a_new_column_start_at_the_end(tmp_path, caplog):
    log = opened(tmp_path, "old")
    log.append(predictions(0, 10))
    log.close()
    log = opened(tmp_path, "new")
    assert log.backlog("new") == 0
    log.close()
    with caplog.at_level(logging.WARNING):
        log = opened(tmp_path, "new", column="another")
    assert "sink new reads another column now (another)" in caplog.text
    log.append(predictions(0, 3, "another") + predictions(10, 12))
    assert take(log, "new") == [0, 1, 2]
    log.close()


@pytest.mark.parametrize("left", [0, 1, 700])
def test_places_go_on_after_everything_was_trimmed(tmp_path, left):
    """A log that is empty at the start does not hand a record out twice, nor skip one."""
    sent, got = 0, []
    for _ in range(4):
        log = opened(tmp_path, "one", "two")
        log.append(predictions(sent, sent + 1500))
        sent += 1500
        got += take(log, "one", log.backlog("one") - left)
        take(log, "two")
        log.close()
    log = opened(tmp_path, "one")
    assert got + take(log, "one") == [float(n) for n in range(sent)]
    log.close()
