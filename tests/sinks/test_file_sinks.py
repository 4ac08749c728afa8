"""What the four sinks of files promise alike: every record once, to the last bit, whatever happens to disk and process."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from csv_support import START, prediction, records
from file_support import NAMES, SINKS, opened, read, sink, store, stored
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from alpha_forge_sdk import AlphaForgeError, PluginError, Prediction, Rejected

HERE = Path(__file__).parent
KINDS = tuple(SINKS)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def path(kind: str, tmp_path: Path) -> Path:
    return tmp_path / NAMES[kind]


def refused(code: str, call: Any, *args: Any) -> AlphaForgeError:
    with pytest.raises(AlphaForgeError) as caught:
        call(*args)
    assert caught.value.code == code, caught.value
    assert caught.value.help
    return caught.value


def assert_once(kind: str, path: Path, sent: list[Prediction]) -> None:
    assert sorted(read(kind, path)) == sorted(map(stored, sent))


# --- what arrives ---


def test_five_hundred_symbols_one_late_one_with_a_hole_each_batch_shuffled(kind: str, path: Path) -> None:
    chance = random.Random(7)
    bars = [[prediction(f"S{s}", bar, chance.gauss(0, 1)) for s in range(500)] for bar in range(6)]
    late = bars[1].pop(3)
    del bars[2][4]
    made, sent = opened(kind, path), []
    for bar in bars:
        chance.shuffle(bar)
        made.emit_batch(bar)
        sent += bar
        assert len(read(kind, path)) == len(sent), "stored when emit_batch returns"
    made.emit_batch([late])
    made.close()
    assert_once(kind, path, [*sent, late])
    store(kind, path, [late, *sent])
    assert_once(kind, path, [*sent, late])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
metadata = st.dictionaries(st.sampled_from(["frame", "column", "dag_name", "x", "", "y,"]), json_values)
finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(codec="utf-8"))
rows = st.lists(st.tuples(texts, finite, metadata, st.integers(-(10**15), 10**15)), max_size=6)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=rows)
def test_any_record_survives(
    kind: str, tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[str, float, Any, int]]
) -> None:
    path = tmp_path_factory.mktemp("any") / NAMES[kind]
    sent = {
        (symbol, at): Prediction(symbol, START + timedelta(microseconds=at), value, rest)
        for symbol, value, rest, at in drawn
    }
    store(kind, path, [*sent.values()], [*sent.values()])
    store(kind, path, [*sent.values()])
    assert_once(kind, path, [*sent.values()])


def test_what_is_not_finite_is_stored_or_rejected_as_declared(kind: str, path: Path) -> None:
    sent = [prediction(s, 0, v) for s, v in zip("abcd", (math.nan, math.inf, 0.5, -math.inf), strict=True)]
    made = opened(kind, path)
    if kind == "jsonl":
        with pytest.raises(Rejected) as caught:
            made.emit_batch(sent)
        assert sorted(caught.value.reasons) == [0, 1, 3]
        sent = sent[2:3]
    else:
        made.emit_batch(sent)
    assert made.non_finite == ("reject" if kind == "jsonl" else "store")
    made.close()
    assert_once(kind, path, sent)


def test_only_the_culprits_are_rejected(kind: str, path: Path) -> None:
    sent = records(bars=2)
    sent[1] = prediction("lone \ud800 surrogate", 0)
    sent[3] = prediction("A", 0, tool=object())
    sent[4] = prediction("B", 0, note="\udfff")
    made = opened(kind, path)
    with pytest.raises(Rejected) as caught:
        made.emit_batch(sent)
    made.close()
    assert sorted(caught.value.reasons) == [1, 3, 4]
    assert_once(kind, path, [sent[0], sent[2], sent[5]])


def test_two_columns_share_a_destination_if_the_key_says_so(kind: str, path: Path) -> None:
    sent = [
        prediction("A", 0, 1.0, column="fast.prediction"),
        prediction("A", 0, 2.0, column="slow.prediction"),
    ]
    key = ["ts", "symbol", "column"]
    store(kind, path, sent, dedup_key=key)
    store(kind, path, sent, dedup_key=key)
    assert_once(kind, path, sent)
    assert sink(kind, path, dedup_key=key).idempotent_by == tuple(key)


def test_another_value_for_the_same_key_follows_the_policy(kind: str, path: Path) -> None:
    store(kind, path, [prediction("A", 0, 1.0), prediction("B", 0, 0.0)])
    store(kind, path, [prediction("A", 0, 2.0), prediction("B", 0, -0.0)])
    kept = sink(kind, path).on_conflict == "keep"
    assert kept == (kind in ("csv", "jsonl"))
    values = (1.0, 0.0) if kept else (2.0, -0.0)
    assert_once(kind, path, [prediction(s, 0, v) for s, v in zip("AB", values, strict=True)])


@pytest.mark.parametrize("key", [[], ["ts", "ts"], ["value"], "ts"])
def test_a_key_that_is_none_is_refused(kind: str, path: Path, key: Any) -> None:
    with pytest.raises(ValidationError):
        sink(kind, path, dedup_key=key)


def test_records_outside_open_and_close_are_refused(kind: str, path: Path) -> None:
    made = sink(kind, path)
    for _ in range(2):
        with pytest.raises(PluginError, match=rf"AF6011.*sinks\.{'csv_append' if kind == 'csv' else kind}"):
            made.emit_batch(records(1))
        made.open()
        made.open()
        made.close()
        made.close()
    assert read(kind, path) == []


# --- processes ---

WRITER = """
import random, sys
from pathlib import Path
from csv_support import records
from file_support import opened

kind, path, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
chance = random.Random(seed)
print("ready", flush=True)
sys.stdin.readline()
made = opened(kind, path)
sent = records(40, symbols=5)
while sent:
    count = chance.randint(1, 9)
    batch, sent = sent[:count], sent[count:]
    made.emit_batch(batch)
    print("stored", flush=True)
made.close()
"""


def start(*args: object) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", WRITER, *map(str, args)], cwd=HERE, text=True, **pipes)  # type: ignore[call-overload]


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline() or f"ended: {process.communicate(timeout=60)[1]}"


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def test_two_processes_at_once_make_one_destination_with_every_record_once(kind: str, path: Path) -> None:
    writers = [start(kind, path, seed) for seed in (1, 2)]
    for writer in writers:
        assert line(writer) == "ready\n"
    for writer in writers:
        go(writer)
    for writer in writers:
        _, errors = writer.communicate(timeout=60)
        assert writer.returncode == 0, errors
    assert_once(kind, path, records(40, symbols=5))


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("after", [1, 17])
def test_killed_while_it_writes_what_it_reported_is_there_and_the_rest_comes(
    kind: str, path: Path, after: int
) -> None:
    writer = start(kind, path, after)
    assert line(writer) == "ready\n"
    go(writer)
    for _ in range(after):
        assert line(writer) == "stored\n"
    os.kill(writer.pid, signal.SIGKILL)
    reported = after + writer.communicate(timeout=60)[0].count("stored")
    chance = random.Random(after)
    least = sum(chance.randint(1, 9) for _ in range(reported))
    made = opened(kind, path)
    there = read(kind, path)
    assert len(there) >= min(least, 200)
    assert set(there) <= set(map(stored, records(40, symbols=5)))
    made.emit_batch(records(40, symbols=5))
    made.close()
    assert_once(kind, path, records(40, symbols=5))


# --- disks ---


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 384 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    if sys.platform != "linux" or os.geteuid() != 0 or mount is None:
        pytest.skip("only root can make a small file system; the kit fills disks by a limit on files")
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=384k", "tmpfs", folder], capture_output=True, check=False
    )
    if made.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {made.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_is_full_is_told_with_the_path_and_costs_nothing(kind: str, small_disk: Path) -> None:
    path = small_disk / NAMES[kind]
    made = opened(kind, path)
    chance = random.Random(3)  # what Parquet can't compress
    bars = [
        [prediction(f"S{s}", bar, chance.random(), id=chance.randbytes(20).hex()) for s in range(100)]
        for bar in range(200)
    ]
    there = 0

    def fill() -> None:
        nonlocal there
        for bar in bars:
            made.emit_batch(bar)
            there += 1

    with pytest.raises(OSError) as caught:
        fill()
    assert caught.value.errno == errno.ENOSPC
    assert str(small_disk) in str(caught.value)
    assert there > 0
    with pytest.raises(OSError, match="No space"):
        made.emit_batch(bars[there])
    sent = [p for bar in bars[:there] for p in bar]
    assert {stored(p) for p in sent} <= set(read(kind, path))
    made.close()
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    store(kind, path, bars[there], bars[there + 1])
    assert_once(kind, path, [*sent, *bars[there], *bars[there + 1]])


def test_a_disk_that_is_full_from_the_start_is_told_and_hinders_nothing_later(
    kind: str, small_disk: Path
) -> None:
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    path = small_disk / NAMES[kind]

    def use() -> None:
        made = sink(kind, path)
        try:
            made.open()
            made.emit_batch(records(1))
        finally:
            made.close()

    for _ in range(2):
        with pytest.raises(OSError) as caught:
            use()
        assert caught.value.errno == errno.ENOSPC
        assert str(path) in str(caught.value)
    filler.unlink()
    use()
    assert_once(kind, path, records(1))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs to become another user")
@pytest.mark.parametrize("what", ["file", "directory"])
def test_another_users_destination_is_refused_by_name(kind: str, what: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(folder) / NAMES[kind]
        if what == "file":
            store(kind, path, records(1))
        before = sorted(Path(folder).rglob("*"))
        with become_nobody():
            codes = {"AF6003"} if what == "directory" else {"AF6003", "AF6004"}
            for call in (sink(kind, path).preflight, sink(kind, path).open):
                with pytest.raises(AlphaForgeError) as caught:
                    call()
                assert caught.value.code in codes
                assert str(path.parent) in caught.value.message
        assert sorted(Path(folder).rglob("*")) == before


@contextlib.contextmanager
def become_nobody() -> Iterator[None]:
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def test_a_destination_that_is_moved_away_is_begun_anew(kind: str, path: Path) -> None:
    made = opened(kind, path)
    made.emit_batch(records(2))
    if kind == "sqlite":  # its log would stay behind: to be deleted, not moved
        path.unlink()
    else:
        path.rename(path.with_name("old"))
        assert read(kind, path.with_name("old")) == list(map(stored, records(2)))
    made.emit_batch(records(2, first=2))
    assert read(kind, path) == list(map(stored, records(2, first=2)))
    made.close()
    store(kind, path, records(2, first=4))
    assert_once(kind, path, records(4, first=2))


@pytest.mark.parametrize("other", KINDS)
def test_what_another_sink_made_is_refused_and_left_as_it_is(kind: str, other: str, tmp_path: Path) -> None:
    if other == kind:
        return
    path = tmp_path / "out"
    store(other, path, records(1))
    with pytest.raises(AlphaForgeError) as caught:
        opened(kind, path)
    assert caught.value.code in ("AF6003", "AF6004", "AF6010", "AF6012")
    assert str(path) in caught.value.message
    with pytest.raises(AlphaForgeError) as early:
        sink(kind, path).preflight()
    assert early.value.code == caught.value.code
    assert read(other, path) == list(map(stored, records(1)))


def test_directories_are_made_by_open_and_by_nothing_else(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / NAMES[kind]
    made = sink(kind, path)
    made.preflight()
    assert list(tmp_path.iterdir()) == []
    made.open()
    made.close()
    assert path.exists()
    (tmp_path / "file").write_text("in the way")
    for call in (sink(kind, tmp_path / "file" / "x").preflight, sink(kind, tmp_path / "file" / "x").open):
        refused("AF6003", call)


def test_a_bar_of_500_symbols_is_stored_long_before_the_next_one(kind: str, path: Path) -> None:
    bars = [[prediction(f"S{s}", bar, bar + s / 7) for s in range(500)] for bar in range(30)]
    made = opened(kind, path)
    begun = time.process_time()
    for bar in bars:
        made.emit_batch(bar)
    seconds = time.process_time() - begun
    made.close()
    assert len(read(kind, path)) == 15_000
    assert seconds / len(bars) < 0.2
