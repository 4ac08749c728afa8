"""The directory of Parquet files: whole at any moment, read by anybody's reader, few files, each key in one of them."""

from __future__ import annotations

import os
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from csv_support import prediction, records
from file_support import opened, read, sink, store, stored
from pydantic import ValidationError

from alpha_forge_plugins.sinks import parquet_dataset, parquet_file
from alpha_forge_sdk import AlphaForgeError, Prediction


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out"


def files(path: Path) -> dict[str, int]:
    """Rows of each file."""
    return {f.name: pq.read_metadata(f).num_rows for f in sorted(path.glob("*.parquet"))}


def minutes(count: int, symbols: int = 4, first: int = 0) -> list[Prediction]:
    start = datetime(2026, 1, 5, tzinfo=UTC)
    return [
        Prediction(f"S{s}", start + timedelta(minutes=m), m + s / 7, {"frame": "f"})
        for m in range(first, first + count)
        for s in range(symbols)
    ]


def refused(code: str, call: Any, *args: Any, says: str = "") -> None:
    with pytest.raises(AlphaForgeError) as caught:
        call(*args)
    assert caught.value.code == code, caught.value
    assert says in caught.value.message, caught.value.message
    assert caught.value.help


# --- the files ---


def test_a_days_file_is_filled_before_the_next_one_is_begun(path: Path) -> None:
    made = opened("parquet", path, rows_per_file=50)
    sent = minutes(60)
    for at in range(0, len(sent), 20):
        made.emit_batch(sent[at : at + 20])
    made.emit_batch(minutes(1, first=1440))
    made.close()
    assert files(path) == {
        **{f"2026-01-05-000{n}.parquet": 50 for n in range(4)},
        "2026-01-05-0004.parquet": 40,
        "2026-01-06-0000.parquet": 4,
    }
    assert {f.name for f in path.iterdir()} == {*files(path), ".lock"}
    assert read("parquet", path) == list(map(stored, [*sent, *minutes(1, first=1440)]))


def test_names_sort_by_number_beyond_9999(path: Path) -> None:
    store("parquet", path, minutes(1))
    (path / "2026-01-05-0000.parquet").rename(path / "2026-01-05-10000.parquet")
    store("parquet", path, minutes(2), rows_per_file=4)
    assert files(path) == {"2026-01-05-10000.parquet": 4, "2026-01-05-10001.parquet": 4}


def test_a_key_in_a_full_file_is_known_and_replaced_there(path: Path) -> None:
    store("parquet", path, minutes(30), rows_per_file=20)
    before = {f: f.stat().st_ino for f in path.glob("*.parquet")}
    store("parquet", path, minutes(30), rows_per_file=20)
    assert {f: f.stat().st_ino for f in path.glob("*.parquet")} == before, "nothing new, nothing rewritten"
    corrected = Prediction("S1", minutes(1)[0].ts, -0.0, {"frame": "f"})
    store("parquet", path, [corrected], rows_per_file=20)
    assert read("parquet", path)[1] == stored(corrected)
    assert len(read("parquet", path)) == 120
    changed = [f.name for f, ino in before.items() if f.stat().st_ino != ino]
    assert changed == ["2026-01-05-0000.parquet"]


def test_late_records_go_into_their_day_once(path: Path) -> None:
    sent = minutes(3 * 1440, symbols=1)
    late = sent[100:1440:200]
    on_time = [p for p in sent if p not in late]
    made = opened("parquet", path, rows_per_file=500)
    for at in range(0, len(on_time), 700):
        made.emit_batch(on_time[at : at + 700])
    made.emit_batch(late)
    made.emit_batch([*late, *sent[:50], *sent[-50:]])
    made.close()
    assert sorted(read("parquet", path)) == sorted(map(stored, sent))


def test_only_a_few_files_stay_in_memory(path: Path) -> None:
    made = opened("parquet", path, rows_per_file=10)
    made.emit_batch(minutes(100))
    made.emit_batch(minutes(100))
    parts = made._store._parts.values()
    assert len(parts) == 40
    assert sum(part.in_memory for part in parts) == parquet_dataset._KEPT
    made.close()


@pytest.mark.parametrize("key", [["symbol"], ["symbol", "column"], ["ts", "prediction"]])
def test_a_key_without_ts_or_with_the_value_is_refused(path: Path, key: list[str]) -> None:
    with pytest.raises(ValidationError):
        sink("parquet", path, dedup_key=key)


# --- readers ---


def test_everybodys_reader_reads_the_directory(path: Path) -> None:
    import duckdb

    sent = [*records(bars=30), prediction("NAN", 30, float("nan")), prediction("INF", 30, float("-inf"))]
    store("parquet", path, sent, rows_per_file=25)
    values = np.array([p.value for p in sent])
    frame = pd.read_parquet(path).sort_values("ts", kind="stable")
    assert frame.columns.tolist() == ["ts", "symbol", "prediction", "frame", "column", "dag_name", "metadata"]
    assert str(frame["ts"].dtype) == "datetime64[us, UTC]"
    assert frame["ts"].tolist() == [p.ts for p in sent]
    np.testing.assert_array_equal(frame["prediction"].to_numpy(), values)
    table = pyarrow.dataset.dataset(path).to_table(use_threads=False)
    assert table.num_rows == len(sent)
    assert table.schema.field("ts").type == pa.timestamp("us", tz="UTC")
    with duckdb.connect() as db:
        db.execute("SET threads = 1")
        query = f"SELECT symbol, epoch_us(ts), prediction FROM '{path}/*.parquet' ORDER BY ts, symbol"
        rows = db.execute(query).fetchnumpy()
    ordered = sorted(sent, key=lambda p: (p.ts, p.symbol))
    assert rows["symbol"].tolist() == [p.symbol for p in ordered]
    np.testing.assert_array_equal(np.asarray(rows["prediction"]), [p.value for p in ordered])


def test_a_reader_never_sees_a_torn_file_or_a_row_twice(path: Path) -> None:
    made = opened("parquet", path, rows_per_file=60)
    made.emit_batch(minutes(1))
    done, seen, problems = threading.Event(), [], []

    def look() -> None:
        while not done.is_set():
            try:
                table = pyarrow.dataset.dataset(path).to_table(use_threads=False)
            except Exception as error:  # noqa: BLE001 - told by the test
                problems.append(error)
                return
            keys = [*zip(table["ts"].to_pylist(), table["symbol"].to_pylist(), strict=True)]
            seen.append(len(keys))
            if len(set(keys)) != len(keys):
                problems.append(AssertionError(Counter(keys).most_common(1)))

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for minute in range(1, 60):
            made.emit_batch(minutes(1, first=minute))
    finally:
        done.set()
        reader.join()
    made.close()
    assert problems == []
    assert seen
    assert seen == sorted(seen)
    assert len(read("parquet", path)) == 240


# --- crashes and faults ---


def test_what_a_killed_writer_left_aside_is_removed(path: Path) -> None:
    store("parquet", path, minutes(3))
    (path / ".2026-01-05-0000.parquet.new").write_bytes(b"half")
    (path / ".keep").write_text("the user's")
    store("parquet", path, minutes(4))
    assert {f.name for f in path.iterdir()} == {".keep", ".lock", "2026-01-05-0000.parquet"}
    assert read("parquet", path) == list(map(stored, minutes(4)))


@pytest.mark.parametrize("fails", [1, 2, 3])
def test_a_fault_between_two_files_of_a_batch_loses_and_doubles_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    made = opened("parquet", path, rows_per_file=10)
    made.emit_batch(minutes(2))
    batch = minutes(4, first=2) + minutes(2, first=1440)
    real, calls = os.replace, 0

    def replace(source: Path, target: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == fails:
            raise OSError(5, "Input/output error", str(target))
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(parquet_file.os, "replace", replace)
        with pytest.raises(OSError, match="Input/output"):
            made.emit_batch(batch)
    assert not list(path.glob(".2026*"))
    assert set(map(stored, minutes(2))) <= set(read("parquet", path))
    made.emit_batch(batch)
    made.close()
    assert sorted(read("parquet", path)) == sorted(map(stored, [*minutes(2), *batch]))


def test_a_batch_is_synced_before_it_counts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = opened("parquet", path)
    synced: list[str] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        real(handle)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("the names of open files are known on Linux only")
    monkeypatch.setattr(os, "fsync", fsync)
    made.emit_batch(minutes(1))
    assert synced == [".2026-01-05-0000.parquet.new", "out"]
    made.emit_batch(minutes(1))
    assert synced[2:] == ["out"], "also files that a killed writer renamed may not have reached the disk"
    made.close()


def test_writers_in_turn_see_each_others_rows_whatever_their_files_look_like(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An inode may be used again, within one tick of the clock, for a file of the same size.
    monkeypatch.setattr(parquet_dataset, "version_of", lambda _: (1, 1, 1))
    monkeypatch.setattr(parquet_file, "version_of", lambda _: (1, 1, 1))
    first, second = opened("parquet", path), opened("parquet", path)
    for minute in range(0, 12, 3):
        first.emit_batch(minutes(1, first=minute))
        second.emit_batch(minutes(1, first=minute + 1))
        first.emit_batch(minutes(1, first=minute + 2))
    first.close()
    second.close()
    assert read("parquet", path) == list(map(stored, minutes(12)))


# --- what others did ---


@pytest.mark.parametrize(
    "name", ["data.parquet", "README.md", "2026-13-05.parquet", "sub/x", "2026-01-05-1.parquet"]
)
def test_other_files_are_refused_for_readers_would_read_them(path: Path, name: str) -> None:
    store("parquet", path, minutes(1))
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).write_bytes(b"x")
    for call in (sink("parquet", path).open, sink("parquet", path).preflight):
        refused("AF6010", call, says=Path(name).parts[0])


def test_files_with_other_columns_are_refused(path: Path) -> None:
    store("parquet", path, minutes(1))
    frame = pd.read_parquet(path / "2026-01-05-0000.parquet").astype({"prediction": "float32"})
    frame.to_parquet(path / "2026-01-06-0000.parquet", index=False)
    refused("AF6010", sink("parquet", path).open, says="prediction float")


def test_a_damaged_file_is_refused_when_it_is_needed(path: Path) -> None:
    store("parquet", path, minutes(2), minutes(1, first=1440))
    file = path / "2026-01-05-0000.parquet"
    whole = file.read_bytes()
    for damaged in (b"", b"hello", whole[:-20], whole[100:]):
        file.write_bytes(damaged)
        made = opened("parquet", path)  # its newest file is whole
        refused("AF6012", made.emit_batch, minutes(2), says=file.name)
        made.emit_batch(minutes(2, first=1440))
        file.write_bytes(whole)
        made.emit_batch(minutes(3))
        made.close()
        assert len(read("parquet", path)) == 20
        file.write_bytes(whole)


def test_files_that_the_user_merged_go_on(path: Path) -> None:
    store("parquet", path, *(minutes(5, first=5 * n) for n in range(6)), rows_per_file=20)
    assert len(files(path)) == 6
    made = opened("parquet", path, rows_per_file=200)
    made.emit_batch(minutes(30))
    merged = pd.read_parquet(path)
    for file in path.glob("*.parquet"):
        file.unlink()
    merged.to_parquet(path / "2026-01-05-0000.parquet", index=False, row_group_size=50)
    made.emit_batch(minutes(31))
    made.close()
    assert files(path) == {"2026-01-05-0000.parquet": 124}
    assert sorted(read("parquet", path)) == sorted(map(stored, minutes(31)))


def test_rows_of_a_longer_key_are_not_merged_silently(path: Path) -> None:
    both = [prediction("A", 0, 1.0, column="fast"), prediction("A", 0, 2.0, column="slow")]
    store("parquet", path, both, dedup_key=["ts", "symbol", "column"])
    made = opened("parquet", path)
    refused("AF6012", made.emit_batch, [prediction("A", 0, 3.0)], says="dedup_key")
    made.close()
    assert sorted(read("parquet", path)) == sorted(map(stored, both))
