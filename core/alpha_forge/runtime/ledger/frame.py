"""FrameLedger: the ledger of one frame, as it is written. Used from one thread."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alpha_forge.contracts.errors import UsageError
from alpha_forge.contracts.interval import Interval, iso
from alpha_forge.contracts.types import BAR_COLUMNS, BarBatch
from alpha_forge.runtime.ledger import segments
from alpha_forge.runtime.ledger.content import bar_hashes
from alpha_forge.runtime.ledger.origins import Origins
from alpha_forge.runtime.ledger.runs import BEFORE, PROVED, SKIPPED
from alpha_forge.runtime.ledger.segments import BAR, HOLE, Records, Segment, SegmentWriter
from alpha_forge.runtime.ledger.state import LedgerState, state_at
from alpha_forge.runtime.recent import Revision

log = logging.getLogger("alpha_forge.ledger")

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.uint8]
Hashes = npt.NDArray[np.uint64]

DAY_NS = 86_400 * 10**9
SEGMENT_BYTES = 16 * 2**20
SEGMENT_NS = 30 * DAY_NS
"""A segment ends when it is that large, or that old by the clock of the run."""

AHEAD = 10_000
"""Rows that an earlier run may have been ahead of this one and still be compared with it."""


@dataclass(frozen=True, slots=True)
class Keep:
    """How much of a ledger is kept. What is older goes, a segment at a time."""

    days: float = 400.0
    bytes: int = 2**30
    """Of all segments of one frame together."""


@dataclass(frozen=True, slots=True)
class Past:
    """What a run knows when it begins: rows from ``first`` on, ``values`` (5, rows, symbols) with NaN where absent,
    ``origins`` (rows, symbols), and ``owed`` (symbols,), the first row of each that nothing is known of yet."""

    first: int
    values: Float
    origins: Codes
    owed: Int


class FrameLedger:
    """What is known of a frame's bars. Without a directory everything stays in memory."""

    def __init__(
        self,
        name: str,
        interval: Interval,
        symbols: Sequence[str],
        origins: Origins,
        directory: Path | None = None,
        keep: Keep | None = None,
    ) -> None:
        self.name = name
        self.directory = directory
        self.state = LedgerState(interval, symbols, origins.names)
        self._origins = origins
        self._interval = interval
        self._keep = keep or Keep()
        self._writer = SegmentWriter(directory) if directory is not None else None
        self._told = len(origins.names)
        self._begun = 0
        self._earlier: dict[tuple[int, int], int] = {}
        """(symbol, row) → hash of bars that an earlier run processed and this one will process too."""

    @property
    def position(self) -> tuple[int, int] | None:
        """(segment, offset) of everything until now; None without a directory, or where the disk lacks some of it."""
        return self._writer.position if self._writer is not None and self._writer.complete else None

    # The begin of a run.

    def begin(self, past: Past, now: int) -> None:
        """Take the past of a run that begins: go on where the last one ended, compare what both know, add the rest."""
        last = self._last_segment()
        if last is not None:
            self._resume(state_at(last))
        ahead = max(int(self.state.runs.last.max(initial=-1)) - (past.first + len(past.origins) - 1), 0)
        stored = self._stored(past.first, len(past.origins) + min(ahead, AHEAD), last)
        known = stored[: len(past.origins)]
        mask: Bool = np.isfinite(past.values[3])
        rows = past.first + np.arange(mask.shape[0])
        mask &= rows[:, None] < past.owed
        hashes = np.zeros(mask.shape, dtype=np.uint64)
        ts = self._interval.offset + rows * self._interval.ns
        hashes[mask] = bar_hashes(np.repeat(ts, mask.sum(axis=1)), past.values[:, mask])
        rerun = (stored != 0) & (past.first + np.arange(len(stored))[:, None] >= past.owed)
        self._earlier = {(s, past.first + at): int(stored[at, s]) for at, s in np.argwhere(rerun).tolist()}
        start = self._go_on(past)
        self._prune(now)
        self._next_segment(now)
        self._compare(past, mask, hashes, known)
        self._append(*self._rows_of(past, mask, hashes, start))

    def _last_segment(self) -> Segment | None:
        """The newest segment that can be read."""
        for path in reversed(segments.segment_paths(self.directory) if self.directory is not None else []):
            try:
                return segments.read_segment(path)
            except UsageError as error:
                if error.code != "AF5062":
                    raise
                log.warning("%s", error.message)
        return None

    def _resume(self, old: LedgerState) -> None:
        """Go on from where the last run was. Symbols that are not in this one are let go."""
        if old.interval != self._interval:
            return
        codes = {code: self._origins.code(name) for code, name in enumerate(old.origins)}
        self.state.lost = old.lost
        held = old.snapshot()["symbols"]
        for name in self.state.symbols:
            if name in held:
                self.state.resume(name, held[name], codes)

    def _stored(self, first: int, rows: int, last: Segment | None) -> Hashes:
        """(rows, symbols) hashes that the ledger has of the rows from `first` on, 0 where it has none."""
        found = np.zeros((rows, len(self.state.symbols)), dtype=np.uint64)
        place = {name: s for s, name in enumerate(self.state.symbols)}
        since = self._interval.ts(first)
        while last is not None:
            names = list(last.snapshot["symbols"])
            places = np.array([place.get(name, -1) for name in names] or [-1], dtype=np.int64)
            parts = [
                segments.rows_of(payload)[0] for kind, payload, _ in last.records if kind == segments.ROWS
            ]
            bars: Records = np.concatenate([np.empty(0, dtype=BAR), *parts])[::-1]
            at = (bars["ts"] - self._interval.offset) // self._interval.ns - first
            whose = places[bars["symbol"].astype(np.intp)]
            inside = (at >= 0) & (at < len(found)) & (whose >= 0)
            # The newest word counts: segments and their bars come newest first, only what is unknown is filled in.
            at, whose, hashes = at[inside], whose[inside], bars["hash"][inside]
            _, newest = np.unique(at * len(place) + whose, return_index=True)
            at, whose, hashes = at[newest], whose[newest], hashes[newest]
            unknown = found[at, whose] == 0
            found[at[unknown], whose[unknown]] = hashes[unknown]
            ends = [
                self._interval.ts(h["runs"][-1][1]) for h in last.snapshot["symbols"].values() if h["runs"]
            ]
            last = self._before(last) if max(ends, default=0) >= since else None
        return found

    def _before(self, segment: Segment) -> Segment | None:
        assert self.directory is not None
        older = [p for p in segments.segment_paths(self.directory) if int(p.stem) < segment.number]
        for path in reversed(older):
            try:
                return segments.read_segment(path)
            except UsageError as error:
                log.warning("%s", error.message)
        return None

    def _go_on(self, past: Past) -> Int:
        """(symbols,) first row to add. Where the past does not join on to what is known, a symbol begins anew; what
        this run will process once more is taken back."""
        runs = self.state.runs
        start = np.full(len(self.state.symbols), past.first, dtype=np.int64)
        anew = []
        for s, name in enumerate(self.state.symbols):
            if runs.last[s] >= past.owed[s]:
                runs.cut(s, int(past.owed[s]))
            known = runs.of(s)
            if known and past.first <= known[-1].last + 1 and past.first >= known[0].first:
                start[s] = known[-1].last + 1
            elif known:
                anew.append(name)
                runs.clear(s)
        if anew:
            text = "%s: the ledger of %s%s begins anew at %s: this run's history does not join on to the last run's"
            more = f" and {len(anew) - 3} more" if len(anew) > 3 else ""
            log.warning(text, self.name, ", ".join(anew[:3]), more, iso(self._interval.ts(past.first)))
        return start

    def _compare(self, past: Past, mask: Bool, hashes: Hashes, known: Hashes) -> None:
        """What the last run processed and this one has otherwise, or not at all, is a revision."""
        differs = (
            (known != 0) & (hashes != known) & (past.first + np.arange(len(mask)) < past.owed[:, None]).T
        )
        for at, s in np.argwhere(differs).tolist():
            there = bool(mask[at, s])
            now = self._values(past.values[:, at, s], int(past.origins[at, s])) if there else None
            entry = {
                "ts": iso(self._interval.ts(past.first + at)),
                "processed": {"hash": f"{int(known[at, s]):016x}"},
                "other": now,
            }
            self._revise(s, entry)
        late = self._late(past, mask & (known == 0))
        for at, s in np.argwhere(late).tolist():
            other = self._values(past.values[:, at, s], int(past.origins[at, s]))
            self._revise(
                s, {"ts": iso(self._interval.ts(past.first + at)), "processed": None, "other": other}
            )
        rows, whose = np.nonzero((differs & mask) | late)
        if len(rows):
            again = self._bar_records(past, hashes, rows, whose)
            again["again"] = 1
            self._append(again, np.empty(0, dtype=HOLE))

    def _late(self, past: Past, fresh: Bool) -> Bool:
        """Which of the bars that the ledger did not have were certified absent by the last run."""
        late = np.zeros_like(fresh)
        for s in range(len(self.state.symbols)):
            for run in self.state.runs.of(s):
                at = slice(max(run.first - past.first, 0), max(run.last + 1 - past.first, 0))
                if run.hole:
                    late[at, s] = fresh[at, s]
        return late

    def _rows_of(self, past: Past, mask: Bool, hashes: Hashes, start: Int) -> tuple[Records, Records]:
        """Records of the past's rows from `start` on: bars, and holes up to what is owed."""
        rows = past.first + np.arange(len(mask))
        whose, at = np.nonzero((mask & (rows[:, None] >= start)).T)
        bars = self._bar_records(past, hashes, at, whose)
        holes = []
        for s in np.flatnonzero(
            (~mask & (rows[:, None] >= start) & (rows[:, None] < past.owed)).any(axis=0)
        ).tolist():
            ends = int(past.owed[s])
            fresh = not self.state.runs.of(s)
            empty = np.flatnonzero(~mask[: ends - past.first, s]) + past.first
            for first, last in _stretches(empty[empty >= start[s]]):
                code = BEFORE if fresh and first == past.first else SKIPPED
                holes.append((self._interval.ts(first), self._interval.ts(last), 0, s, code, 0))
        return bars, np.array(holes, dtype=HOLE)

    def _bar_records(self, past: Past, hashes: Hashes, at: Int, whose: Int) -> Records:
        bars = np.zeros(len(at), dtype=BAR)
        bars["ts"] = self._interval.offset + (past.first + at) * self._interval.ns
        bars["hash"], bars["symbol"], bars["origin"] = hashes[at, whose], whose, past.origins[at, whose]
        return bars

    # The run.

    def add(self, batches: Sequence[BarBatch], now: int) -> None:
        """Batches that were processed, oldest first within each symbol: one write for all."""
        ts = np.concatenate([np.full(len(b.symbols), b.ts) for b in batches])
        hashes = bar_hashes(ts, np.concatenate([b.values for b in batches], axis=1))
        bars, holes, at = [], [], 0
        for batch in batches:
            bars.append(_bars_of(batch, hashes[at : at + len(batch.symbols)]))
            holes.append(_holes_of(batch))
            at += len(batch.symbols)
            row = self._interval.row(batch.ts)
            self.state.add_row(row, bars[-1], holes[-1])
            if self._earlier:
                self._hold_against_earlier(row, batch, bars[-1])
        self._write(segments.ROWS, segments.rows_payload(np.concatenate(bars), np.concatenate(holes)))
        self._turn(now)

    def _hold_against_earlier(self, row: int, batch: BarBatch, bars: Records) -> None:
        """Compare with what a run before this one, which had come further, has processed."""
        for n, (s, value) in enumerate(zip(bars["symbol"].tolist(), bars["hash"].tolist(), strict=True)):
            known = self._earlier.pop((s, row), value)
            if known != value:
                other = self._values(batch.values[:, n], int(bars["origin"][n]))
                first = {"hash": f"{known:016x}"}
                self._revise(s, {"ts": iso(batch.ts), "processed": first, "other": other})

    def revise(self, revisions: Sequence[Revision]) -> None:
        """Bars that came again with other values; see `Revision`."""
        for r in revisions:
            first = self._values(r.processed, r.processed_origin) if r.processed is not None else None
            entry = {"ts": iso(self._interval.ts(r.row)), "processed": first}
            self._revise(r.symbol, {**entry, "other": self._values(r.other, r.other_origin)})

    def _values(self, values: Any, origin: int) -> dict[str, Any]:
        bar = dict(zip(BAR_COLUMNS, map(float, values), strict=True))
        return {"origin": self._origins.name(origin), **bar}

    def _revise(self, symbol: int, entry: Mapping[str, Any]) -> None:
        # What is not listed is not written either: the count of it is in the next snapshot and certificate.
        if self.state.revisions[symbol].add(entry):
            self._write(segments.REVISION, segments.json_payload([symbol, entry]))

    def _append(self, bars: Records, holes: Records) -> None:
        self.state.add(bars, holes)
        self._write(segments.ROWS, segments.rows_payload(bars, holes))

    # The files.

    def _write(self, kind: int, payload: bytes) -> None:
        if self._writer is None:
            return
        if len(self._origins.names) != self._told:
            self._told = len(self._origins.names)
            self._writer.append(segments.ORIGINS, segments.json_payload(self._origins.names))
        self._writer.append(kind, payload)

    def _next_segment(self, now: int) -> None:
        if self._writer is None:
            return
        missing = self._writer.missing
        self.state.lost += missing
        if self._writer.begin(self.state.snapshot(frame=self.name, created=now)):
            self.state.roll()
            self._begun, self._told = now, len(self._origins.names)
        else:
            self.state.lost -= missing

    def _turn(self, now: int) -> None:
        """Go on in a new segment where this one is full, or old, or lacks what a full disk cost."""
        writer = self._writer
        if writer is not None and (
            writer.position[1] > SEGMENT_BYTES or now - self._begun > SEGMENT_NS or writer.overflowed
        ):
            self._prune(now)
            self._next_segment(now)

    def _prune(self, now: int) -> None:
        """Let go what is older than `Keep` says."""
        oldest = now - int(self._keep.days * DAY_NS)
        if oldest > 0:
            self.state.runs.forget_before(self._interval.row(oldest))
        paths = segments.segment_paths(self.directory) if self.directory is not None else []
        total = sum(path.stat().st_size for path in paths)
        # A segment can go when the next one began before everything that is kept.
        for path, following in pairwise(paths):
            if total <= self._keep.bytes and _created(following) >= oldest:
                return
            total -= path.stat().st_size
            path.unlink(missing_ok=True)

    def sync(self) -> None:
        """Have everything until now on the disk."""
        if self._writer is not None:
            self._writer.sync()

    def close(self) -> None:
        """Idempotent."""
        if self._writer is not None:
            self._writer.close()


def _bars_of(batch: BarBatch, hashes: Hashes) -> Records:
    bars = np.zeros(len(batch.symbols), dtype=BAR)
    bars["ts"], bars["hash"], bars["symbol"] = batch.ts, hashes, batch.symbols
    if batch.origins is not None:
        bars["origin"] = batch.origins
    return bars


def _holes_of(batch: BarBatch) -> Records:
    holes = np.zeros(len(batch.absent), dtype=HOLE)
    holes["first"] = holes["last"] = batch.ts
    holes["symbol"], holes["code"] = batch.absent, PROVED
    if batch.proved is not None:
        holes["proof"] = batch.proved
    return holes


def _stretches(rows: Int) -> list[tuple[int, int]]:
    """(first, last) of each stretch of rows without a gap."""
    cuts = np.flatnonzero(np.diff(rows) != 1) + 1
    return [(int(part[0]), int(part[-1])) for part in np.split(rows, cuts) if len(part)]


def _created(path: Path) -> int:
    """When a segment was begun, by the clock of its run; 0 if it can't be read."""
    try:
        return int(segments.read_segment(path).snapshot["created"])
    except UsageError:
        return 0
