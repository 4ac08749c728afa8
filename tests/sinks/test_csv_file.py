"""The file outlives its writers: killed, failing, several at once, or with somebody else's hands in it."""

from __future__ import annotations

import errno
import functools
import os
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from csv_support import HEADER, opened, prediction, read_back, records, sink, store

from alpha_forge_plugins.sinks import append_file, csv_append, csv_rows, file_lock
from alpha_forge_plugins.sinks.key_index import KeyIndex
from alpha_forge_sdk import AlphaForgeError, Prediction, RetryLater

HERE = Path(__file__).parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.csv"


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that keeps ten keys: what is older must be looked up in the file."""
    monkeypatch.setattr(append_file, "KeyIndex", functools.partial(KeyIndex, limit=10))


def refused(code: str, call: Any, *args: Any) -> AlphaForgeError:
    with pytest.raises(AlphaForgeError) as caught:
        call(*args)
    assert caught.value.code == code, caught.value
    assert caught.value.help
    return caught.value


def start(code: str, *args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        cwd=HERE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# --- killed ---


def test_cut_off_at_any_byte_the_batch_is_whole_after_redelivery(tmp_path: Path) -> None:
    before = records(bars=1, symbols=2)
    batch = [
        prediction("PLAIN", 1, 1 / 3),
        prediction('quoted "x"\nsymbol', 1, -2.5, note='a "b"\n,c'),
        prediction("LAST", 1, 7.0),
    ]
    store(tmp_path / "whole.csv", before)
    kept = (tmp_path / "whole.csv").stat().st_size
    store(tmp_path / "whole.csv", batch)
    whole = (tmp_path / "whole.csv").read_bytes()
    for cut in range(kept, len(whole)):
        path = tmp_path / "cut.csv"
        path.write_bytes(whole[:cut])
        made = opened(path)
        stored = read_back(path)
        assert stored == (before + batch)[: len(stored)], cut
        assert len(stored) >= 2
        made.emit_batch(batch)
        made.close()
        assert path.read_bytes() == whole, cut


@pytest.mark.parametrize("cut", [0, 1, 20, len(HEADER)])
@pytest.mark.parametrize("zeros", [0, 5])
def test_a_header_that_was_cut_off_is_written_again(path: Path, cut: int, zeros: int) -> None:
    # A crash of the system may leave zeros where data was not yet written.
    path.write_text((HEADER[:cut] + zeros * "\0")[: len(HEADER) + 1])
    store(path, records(1))
    assert read_back(path) == records(1)


def test_a_writer_that_finds_another_ones_torn_row_cuts_it_off(path: Path) -> None:
    made = opened(path)
    made.emit_batch(records(1))
    with path.open("a") as file:
        file.write("2026-01-05T14:00:00Z,S0USDT,0.1")
    made.emit_batch(records(2))
    made.close()
    assert read_back(path) == records(2)


KILLED = """
import os, signal, sys
from pathlib import Path
from csv_support import opened, records
from alpha_forge_plugins.sinks import append_file

real = append_file.write_all
def half_and_die(file, data):
    if len(data) > 1000:
        real(file, data[: int(sys.argv[2])])
        os.kill(os.getpid(), signal.SIGKILL)
    real(file, data)

made = opened(Path(sys.argv[1]))
made.emit_batch(records(1))
append_file.write_all = half_and_die
made.emit_batch(records(100, first=1))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("written", [0, 7, 10_000, 20_000])
def test_killed_in_the_middle_of_a_batch_every_record_is_there_once_after_redelivery(
    path: Path, written: int
) -> None:
    process = start(KILLED, path, written)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, errors
    store(path, records(100, first=1))
    assert read_back(path) == records(101)


@pytest.mark.parametrize("torn", ["", "2", "2026-01-05T14:00:00Z,S0USDT,0.1"])
def test_zeros_that_a_crash_of_the_system_left_are_cut_off(path: Path, torn: str) -> None:
    store(path, records(1))
    path.write_text(path.read_text() + torn + 4096 * "\0")
    store(path, records(2))
    assert read_back(path) == records(2)


def test_a_row_whose_line_break_an_editor_took_is_kept(path: Path) -> None:
    store(path, records(2))
    path.write_bytes(path.read_bytes()[:-1])
    store(path, records(1, first=2))
    assert read_back(path) == records(3)
    store(path, records(3))
    assert read_back(path) == records(3)


# --- failing ---


@pytest.mark.parametrize("keeps", [0, 30, 10_000])
def test_a_full_disk_loses_nothing_and_leaves_no_half_batch(
    path: Path, monkeypatch: pytest.MonkeyPatch, keeps: int
) -> None:
    made = opened(path)
    made.emit_batch(records(1))
    before = path.read_bytes()
    real = append_file.write_all

    def full(file: Any, data: bytes) -> None:
        real(file, data[:keeps])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(append_file, "write_all", full)
    with pytest.raises(OSError, match="No space"):
        made.emit_batch(records(4))
    assert path.read_bytes() == before
    monkeypatch.setattr(append_file, "write_all", real)
    made.emit_batch(records(4))
    made.close()
    assert read_back(path) == records(4)


def test_what_was_not_synced_does_not_count_as_stored(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = opened(path)

    def fails(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(OSError, match="Input/output"):
            made.emit_batch(records(1))
    assert read_back(path) == []
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    made.emit_batch(records(1))
    made.emit_batch(records(1))
    made.close()
    assert read_back(path) == records(1)
    assert len(synced) == 2, "also rows that are there already may not have reached the disk"


# --- several writers ---

WRITER = """
import random, sys
from pathlib import Path
from csv_support import opened, records

made = opened(Path(sys.argv[1]))
chance = random.Random(int(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
sent = records(60, symbols=5)
while sent:
    count = chance.randint(1, 9)
    batch, sent = sent[:count], sent[count:]
    made.emit_batch(batch)
made.close()
"""


def test_two_processes_at_once_write_every_record_once(path: Path) -> None:
    writers = [start(WRITER, path, seed) for seed in (1, 2)]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n", writer.communicate(timeout=60)
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        _, errors = writer.communicate(timeout=60)
        assert writer.returncode == 0, errors
    stored = read_back(path)
    assert sorted(stored, key=lambda p: (p.ts, p.symbol)) == records(60, symbols=5)


def test_two_sinks_in_one_process_see_each_others_rows(path: Path) -> None:
    first, second = opened(path), opened(path)
    first.emit_batch(records(2))
    second.emit_batch(records(3))
    first.emit_batch(records(4))
    first.close()
    second.close()
    assert read_back(path) == records(4)


def test_a_lock_that_is_held_too_long_is_told_and_is_a_fault_that_passes(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(csv_append, "LOCK_WAIT", 0.05)
    monkeypatch.setattr(file_lock, "_TOLD_AFTER", 0.01)
    made = opened(path)
    with path.open("rb") as other:
        with file_lock.exclusive(other, 1.0), pytest.raises(RetryLater, match="lock"):
            made.emit_batch(records(1))
        assert caplog.text.count(f"another process holds the lock of {path}") == 1
        made.emit_batch(records(1))
    made.close()
    assert read_back(path) == records(1)


# --- other hands ---


def test_a_file_that_is_moved_away_is_begun_anew(path: Path) -> None:
    made = opened(path)
    made.emit_batch(records(2))
    path.rename(path.with_suffix(".old"))
    made.emit_batch(records(2, first=2))
    path.unlink()
    made.emit_batch(records(2, first=4))
    made.close()
    assert read_back(path.with_suffix(".old")) == records(2)
    assert read_back(path) == records(2, first=4)


def test_a_file_that_is_emptied_is_begun_anew(path: Path) -> None:
    made = opened(path)
    made.emit_batch(records(2))
    os.truncate(path, 0)
    made.emit_batch(records(3))
    made.close()
    assert read_back(path) == records(3)


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,2\n",
        "ts,symbol,prediction\n",
        HEADER + ",more\n",
        HEADER + "\r\n",
        "\ufeff" + HEADER + "\n",
        "\n",
        "x",
    ],
)
def test_another_header_is_refused_and_the_file_left_as_it_is(path: Path, content: str) -> None:
    path.write_bytes(content.encode())
    for call in (sink(path).open, sink(path).preflight):
        error = refused("AF6010", call)
        assert HEADER in error.message
    assert path.read_bytes() == content.encode()


@pytest.mark.parametrize(
    "rows",
    [
        "2026-01-05T13:00:00Z,A,1.0\n",
        "2026-01-05T13:00:00Z,A,1.0,f,c,d,{},more\n",
        '2026-01-05T13:00:00Z,A,1.0,f,c,d,"{"}\n',
        # A stray quote: everything behind it would pass for one torn row.
        '2026-01-05T13:00:00Z,"A,1.0,f,c,d,{}\n2026-01-05T14:00:00Z,A,1.0,f,c,d,{}\n',
        b"\xff\xfe\n",
        "hello",
        "2026-01-05 13:00,A",
    ],
)
def test_rows_of_others_are_refused_and_left_as_they_are(path: Path, rows: str | bytes) -> None:
    content = f"{HEADER}\n".encode() + (rows if isinstance(rows, bytes) else rows.encode())
    path.write_bytes(content)
    refused("AF6012", sink(path).open)
    assert path.read_bytes() == content


def test_rows_of_others_while_the_sink_is_open_stop_it_until_they_are_mended(path: Path) -> None:
    made = opened(path)
    made.emit_batch(records(1))
    good = path.read_bytes()
    path.write_bytes(good + b"hello\n")
    refused("AF6012", made.emit_batch, records(2))
    path.write_bytes(good)
    made.emit_batch(records(2))
    made.close()
    assert read_back(path) == records(2)


def test_blank_lines_are_nobodys_rows(path: Path) -> None:
    store(path, records(1))
    path.write_bytes(path.read_bytes() + b"\n\n")
    store(path, records(2))
    path.write_bytes(path.read_bytes().replace(b"\n\n\n", b"\n"))
    assert read_back(path) == records(2)


# --- where to ---


def test_directories_are_made_by_open_and_by_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "out.csv"
    sink(path).preflight()
    assert not (tmp_path / "a").exists()
    store(path, records(1))
    sink(path).preflight()
    assert read_back(path) == records(1)


def test_a_directory_that_cannot_be_is_named_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    made = sink(tmp_path / "file" / "deep" / "out.csv")
    for call in (made.preflight, made.open):
        assert "file" in refused("AF6003", call).message
    made.close()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_without_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    for call in (sink(tmp_path / "deep" / "out.csv").preflight, sink(tmp_path / "deep" / "out.csv").open):
        refused("AF6003", call)
    tmp_path.chmod(0o700)


def test_a_directory_that_denies_access_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(tmp_path / "out.csv", [])
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    refused("AF6003", sink(tmp_path / "deep" / "out.csv").preflight)
    refused("AF6004", sink(tmp_path / "out.csv").preflight)


def test_a_path_that_is_no_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, Path(os.devnull)):
        for call in (sink(path).preflight, sink(path).open):
            refused("AF6004", call)


# --- long files ---


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize("block", [60, 333, 1 << 20])
def test_keys_older_than_memory_are_found_in_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(append_file, "_BLOCK", block)
    sent = [p for i, p in enumerate(records(40)) if i != 5]
    missing = records(40)[5]
    made = opened(path)
    for at in range(0, len(sent), 7):
        made.emit_batch(sent[at : at + 7])
        made.emit_batch(sent[: at + 7])
    assert read_back(path) == sent
    made.close()
    made = opened(path)
    made.emit_batch(records(40))
    made.emit_batch(records(40))
    made.close()
    assert read_back(path) == [*sent, missing]


@pytest.mark.usefixtures("forgetful")
def test_a_file_out_of_order_is_judged_by_time_not_by_place(path: Path) -> None:
    late, early = records(20, first=100), records(20)
    store(path, late)
    store(path, early)
    store(path, [*late, *early, *records(1, first=50)])
    assert read_back(path) == [*late, *early, *records(1, first=50)]


@pytest.mark.usefixtures("forgetful")
def test_a_key_without_ts_is_never_forgotten(path: Path) -> None:
    sent = [prediction(f"S{i}", i) for i in range(50)]
    store(path, sent, dedup_key=["symbol"])
    store(path, sent, dedup_key=["symbol"])
    assert read_back(path) == sent


def test_fractions_of_a_second_do_not_confuse_the_order(path: Path) -> None:
    index = KeyIndex(("ts", "symbol"), csv_rows, limit=1)
    rows = [[f"2026-01-05T13:00:0{s}{f}Z", "A", "1.0", "", "", "", "{}"] for s in (1, 0) for f in ("", ".5")]
    index.add(rows)
    assert [index.is_old(row) for row in rows] == [False, False, True, True]
    assert rows[0] in index
    assert rows[1] in index


def test_a_million_rows_are_opened_and_every_one_of_them_is_known(path: Path) -> None:
    bars, symbols = 250_000, ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT")
    tail = ",ohlcv,model.prediction,minimal,{}\n"
    with path.open("w") as file:
        file.write(HEADER + "\n")
        for bar in range(bars):
            day, minute = divmod(bar, 1440)
            year, day = 2000 + day // 28, day % 28 + 1
            ts = f"{year}-01-{day:02}T{minute // 60:02}:{minute % 60:02}:00Z"
            file.writelines(f"{ts},{symbol},0.{bar}{tail}" for symbol in symbols)
    size = path.stat().st_size
    first, last = "2000-01-01T00:00:00+00:00", ts.replace("Z", "+00:00")
    begun = time.process_time()
    made = opened(path)
    assert time.process_time() - begun < 2.0

    def sent(when: str, symbol: str) -> Prediction:
        return Prediction(symbol, datetime.fromisoformat(when), 1.0)

    made.emit_batch([sent(when, symbol) for when in (last, first) for symbol in symbols])
    assert path.stat().st_size == size
    made.emit_batch([sent(when, "NEW") for when in (last, first)])
    made.close()
    assert path.read_text()[size:].count("\n") == 2
