"""The table in a SQLite file: its form, its checks, other writers and readers, and what is no database."""

from __future__ import annotations

import os
import sqlite3
import struct
import threading
from contextlib import closing
from pathlib import Path

import pytest
from csv_support import START, prediction, records
from file_support import opened, read, sink, store, stored
from pydantic import ValidationError

from alpha_forge_plugins.sinks import sqlite as sqlite_sink
from alpha_forge_sdk import AlphaForgeError, RetryLater

COLUMNS = 'ts TEXT, symbol TEXT, prediction, frame TEXT, "column" TEXT, dag_name TEXT, metadata TEXT'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.db"


def run(path: Path, *statements: str) -> list[tuple[object, ...]]:
    """Statements by another program; → the rows of the last one."""
    with closing(sqlite3.connect(path, timeout=10)) as database, database:
        rows: list[tuple[object, ...]] = []
        for statement in statements:
            rows = database.execute(statement).fetchall()
        return rows


def refused(code: str, path: Path, says: str = "", **params: object) -> None:
    with pytest.raises(AlphaForgeError) as caught:
        opened("sqlite", path, **params)
    assert caught.value.code == code, caught.value
    assert str(path) in caught.value.message
    assert says in caught.value.message, caught.value.message
    assert caught.value.help


def test_the_table_is_plain_sql(path: Path) -> None:
    store("sqlite", path, [prediction("BTCUSDT", 0, 0.5), prediction("BTCUSDT", 1, float("nan"), run=7)])
    assert run(path, "SELECT * FROM predictions ORDER BY ts DESC") == [
        (
            2,
            "2026-01-05T14:00:00.000000Z",
            "BTCUSDT",
            None,
            "ohlcv",
            "model.prediction",
            "minimal",
            '{"run":7}',
        ),
        (1, "2026-01-05T13:00:00.000000Z", "BTCUSDT", 0.5, "ohlcv", "model.prediction", "minimal", "{}"),
    ]
    assert run(path, "SELECT unixepoch(ts) FROM predictions WHERE ts < '2026-01-05T13:30'") == [
        (int(START.timestamp()),)
    ]
    assert run(path, "PRAGMA journal_mode") == [("wal",)]


def test_a_commit_is_synced_whatever_the_journal(path: Path) -> None:
    made = opened("sqlite", path)
    database = made._store._database
    assert database.execute("PRAGMA synchronous").fetchone() == (3,), (
        "EXTRA: also a rollback journal's deletion"
    )
    made.close()


@pytest.mark.parametrize("value", [-0.0, 0.0, 5e-324, 1.7976931348623157e308, float("inf"), 2.0**53, 3.0])
def test_a_float_is_stored_to_the_bit_and_as_a_number(path: Path, value: float) -> None:
    store("sqlite", path, [prediction("A", 0, value)])
    ((got, kind),) = run(path, "SELECT prediction, typeof(prediction) FROM predictions")
    assert kind == "real"
    assert struct.pack("<d", got) == struct.pack("<d", value)


def test_pandas_reads_it(path: Path) -> None:
    import pandas as pd

    sent = [*records(bars=5), prediction("NAN", 5, float("nan"))]
    store("sqlite", path, sent)
    with closing(sqlite3.connect(path)) as database:
        frame = pd.read_sql("SELECT * FROM predictions ORDER BY id", database, parse_dates=["ts"])
    assert frame["ts"].tolist() == [p.ts for p in sent]
    assert frame["prediction"].dtype == "float64"
    assert frame["prediction"].tolist()[:-1] == [p.value for p in sent[:-1]]
    assert frame["prediction"].isna().sum() == 1


def test_a_corrected_value_replaces_the_row_and_keeps_its_place(path: Path) -> None:
    store("sqlite", path, records(2))
    store("sqlite", path, [prediction("S1USDT", 0, 99.0, why="corrected")])
    wanted = [stored(p) for p in records(2)]
    wanted[1] = stored(prediction("S1USDT", 0, 99.0, why="corrected"))
    assert read("sqlite", path) == wanted


def test_tables_of_one_file_are_apart(path: Path) -> None:
    store("sqlite", path, records(2))
    store("sqlite", path, records(1), table="Other_2")
    assert run(path, "SELECT count(*) FROM predictions") == [(6,)]
    assert run(path, "SELECT count(*) FROM Other_2") == [(3,)]


@pytest.mark.parametrize(
    "table", ["", "a b", 'x"; DROP TABLE y', "1st", "sqlite_x", "SQLITE_X", "é", "t" * 64]
)
def test_names_that_are_no_tables_are_refused(path: Path, table: str) -> None:
    with pytest.raises(ValidationError):
        sink("sqlite", path, table=table)


def test_a_name_that_sqlite_takes_for_memory_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store("sqlite", Path(":memory:"), records(1))
    assert read("sqlite", tmp_path / ":memory:") == list(map(stored, records(1)))


# --- tables of others ---


@pytest.mark.parametrize(
    ("create", "says"),
    [
        ("CREATE TABLE predictions (time TEXT, value REAL)", "columns time, value"),
        (f"CREATE TABLE predictions ({COLUMNS}, UNIQUE (ts, symbol))", "columns ts, symbol"),
        (
            f"CREATE TABLE predictions (id INTEGER PRIMARY KEY, {COLUMNS.replace('prediction', 'prediction REAL')}, UNIQUE (ts, symbol))",
            "a column prediction of type REAL",
        ),
        (
            f"CREATE TABLE predictions (id INTEGER PRIMARY KEY, {COLUMNS.replace('ts TEXT', 'ts INTEGER')}, UNIQUE (ts, symbol))",
            "a column ts of type INTEGER",
        ),
        (f"CREATE TABLE predictions (id INTEGER PRIMARY KEY, {COLUMNS})", "the unique key none"),
        (
            f'CREATE TABLE predictions (id INTEGER PRIMARY KEY, {COLUMNS}, UNIQUE (ts, symbol, "column"))',
            "the unique key (column, symbol, ts)",
        ),
        (
            f"CREATE TABLE predictions (id INTEGER PRIMARY KEY, {COLUMNS}, UNIQUE (ts, symbol), UNIQUE (metadata))",
            "(metadata)",
        ),
        (
            f"CREATE TABLE predictions (id INTEGER PRIMARY KEY, {COLUMNS.replace('symbol TEXT', 'symbol TEXT COLLATE NOCASE')}, UNIQUE (ts, symbol))",
            "symbol NOCASE",
        ),
        (
            f"CREATE TABLE predictions (id INTEGER PRIMARY KEY, {COLUMNS}, desk TEXT NOT NULL, UNIQUE (ts, symbol))",
            "a column desk that must have a value",
        ),
        ("CREATE VIEW predictions AS SELECT 1 AS ts", "a view"),
    ],
)
def test_a_table_of_another_form_is_refused_and_left_as_it_is(path: Path, create: str, says: str) -> None:
    run(path, create)
    refused("AF6010", path, says)
    assert [row[0] for row in run(path, "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")] == [create]


def test_another_key_than_the_tables_is_refused(path: Path) -> None:
    store("sqlite", path, records(1))
    refused("AF6010", path, "`dedup_key`, (ts, symbol, column)", dedup_key=["ts", "symbol", "column"])
    store("sqlite", path, records(1), dedup_key=["symbol", "ts"])


def test_columns_and_indexes_that_a_user_added_are_the_users(path: Path) -> None:
    store("sqlite", path, records(1))
    run(
        path,
        "ALTER TABLE predictions ADD COLUMN note TEXT",
        "ALTER TABLE predictions ADD COLUMN desk TEXT NOT NULL DEFAULT 'x'",
        "CREATE INDEX by_symbol ON predictions (symbol)",
    )
    store("sqlite", path, records(2))
    assert read("sqlite", path) == list(map(stored, records(2)))


def test_a_database_of_the_users_keeps_its_journal_and_its_tables(path: Path) -> None:
    run(path, "CREATE TABLE mine (x)", "INSERT INTO mine VALUES (1)")
    store("sqlite", path, records(1))
    assert run(path, "PRAGMA journal_mode") == [("delete",)]
    assert run(path, "SELECT x FROM mine") == [(1,)]
    assert read("sqlite", path) == list(map(stored, records(1)))


# --- others at the same time ---


def test_a_database_that_is_locked_too_long_is_a_fault_that_passes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_sink, "LOCK_WAIT", 0.05)
    made = opened("sqlite", path)
    made.emit_batch(records(1))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RetryLater, match="locked"):
            made.emit_batch(records(2))
        with pytest.raises(RetryLater, match="locked"):
            opened("sqlite", path)
        other.execute("ROLLBACK")
    made.emit_batch(records(2))
    made.close()
    assert read("sqlite", path) == list(map(stored, records(2)))


def test_a_reader_does_not_wait_and_sees_whole_batches_only(path: Path) -> None:
    made = opened("sqlite", path)
    made.emit_batch(records(1, symbols=50))
    done, counts = threading.Event(), []

    def look() -> None:
        with closing(sqlite3.connect(path, timeout=0)) as database:
            while not done.is_set():
                counts.append(database.execute("SELECT count(*) FROM predictions").fetchone()[0])

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for bar in range(1, 60):
            made.emit_batch(records(1, symbols=50, first=bar))
    finally:
        done.set()
        reader.join()
    made.close()
    assert counts
    assert counts == sorted(counts)
    assert all(count % 50 == 0 for count in counts)


def test_a_batch_that_fails_midway_leaves_nothing_of_it(path: Path) -> None:
    made = opened("sqlite", path)
    made.emit_batch(records(1))
    run(
        path,
        "CREATE TRIGGER no BEFORE INSERT ON predictions WHEN NEW.symbol = 'S2USDT' BEGIN SELECT RAISE(ABORT, 'no'); END",
    )
    with pytest.raises(sqlite3.IntegrityError, match="no"):
        made.emit_batch(records(2))
    assert read("sqlite", path) == list(map(stored, records(1)))
    run(path, "DROP TRIGGER no")
    made.emit_batch(records(2))
    made.close()
    assert read("sqlite", path) == list(map(stored, records(2)))


# --- what is no database ---


@pytest.mark.parametrize("content", [b"hello", b"ts,symbol\n" * 1000, b"\0" * 4096])
def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    refused("AF6012", path)
    with pytest.raises(AlphaForgeError, match="AF6012"):
        sink("sqlite", path).preflight()
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_an_empty_file_is_a_new_database(path: Path) -> None:
    path.touch()
    sink("sqlite", path).preflight()
    store("sqlite", path, records(1))
    assert read("sqlite", path) == list(map(stored, records(1)))


def test_a_damaged_database_is_told_as_such(path: Path) -> None:
    store("sqlite", path, records(100))
    data = bytearray(path.read_bytes())
    for page in range(1, len(data) // 4096):
        data[page * 4096 : page * 4096 + 200] = os.urandom(200)
    path.write_bytes(data)

    def use() -> None:
        made = sink("sqlite", path)
        try:
            made.open()
            made.emit_batch(records(100))
        finally:
            made.close()

    with pytest.raises(AlphaForgeError) as caught:
        use()
    assert caught.value.code == "AF6012"
    assert str(path) in caught.value.message
