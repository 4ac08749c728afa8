"""What a run over a `Market` must come to, and the comparison. Imports nothing of the product."""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.soak.campaign.market import Market

Bars = dict[int, tuple[float, ...]]


@dataclass
class Heard:
    """What a run processed: each bar and each certified absence, in order. ``first`` and ``anchor`` are closes (ns): of
    the first bar of the warm-up, and of the last before those that predict."""

    first: int = 0
    anchor: int = 0
    bars: list[tuple[str, int, tuple[float, ...]]] = field(default_factory=list)
    absent: list[tuple[str, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Truth:
    """The bars of every symbol from ``first`` to ``last`` (closes, ns), both included."""

    bars: Mapping[str, Bars]
    first: int
    last: int
    step: int

    cuts: tuple[int, ...] = ()
    """Closes at which a run has ended: what comes after is another segment of the ledger."""

    @classmethod
    def of(cls, market: Market, interval_ms: int, first: int, last: int) -> Truth:
        every = {name: market.bars(place, interval_ms) for place, name in enumerate(market.names)}
        bars = {
            name: {ts: its[ts] for ts in sorted(its) if first <= ts <= last} for name, its in every.items()
        }
        return cls(bars, first, last, interval_ms * 1_000_000)

    def holes(self, name: str) -> list[int]:
        """Closes of the grid without a bar."""
        return [ts for ts in range(self.first, self.last + 1, self.step) if ts not in self.bars[name]]


def compare_bars(heard: Heard, truth: Truth) -> list[str]:
    """Every bar of the truth exactly once, in order, to the bit, none invented; every hole told once."""
    problems = [*compare_order(heard, truth)]
    for name, ts, values in heard.bars:
        its = truth.bars[name].get(ts)
        if its is None:
            problems.append(f"{name} {told(ts)}: a bar that the exchange never made: {values}")
        elif its != values:
            problems.append(f"{name} {told(ts)}: {values}, the exchange has {its}")
    return problems


def compare_order(heard: Heard, truth: Truth) -> list[str]:
    """As `compare_bars`, whatever the values."""
    problems = []
    newest: dict[str, int] = {}
    for name, ts, _ in heard.bars:
        if ts <= newest.get(name, 0):
            problems.append(f"{name} {told(ts)} came after {told(newest[name])}")
        newest[name] = max(ts, newest.get(name, 0))
    seen = {(name, ts) for name, ts, _ in heard.bars}
    want = {(name, ts) for name, its in truth.bars.items() for ts in its}
    problems += _sets("bars", seen, want)
    holes = {(name, ts) for name in truth.bars for ts in truth.holes(name)}
    problems += _sets("absences", set(heard.absent), holes)
    if len(heard.absent) != len(set(heard.absent)):
        problems.append("an absence is told twice")
    return problems


def _sets(what: str, got: set[tuple[str, int]], want: set[tuple[str, int]]) -> list[str]:
    found = []
    for relation, some in (("missing", want - got), ("too many", got - want)):
        if some:
            name, ts = min(some, key=lambda item: (item[1], item[0]))
            found.append(f"{len(some)} {what} {relation}, the first: {name} {told(ts)}")
    return found


def compare_certificate(content: Mapping[str, Any], frame: str, truth: Truth) -> list[str]:
    """Range, holes, counts, origins and digest of each symbol, from the truth alone."""
    problems = [] if content["holds"] else ["the certificate does not hold"]
    sections = content["frames"][frame]["symbols"]
    if set(sections) != set(truth.bars):
        problems.append(f"the certificate has {sorted(sections)}")
    for name, section in sections.items():
        its = truth.bars[name]
        says = {key: section[key] for key in ("first", "last", "expected", "bars", "open", "doubled")}
        want = {
            "first": told(truth.first),
            "last": told(truth.last),
            "expected": (truth.last - truth.first) // truth.step + 1,
            "bars": len(its),
            "open": [],
            "doubled": 0,
        }
        if says != want:
            problems.append(f"certificate, {name}: {says}, expected {want}")
        holes = [ts for hole in section["holes"] for ts in _closes(hole, truth.step)]
        if holes != truth.holes(name):
            problems.append(
                f"certificate, {name}: {len(holes)} bars in holes, the market has {len(truth.holes(name))}"
            )
        told_bars = [ts for run in section["runs"] for ts in _closes(run, truth.step)]
        if told_bars != sorted(its):
            problems.append(f"certificate, {name}: its runs have {len(told_bars)} bars of {len(its)}")
        unproved = [hole for hole in section["holes"] if not hole["proven_by"]]
        if unproved:
            problems.append(f"certificate, {name}: not proved: {unproved}")
        if section["digest"] != digest(its, truth.cuts):
            problems.append(f"certificate, {name}: the digest is not that of the market's bars")
    return problems


def _closes(stretch: Mapping[str, Any], step: int) -> Iterable[int]:
    return range(instant(stretch["from"]), instant(stretch["to"]) + 1, step)


def digest(bars: Bars, cuts: Iterable[int] = ()) -> str:
    """The certificate's digest, as docs/howto/certificate.md and the ledger's own docstrings tell it: SHA-256 over the
    digest that the segment before ended with (32 zero bytes before the first one) and, bar by bar, the close and the
    bar's BLAKE2b of eight bytes. A segment without a bar of the symbol changes nothing."""
    ended = bytes(32)
    ends = [*cuts, max(bars, default=0)]
    for after, end in zip([0, *cuts], ends, strict=True):
        whole = hashlib.sha256(ended)
        inside = {ts: values for ts, values in bars.items() if after < ts <= end}
        for ts, values in inside.items():
            hashed = hashlib.blake2b(struct.pack("<q5d", ts, *values), digest_size=8).digest()
            whole.update(struct.pack("<q", ts) + hashed)
        ended = whole.digest() if inside else ended
    return ended.hex()


def momentum(bars: Bars, window: int) -> Bars:
    """Close → (close / close `window` bars before − 1,), over the bars that exist."""
    closes = np.array([values[3] for values in bars.values()])
    found = (closes[window:] - closes[:-window]) / closes[:-window]
    return dict(zip(list(bars)[window:], ((value,) for value in found.tolist()), strict=True))


def predicted(truth: Truth, anchor: int, window: int) -> dict[tuple[str, int], float]:
    """(symbol, close) → momentum, of each bar after `anchor` that has enough before it."""
    return {
        (name, ts): value
        for name, its in truth.bars.items()
        for ts, (value,) in momentum(its, window).items()
        if ts > anchor
    }


def compare_predictions(path: Path, want: Mapping[tuple[str, int], float]) -> list[str]:
    """The rows of a CSV sink: each of those wanted once, and no other."""
    got: dict[tuple[str, int], float] = {}
    problems = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                key = row["symbol"], instant(row["ts"])
                if key in got:
                    problems.append(f"{key[0]} {row['ts']}: two predictions")
                got[key] = float(row["prediction"])
    problems += _sets("predictions", set(got), set(want))
    for key in got.keys() & want.keys():
        if abs(got[key] - want[key]) > 1e-12 * max(1.0, abs(want[key])):
            problems.append(f"{key[0]} {told(key[1])}: predicted {got[key]}, numpy says {want[key]}")
    return problems


def told(ts: int) -> str:
    """ns since the epoch as the certificate writes it."""
    return str(np.datetime64(ts, "ns").astype("datetime64[s]")) + "Z"


def instant(text: str) -> int:
    """ISO 8601 → ns since the epoch."""
    moment = dt.datetime.fromisoformat(text)
    return round(moment.timestamp()) * 1_000_000_000


def read_certificate(path: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
