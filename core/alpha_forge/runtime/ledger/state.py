"""LedgerState: what a frame's ledger says at one point: runs, digests, revisions. Written live and read back alike."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from alpha_forge.contracts.interval import Interval
from alpha_forge.runtime.ledger import segments
from alpha_forge.runtime.ledger.origins import MOST
from alpha_forge.runtime.ledger.runs import FrameRuns, Run
from alpha_forge.runtime.ledger.segments import Records

FORMAT = "alpha_forge.ledger"
LISTED = 20
"""Revisions of a symbol that are kept with their values; all are counted."""

_DIGEST_AT = 65_536
"""Bars that wait at most before the digests are brought up to them."""

_DIGESTED = np.dtype([("ts", "<i8"), ("hash", "<u8")])
NOTHING = bytes(32)
"""The digest before the first segment."""


@dataclass(slots=True)
class Revisions:
    """Of one symbol: bars that came again with other values."""

    count: int = 0
    late: int = 0
    """Those of bars that had been certified absent."""
    listed: list[Mapping[str, Any]] = field(default_factory=list)

    def add(self, entry: Mapping[str, Any]) -> bool:
        """Count one; True if it is listed too."""
        self.count += 1
        self.late += entry["processed"] is None
        if len(self.listed) >= LISTED:
            return False
        self.listed.append(entry)
        return True


class LedgerState:
    """One frame's. `origins` are the names of the origins' codes; the caller may add to it."""

    def __init__(self, interval: Interval, symbols: Sequence[str], origins: list[str]) -> None:
        self.interval = interval
        self.symbols = tuple(symbols)
        self.origins = origins
        self.runs = FrameRuns(len(self.symbols))
        self.revisions = [Revisions() for _ in self.symbols]
        self.lost = 0
        """Records that a full disk cost."""
        self._digests = [NOTHING] * len(self.symbols)
        self._hashers: list[Any] = [None] * len(self.symbols)
        self._undigested: list[Records] = []
        self._waiting = 0

    # Digests: sha256 over the digest at the segment's begin and, bar by bar, close and content hash;
    # a symbol without a bar in the segment keeps its own.

    def note(self, bars: Records) -> None:
        """Take bars into the digests, in this order."""
        if len(bars):
            self._undigested.append(bars)
        self._waiting += len(bars)
        if self._waiting >= _DIGEST_AT:
            self._digest()

    def _digest(self) -> None:
        if not self._undigested:
            return
        bars = np.concatenate(self._undigested)
        self._undigested, self._waiting = [], 0
        order = np.argsort(bars["symbol"], kind="stable")
        told = np.empty(len(bars), dtype=_DIGESTED)
        told["ts"], told["hash"] = bars["ts"][order], bars["hash"][order]
        symbols = bars["symbol"][order]
        starts = np.flatnonzero(np.diff(symbols, prepend=-1))
        for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(symbols)], strict=True):
            symbol = int(symbols[start])
            if self._hashers[symbol] is None:
                self._hashers[symbol] = hashlib.sha256(self._digests[symbol])
            self._hashers[symbol].update(told[start:end].tobytes())

    def digest(self, symbol: int) -> str:
        """The symbol's rolling digest, as hex."""
        self._digest()
        hasher = self._hashers[symbol]
        return self._digests[symbol].hex() if hasher is None else str(hasher.hexdigest())

    def roll(self) -> None:
        """A segment begins: the digests go on from here."""
        self._digests = [bytes.fromhex(self.digest(s)) for s in range(len(self.symbols))]
        self._hashers = [None] * len(self.symbols)

    # Rows.

    def add_row(self, row: int, bars: Records, holes: Records) -> None:
        """The bars and holes of one close: nothing but arrays, as long as every symbol goes on as before."""
        if len(bars):
            self.runs.extend(row, bars["symbol"].astype(np.intp), bars["origin"])
            self.note(bars)
        if len(holes):
            self.runs.extend(row, holes["symbol"].astype(np.intp), holes["code"], holes["proof"])

    def add(self, bars: Records, holes: Records) -> None:
        """Any rows, oldest first within each symbol."""
        if len(bars) and _one_close(bars, holes):
            self.add_row(self.interval.row(int(bars["ts"][0])), bars, holes)
            return
        self.note(bars)
        row = self.interval.row
        pieces = [
            (
                int(h["symbol"]),
                Run(row(int(h["first"])), row(int(h["last"])), int(h["code"]), int(h["proof"])),
            )
            for h in holes
        ]
        pieces += self._pieces(bars[bars["again"] == 0])
        for symbol, run in sorted(pieces, key=lambda piece: (piece[0], piece[1].first)):
            self.runs.append(symbol, run)

    def _pieces(self, bars: Records) -> list[tuple[int, Run]]:
        """Runs of bars of one symbol and origin without a gap."""
        if not len(bars):
            return []
        rows = (bars["ts"] - self.interval.offset) // self.interval.ns
        order = np.lexsort((rows, bars["symbol"]))
        rows, symbols, codes = rows[order], bars["symbol"][order].astype(np.int64), bars["origin"][order]
        cut = (np.diff(rows) != 1) | (np.diff(symbols) != 0) | (codes[1:] != codes[:-1])
        starts = np.concatenate(([0], np.flatnonzero(cut) + 1))
        ends = np.concatenate((starts[1:], [len(rows)])) - 1
        firsts, lasts, whose, origins = (
            a.tolist() for a in (rows[starts], rows[ends], symbols[starts], codes[starts])
        )
        return [
            (s, Run(first, last, code))
            for s, first, last, code in zip(whose, firsts, lasts, origins, strict=True)
        ]

    # Reading back.

    def replay(self, kind: int, payload: bytes) -> None:
        """Take a record of a segment, as it was written."""
        if kind == segments.ROWS:
            self.add(*segments.rows_of(payload))
        elif kind == segments.REVISION:
            symbol, entry = json.loads(payload)
            self.revisions[symbol].add(entry)
        elif kind == segments.ORIGINS:
            self.origins[:] = json.loads(payload)

    def snapshot(self, **facts: Any) -> dict[str, Any]:
        """The state as JSON values, for the begin of a segment."""
        interval = {"name": self.interval.name, "ns": self.interval.ns, "offset": self.interval.offset}
        return {
            "format": FORMAT,
            **facts,
            "interval": interval,
            "origins": list(self.origins),
            "lost": self.lost,
            "symbols": {
                name: {
                    "runs": [list(run) for run in self.runs.of(s)],
                    "digest": self.digest(s),
                    "forgotten": int(self.runs.forgotten[s]),
                    "doubled": int(self.runs.doubled[s]),
                    "revisions": self.revisions[s].count,
                    "late": self.revisions[s].late,
                    "listed": self.revisions[s].listed,
                }
                for s, name in enumerate(self.symbols)
            },
        }

    def resume(self, name: str, held: Mapping[str, Any], codes: Mapping[int, int]) -> None:
        """Take over one symbol of a snapshot; `codes` translates its origins into this state's."""
        s = self.symbols.index(name)
        for first, last, code, proof in held["runs"]:
            self.runs.append(s, Run(first, last, code if code >= MOST else codes[code], proof))
        self.runs.forgotten[s], self.runs.doubled[s] = held["forgotten"], held["doubled"]
        self.revisions[s] = Revisions(held["revisions"], held["late"], list(held["listed"]))
        self._digests[s] = bytes.fromhex(held["digest"])
        self._hashers[s] = None


def _one_close(bars: Records, holes: Records) -> bool:
    """True if all of these are of one close, as nearly everything that a run writes is."""
    ts = bars["ts"][0]
    same = bool((bars["ts"] == ts).all()) and not bars["again"].any()
    return same and bool((holes["first"] == ts).all() and (holes["last"] == ts).all())


def restored(snapshot: Mapping[str, Any]) -> LedgerState:
    """The state that a snapshot tells."""
    interval = Interval(**snapshot["interval"])
    names = list(snapshot["origins"])
    state = LedgerState(interval, tuple(snapshot["symbols"]), names)
    state.lost = snapshot["lost"]
    same = {code: code for code in range(len(names))}
    for name, held in snapshot["symbols"].items():
        state.resume(name, held, same)
    return state


def state_at(segment: segments.Segment, offset: int | None = None) -> LedgerState:
    """The state behind the last record that ends at or before `offset`; without one, at the segment's end."""
    state = restored(segment.snapshot)
    for kind, payload, end in segment.records:
        if offset is None or end <= offset:
            state.replay(kind, payload)
    return state


def digests_at_end(segment: segments.Segment) -> dict[str, str]:
    """Symbol → digest behind the segment's last record, without what else the segment says."""
    held = segment.snapshot["symbols"]
    state = LedgerState(Interval(**segment.snapshot["interval"]), tuple(held), [])
    for name, its in held.items():
        state.resume(name, {**its, "runs": []}, {})
    for kind, payload, _ in segment.records:
        if kind == segments.ROWS:
            state.note(segments.rows_of(payload)[0])
    return {name: state.digest(s) for s, name in enumerate(held)}
