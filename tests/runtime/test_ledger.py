"""The ledger of bars: what it says is what happened, across restarts, crashes and full disks."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpha_forge.contracts.interval import Interval
from alpha_forge.contracts.types import Bar
from alpha_forge.runtime.ledger import certificate as certificates
from alpha_forge.runtime.ledger import frame, segments
from alpha_forge.runtime.ledger.check import check
from alpha_forge.runtime.ledger.content import bar_hashes
from alpha_forge.runtime.ledger.frame import Keep
from alpha_forge.runtime.ledger.origins import KNOWN
from alpha_forge.runtime.ledger.runs import LONGEST, FrameRuns
from alpha_forge.runtime.ledger.state import state_at
from alpha_forge.runtime.runner import RealTimeRunner
from alpha_forge.runtime.sequencer import BarSequencer
from tests.fake_source import ScriptedSource, VirtualClock
from tests.market_truth import random_market
from tests.pipelines import arrivals_of, compiled, config, delayed, shuffled
from tests.runtime.ledger_cases import (
    FIRST,
    batch_of,
    certified,
    checked,
    folder_of,
    ledger_of,
    past_of,
    section_of,
    values_of,
)
from tests.runtime.ledger_support import HOUR, as_said, bar_hash, iso, rolling, stretches


def test_a_bar_s_hash_is_blake2b_over_its_close_and_values():
    bars = [(row * HOUR, values_of(0, row)) for row in range(FIRST, FIRST + 50)]
    bars.append((-1, (0.0, -0.0, 5e-324, 1.7976931348623157e308, 0.1)))
    got = bar_hashes(np.array([ts for ts, _ in bars]), np.array([v for _, v in bars]).T)
    assert got.tolist() == [bar_hash(ts, values) for ts, values in bars]
    assert len(bar_hashes(np.empty(0, np.int64), np.empty((5, 0)))) == 0


# A gate and a ledger against a model of both.

STEP = st.one_of(
    st.tuples(
        st.just("offer"), st.integers(0, 2), st.integers(0, 11), st.integers(0, 2), st.sampled_from([0, 3])
    ),
    st.tuples(st.just("repair"), st.integers(0, 2), st.integers(0, 11), st.integers(0, 1), st.just(4)),
    st.tuples(st.just("certify"), st.integers(0, 2), st.integers(0, 11), st.just(0), st.just(0)),
    st.tuples(st.just("take"), st.just(0), st.just(0), st.just(0), st.just(0)),
)


class Model:
    """Three symbols, twelve rows: who came first stays; what is certified absent stays absent; all else is told."""

    def __init__(self) -> None:
        self.first: dict[tuple[int, int], tuple[tuple[float, ...], str] | None] = {}
        self.next = [0, 0, 0]
        self.revisions: list[tuple[int, int, bool]] = []
        self.repeated = 0

    def offer(self, s: int, row: int, flavour: int, origin: str) -> None:
        values = values_of(s, FIRST + row, flavour)
        known = self.first.get((s, row), "nothing")
        if known == "nothing":
            self.first[s, row] = (values, origin)
            self._advance(s)
        elif known is None or known[0] != values:
            self.revisions.append((s, row, known is None))
        elif origin != "repair":
            self.repeated += 1

    def certify(self, s: int, last: int) -> None:
        for row in range(self.next[s], last + 1):
            self.first.setdefault((s, row), None)
        self._advance(s)

    def _advance(self, s: int) -> None:
        while (s, self.next[s]) in self.first:
            self.next[s] += 1

    def said(self, s: int) -> dict[int, str]:
        rows = ((row, self.first[s, row]) for row in range(self.next[s]))
        return {FIRST + row: "hole" if known is None else known[1] for row, known in rows}


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, max_size=60))
def test_gate_and_ledger_agree_with_a_model(steps):
    gate = BarSequencer(Interval.parse("1h"), ("S000USDT", "S001USDT", "S002USDT"))
    gate.begin([FIRST] * 3)
    ledger, model = ledger_of(3), Model()
    told = []
    for kind, s, row, flavour, origin in [*steps, ("take", 0, 0, 0, 0)]:
        bar = Bar((FIRST + row) * HOUR, *values_of(s, FIRST + row, flavour))
        if kind == "offer":
            gate.offer(s, bar, origin)
            model.offer(s, row, flavour, KNOWN[origin])
        elif kind == "repair":
            gate.fill([(s, bar)])
            model.offer(s, row, flavour, "repair")
        elif kind == "certify":
            request = gate._request([s], FIRST, FIRST + row)
            gate.certify(request, request.end, request.end + 1)
            model.certify(s, row)
        else:
            told += gate.revisions
            ledger.revise(gate.revisions)
            gate.revisions = []
            batches = gate.take()
            if batches:
                ledger.add(batches, 0)
    assert [(r.symbol, r.row - FIRST, r.processed is None) for r in told] == model.revisions
    assert gate.counts.repeated == model.repeated
    for s in range(3):
        section = section_of(ledger, s)
        assert as_said(section) == stretches(model.said(s))
        assert section["bars"] == sum(word != "hole" for word in model.said(s).values())
        assert section["revisions"]["count"] == sum(which == s for which, _, _ in model.revisions)
        assert section["holds"] == (not any(late for which, _, late in model.revisions if which == s))
        bars = [
            ((FIRST + row) * HOUR, model.first[s, row][0])
            for row in range(model.next[s])
            if model.first[s, row] is not None
        ]
        assert section["digest"] == rolling([bars])


# Through the runner.


def run(market, arrivals, anchor_clock: int, state: Path, **options):
    out = state / "out"
    steps = (
        "- features: {using: features.momentum, inputs: {column: F.close}, outputs: {columns: [mom_20]}}\n"
    )
    document, dag = compiled(config(list(market), out, ["mom_20"], steps=steps))
    clock = VirtualClock(anchor_clock)
    source = ScriptedSource(market, arrivals, clock, HOUR, **options)
    runner = RealTimeRunner(document, dag, sources={"ohlcv": source}, state_dir=state)
    summary = asyncio.run(asyncio.wait_for(runner.run(), 120))
    return summary, certificates.read(state / "test_pipeline.certificate.json")


def test_five_hundred_symbols_one_late_one_with_a_hole_all_shuffled(tmp_path):
    symbols, warm, live = 500, 60, 12
    market = random_market(symbols, warm + live, 3)
    hole = market["S007USDT"].index[warm + 4]
    market["S007USDT"] = market["S007USDT"].drop(hole)
    lost = int(market["S009USDT"].index[warm + 6])
    anchor = int(market["S000USDT"].index[warm - 1])
    arrivals = [a for a in arrivals_of(market, anchor) if a != (lost, "S009USDT")]
    arrivals = delayed(shuffled(arrivals, 4, 900), "S011USDT", 1400)
    _, content = run(market, arrivals, anchor + HOUR // 2, tmp_path, per_turn=700)
    assert check(content, tmp_path / "test_pipeline.bars").problems == []
    assert content["holds"]
    for name, bars in market.items():
        section = content["frames"]["ohlcv"]["symbols"][name]
        first, last = int(bars.index[0]), int(bars.index[-1])
        rows = dict.fromkeys(range(anchor // HOUR + 1, last // HOUR + 1), "stream")
        known = as_said(section)
        assert known[0][2] == "rest"
        assert known[0][1] == anchor // HOUR
        streamed = [piece for piece in known if piece[0] > anchor // HOUR]
        if name == "S007USDT":
            rows[int(hole) // HOUR] = "hole"
        # What a shuffled stream brings too late is fetched meanwhile: who comes first is recorded.
        assert [(a, b) for a, b, word in streamed if word == "hole"] == [
            (r, r) for r, word in rows.items() if word == "hole"
        ]
        assert {word for _, _, word in streamed} <= {"stream", "repair", "hole"}
        assert section["last"] == iso(last)
        assert section["expected"] == (last - known[0][0] * HOUR) // HOUR + 1
        assert section["expected"] - section["bars"] == (name == "S007USDT")
        assert first <= known[0][0] * HOUR
    repaired = as_said(content["frames"]["ohlcv"]["symbols"]["S009USDT"])
    assert (lost // HOUR, lost // HOUR, "repair") in repaired


def test_a_restart_goes_on_where_the_run_before_it_ended(tmp_path):
    market = random_market(3, 120, 6)
    anchor = int(market["S000USDT"].index[79])
    arrivals = arrivals_of(market, anchor)
    middle = anchor + 15 * HOUR
    run(market, [a for a in arrivals if a[0] <= middle], anchor + HOUR // 2, tmp_path)
    # Five bars close while nobody runs.
    later = [a for a in arrivals if a[0] > middle + 5 * HOUR]
    _, content = run(market, later, middle + 5 * HOUR + HOUR // 2, tmp_path)
    assert check(content, tmp_path / "test_pipeline.bars").problems == []
    for section in content["frames"]["ohlcv"]["symbols"].values():
        pieces = as_said(section)
        m, a = middle // HOUR, anchor // HOUR
        assert [p[2] for p in pieces] == ["rest", "stream", "rest", "stream"]
        assert [p[1] for p in pieces] == [a, m, m + 5, a + 40]
        assert section["revisions"]["count"] == section["doubled"] == 0


def test_bars_that_history_tells_otherwise_after_a_restart_are_revisions(tmp_path):
    folder = folder_of(tmp_path)
    one = ledger_of(2, folder)
    one.begin(past_of(2, 30, missing={(FIRST + 10, 1)}), 0)
    one.add([batch_of(FIRST + 30, [0, 1])], 0)
    one.close()
    past = past_of(2, 31)
    past.values[:, 30, 0] = values_of(0, FIRST + 30, 5)
    two = ledger_of(2, folder)
    two.begin(past, 0)
    assert checked(two).problems == [
        f"ohlcv S001USDT: 1 bar(s) came after they had been certified absent, the first: {iso((FIRST + 10) * HOUR)}"
    ]
    first, second = (section_of(two, s)["revisions"]["listed"] for s in range(2))
    assert [entry["ts"] for entry in first] == [iso((FIRST + 30) * HOUR)]
    assert first[0]["processed"] == {
        "hash": f"{bar_hash((FIRST + 30) * HOUR, values_of(0, FIRST + 30)):016x}"
    }
    assert first[0]["other"]["close"] == values_of(0, FIRST + 30, 5)[3]
    assert [(entry["ts"], entry["processed"]) for entry in second] == [(iso((FIRST + 10) * HOUR), None)]
    two.close()
    # The third run sees what the second one saw: nothing is new.
    three = ledger_of(2, folder)
    three.begin(past, 0)
    assert [section_of(three, s)["revisions"]["count"] for s in range(2)] == [1, 1]


def test_a_run_whose_history_does_not_join_on_begins_anew(tmp_path):
    folder = folder_of(tmp_path)
    one = ledger_of(2, folder)
    one.begin(past_of(2, 30), 0)
    one.close()
    two = ledger_of(2, folder)
    two.begin(past_of(2, 30, FIRST + 31), 0)
    assert checked(two).problems == []
    section = section_of(two, 0)
    assert (section["first"], section["expected"]) == (iso((FIRST + 31) * HOUR), 30)
    assert section["forgotten"] == 30


def test_a_run_that_begins_before_the_last_one_ended_tells_those_rows_anew(tmp_path):
    """A recording, or a local exchange, that is played once more into the same state directory."""
    folder = folder_of(tmp_path)
    for flavour, revisions in ((0, 0), (0, 0), (3, 10)):
        ledger = ledger_of(2, folder)
        ledger.begin(past_of(2, 30), 0)
        for row in range(FIRST + 30, FIRST + 40):
            ledger.add([batch_of(row, [0, 1], flavour=flavour)], 0)
        assert checked(ledger).problems == []
        section = section_of(ledger, 1)
        assert as_said(section) == [(FIRST, FIRST + 29, "rest"), (FIRST + 30, FIRST + 39, "stream")]
        assert section["revisions"]["count"] == revisions
        ledger.close()


def test_history_s_holes_are_told_apart(tmp_path):
    missing = {(FIRST + k, 0) for k in (0, 1, 2, 7)} | {(FIRST + k, 1) for k in range(20)} | {(FIRST + 19, 2)}
    ledger = ledger_of(3, folder_of(tmp_path))
    ledger.begin(past_of(3, 20, missing=missing), 0)
    said = [section_of(ledger, s)["holes"] for s in range(3)]
    assert [(h["bars"], h["reason"]) for h in said[0]] == [
        (3, "before the symbol's first bar"),
        (1, "the exchange has none"),
    ]
    assert [(h["bars"], h["reason"]) for h in said[1]] == [(20, "before the symbol's first bar")]
    assert said[0][0]["proven_by"] == "history begins after it"
    assert said[1][0]["proven_by"] == "history has no bar of the symbol"
    assert said[2] == []  # its newest bar is still owed
    assert section_of(ledger, 2)["last"] == iso((FIRST + 18) * HOUR)
    assert checked(ledger).problems == []


# Crashes.

WRITER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from tests.runtime.ledger_cases import FIRST, batch_of, folder_of, ledger_of, past_of
    ledger = ledger_of(40, folder_of(Path(sys.argv[1])))
    ledger.begin(past_of(40, 5), 0)
    row = FIRST + 5
    while True:
        ledger.add([batch_of(row, list(range(40)))], 0)
        print(row, flush=True)
        row += 1
    """
)


@pytest.mark.parametrize("lines", [1, 37, 400])
def test_a_killed_writer_loses_nothing_that_was_written(tmp_path, lines):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    told = [int(process.stdout.readline()) for _ in range(lines)]
    process.send_signal(signal.SIGKILL)
    told += [int(line) for line in process.stdout.read().split()]
    process.wait()
    process.stdout.close()
    again = ledger_of(40, folder_of(tmp_path))
    again.begin(past_of(40, 5), 0)
    (old,) = segments.segment_paths(folder_of(tmp_path))[:-1]
    state = state_at(segments.read_segment(old))
    assert state.runs.last.min() >= told[-1]
    assert checked(again).problems == []


def test_a_torn_end_is_where_reading_stops(tmp_path):
    folder = folder_of(tmp_path)
    ledger = ledger_of(3, folder)
    ledger.begin(past_of(3, 5), 0)
    ends = [ledger.position[1]]
    for row in range(FIRST + 5, FIRST + 9):
        ledger.add([batch_of(row, [0, 1, 2])], 0)
        ends.append(ledger.position[1])
    ledger.close()
    (path,) = segments.segment_paths(folder)
    whole = path.read_bytes()
    for size in range(ends[0], len(whole) + 1):
        path.write_bytes(whole[:size])
        segment = segments.read_segment(path)
        kept = sum(end <= size for end in ends) - 1
        assert state_at(segment).runs.last.tolist() == [FIRST + 4 + kept] * 3
        assert segment.torn == (size not in ends)
    for size in range(ends[0]):
        path.write_bytes(whole[:size])
        again = ledger_of(3, folder)  # what can't be read at all is left behind, and said
        if size % 37 == 0:
            again.begin(past_of(3, 5), 0)
            assert section_of(again, 0)["bars"] == 5
            again.close()
            segments.segment_paths(folder)[-1].unlink()


def test_zeros_at_the_end_are_no_records(tmp_path):
    """As a machine that lost its power may leave them."""
    ledger = ledger_of(3, folder_of(tmp_path))
    ledger.begin(past_of(3, 5), 0)
    content = certified(ledger)
    ledger.close()
    (path,) = segments.segment_paths(folder_of(tmp_path))
    whole = segments.read_segment(path)
    path.write_bytes(path.read_bytes() + bytes(4096))
    zeros = segments.read_segment(path)
    assert (zeros.records, zeros.torn) == (whole.records, True)
    assert check(content, tmp_path).problems == []


def test_bytes_that_changed_end_the_reading_too(tmp_path):
    ledger = ledger_of(3, folder_of(tmp_path))
    ledger.begin(past_of(3, 5), 0)
    good = ledger.position[1]
    ledger.add([batch_of(FIRST + 5, [0, 1, 2])], 0)
    content = certified(ledger)
    ledger.close()
    (path,) = segments.segment_paths(folder_of(tmp_path))
    data = bytearray(path.read_bytes())
    for at in range(good, len(data)):
        data[at] ^= 0x40
        path.write_bytes(data)
        problems = check(content, tmp_path).problems
        assert problems, at
        assert "can be read up to byte" in problems[0]
        data[at] ^= 0x40
    path.write_bytes(data)
    assert check(content, tmp_path).problems == []


class FullDisk:
    """`os.write` of a disk with `room` bytes."""

    def __init__(self, room: int) -> None:
        self.room = room
        self._write = os.write

    def write(self, file: int, data) -> int:
        count = min(len(data), self.room)
        if not count:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= count
        return self._write(file, data[:count])


def test_a_full_disk_is_waited_for(tmp_path, monkeypatch, caplog):
    ledger = ledger_of(3, folder_of(tmp_path))
    ledger.begin(past_of(3, 5), 0)
    disk = FullDisk(333)
    monkeypatch.setattr(segments.os, "write", disk.write)
    for row in range(FIRST + 5, FIRST + 20):
        ledger.add([batch_of(row, [0, 1, 2])], 0)
    assert ledger.position is None
    assert len([r for r in caplog.records if "No space left" in r.getMessage()]) == 1
    disk.room = 10**9
    ledger.add([batch_of(FIRST + 20, [0, 1, 2])], 0)
    assert checked(ledger).problems == []
    assert section_of(ledger, 0)["bars"] == 21


def test_what_a_full_disk_costs_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "PENDING_LIMIT", 500)
    ledger = ledger_of(3, folder_of(tmp_path))
    ledger.begin(past_of(3, 5), 0)
    disk = FullDisk(0)
    monkeypatch.setattr(segments.os, "write", disk.write)
    for row in range(FIRST + 5, FIRST + 15):
        ledger.add([batch_of(row, [0, 1, 2])], 0)
    assert ledger.position is None
    disk.room = 10**9
    for row in range(FIRST + 15, FIRST + 18):
        ledger.add([batch_of(row, [0, 1, 2])], 0)
    found = checked(ledger)
    assert found.problems == []
    assert "lost to a full disk" in found.notes[0]
    assert section_of(ledger, 0)["bars"] == 18
    ledger.close()
    again = ledger_of(3, folder_of(tmp_path))
    again.begin(past_of(3, 18), 0)
    assert checked(again).problems == []


# Bounds.


def test_runs_are_bounded_and_what_is_forgotten_is_counted():
    runs = FrameRuns(2)
    everyone = np.arange(2)
    for row in range(5000):
        runs.extend(FIRST + row, everyone, np.array([row % 2, 0], dtype=np.uint8))
    flapping, steady = runs.of(0), runs.of(1)
    assert len(flapping) == LONGEST + 1
    assert sum(run.rows for run in flapping) + runs.forgotten[0] == 5000
    assert [(r.first, r.last) for r in steady] == [(FIRST, FIRST + 4999)]


def test_old_segments_go_and_the_certificate_begins_later(tmp_path, monkeypatch):
    monkeypatch.setattr(frame, "SEGMENT_NS", 10 * HOUR)
    folder = folder_of(tmp_path)
    ledger = ledger_of(2, folder, Keep(days=1))
    ledger.begin(past_of(2, 5), FIRST * HOUR)
    for row in range(FIRST + 5, FIRST + 200):
        ledger.add([batch_of(row, [0, 1], "stream" if row // 7 % 2 else "repair")], row * HOUR)
    assert len(segments.segment_paths(folder)) <= 5
    assert checked(ledger).problems == []
    section = section_of(ledger, 0)
    assert FIRST + 200 - 24 - 11 <= as_said(section)[0][0] <= FIRST + 200 - 24
    assert section["bars"] + section["forgotten"] == 200


def test_a_ledger_is_bounded_in_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(frame, "SEGMENT_BYTES", 4000)
    folder = folder_of(tmp_path)
    ledger = ledger_of(2, folder, Keep(bytes=20_000))
    ledger.begin(past_of(2, 5), 0)
    for row in range(FIRST + 5, FIRST + 1500):
        ledger.add([batch_of(row, [0, 1])], row)
    assert sum(path.stat().st_size for path in segments.segment_paths(folder)) <= 25_000
    assert checked(ledger).problems == []


def test_revisions_are_listed_up_to_a_bound_and_all_counted(tmp_path):
    gate = BarSequencer(Interval.parse("1h"), ("S000USDT",))
    gate.begin([FIRST])
    ledger = ledger_of(1, folder_of(tmp_path))
    ledger.begin(past_of(1, 3, FIRST - 3), 0)
    for row in range(FIRST, FIRST + 50):
        gate.offer(0, Bar(row * HOUR, *values_of(0, row)))
        ledger.add(gate.take(), 0)
        gate.offer(0, Bar(row * HOUR, *values_of(0, row, 9)))
        ledger.revise(gate.revisions)
        gate.revisions = []
    section = section_of(ledger, 0)
    assert section["revisions"]["count"] == 50
    assert len(section["revisions"]["listed"]) == 20
    assert section["holds"]
    one = section["revisions"]["listed"][3]
    assert one["ts"] == iso((FIRST + 3) * HOUR)
    assert [
        tuple(one[k][c] for c in ("open", "high", "low", "close", "volume")) for k in ("processed", "other")
    ] == [
        values_of(0, FIRST + 3),
        values_of(0, FIRST + 3, 9),
    ]
    assert checked(ledger).problems == []


def test_a_row_that_nobody_accounts_for_is_a_hole_that_nothing_proves():
    ledger = ledger_of(1)
    ledger.begin(past_of(1, 5), 0)
    ledger.add([batch_of(FIRST + 7, [0])], 0)
    ledger.add([batch_of(FIRST + 7, [0])], 0)
    section = section_of(ledger, 0)
    assert not section["holds"]
    assert certificates.faults(section) == [
        f"2 bar(s) {iso((FIRST + 5) * HOUR)} … {iso((FIRST + 6) * HOUR)} are not accounted for",
        "1 bar(s) were processed twice",
    ]
