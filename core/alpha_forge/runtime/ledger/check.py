"""Checks a certificate: that nobody edited it, that its arithmetic closes, and that the ledger says the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from alpha_forge.contracts.errors import UsageError
from alpha_forge.contracts.interval import NS, Interval, iso
from alpha_forge.runtime.ledger import certificate as certificates
from alpha_forge.runtime.ledger import segments
from alpha_forge.runtime.ledger.segments import Segment
from alpha_forge.runtime.ledger.state import digests_at_end, state_at

COMPARED = ("first", "last", "expected", "bars", "runs", "holes", "doubled", "digest")
"""Of a symbol's section: what the ledger must say too."""


@dataclass(slots=True)
class Findings:
    """What a check came to: it holds if there are no ``problems``; ``notes`` are worth knowing."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.problems


def check(content: Mapping[str, Any], ledger: Path | None = None) -> Findings:
    """Check what `certificate.read` returned, against the ledger in the folder `ledger` if there is one.

    Each problem names the frame and symbol that it is about. Raises UsageError AF5061 for a ledger that a newer
    version wrote.
    """
    found = Findings()
    if content.get("sha256") != certificates.digest(content):
        found.problems.append("its digest does not fit its content: it was edited, or damaged")
    try:
        for name, frame in content["frames"].items():
            interval = Interval.parse(frame["interval"])
            for symbol, section in frame["symbols"].items():
                where = f"{name} {symbol}"
                found.problems += [f"{where}: {text}" for text in _arithmetic(section, interval)]
                found.problems += [f"{where}: {text}" for text in certificates.faults(section)]
        _check_whole(content, found)
        if ledger is None:
            found.notes.append("there is no ledger to compare with")
        else:
            for name, frame in content["frames"].items():
                _check_ledger(found, name, frame, ledger / f"{name}-{frame['interval']}")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        found.problems.append(f"it is not complete: {type(error).__name__}: {error}")
    return found


def _check_whole(content: Mapping[str, Any], found: Findings) -> None:
    if content["totals"] != certificates.totals(content["frames"]):
        found.problems.append("its totals are not the sums of its symbols")
    sections = [s for frame in content["frames"].values() for s in frame["symbols"].values()]
    if content["holds"] != all(s["holds"] for s in sections):
        found.problems.append(f'it says "holds": {content["holds"]}, its symbols say otherwise')


def _arithmetic(section: Mapping[str, Any], interval: Interval) -> Iterator[str]:
    """Runs and holes tile first … last on the grid exactly, and the counts are theirs."""
    pieces = sorted(
        [
            (_row(p["from"], interval), _row(p["to"], interval), p["bars"])
            for p in (*section["runs"], *section["holes"])
        ]
    )
    for first, last, bars in pieces:
        if bars != last - first + 1 or bars < 1:
            yield f"{_span(first, last, interval)} holds {last - first + 1} bar(s), it says {bars}"
    for (_, before, _), (after, _, _) in pairwise(pieces):
        if after > before + 1:
            yield f"{_span(before + 1, after - 1, interval)} is in no run and no hole"
        elif after <= before:
            yield f"{_span(after, before, interval)} is in two runs or holes"
    ends = (iso(interval.ts(pieces[0][0])), iso(interval.ts(pieces[-1][1]))) if pieces else (None, None)
    if (section["first"], section["last"]) != ends:
        yield f"it says {section['first']} … {section['last']}, its runs and holes reach from {ends[0]} to {ends[1]}"
    if section["bars"] != sum(run["bars"] for run in section["runs"]):
        yield f"it says {section['bars']} bars, its runs have {sum(run['bars'] for run in section['runs'])}"
    expected = pieces[-1][1] - pieces[0][0] + 1 if pieces else 0
    if section["expected"] != expected:
        yield f"it says {section['expected']} bars are expected, its range has {expected}"
    if len(section["revisions"]["listed"]) > section["revisions"]["count"]:
        yield "it lists more revisions than it counts"
    if section["holds"] != (not certificates.faults(section)):
        yield f'it says "holds": {section["holds"]}, what it lists says otherwise'


def _row(text: str, interval: Interval) -> int:
    moment = datetime.fromisoformat(text)
    ts = int(moment.timestamp()) * NS + moment.microsecond * 1000
    if not interval.on_grid(ts):
        raise ValueError(f"{text} is no close of {interval}")
    return interval.row(ts)


def _span(first: int, last: int, interval: Interval) -> str:
    start = iso(interval.ts(first))
    return start if first == last else f"{start} … {iso(interval.ts(last))}"


def _check_ledger(found: Findings, name: str, frame: Mapping[str, Any], folder: Path) -> None:
    at = frame["ledger"]
    if at is None:
        found.notes.append(f"{name}: the run kept no ledger, or its disk was full; nothing to compare with")
        return
    before: _End | None = None
    seen = False
    for path in segments.segment_paths(folder):
        try:
            segment = segments.read_segment(path)  # one at a time: a year of them would not fit
        except UsageError as error:
            if error.code == "AF5061":
                raise
            found.problems.append(f"{name}: {error.message}")
            before = None
            continue
        if before is not None:
            _check_chain(found, name, before, segment)
        if segment.number == at["segment"]:
            seen = True
            _check_segment(found, name, frame, segment)
        before = _End(segment)
    if not seen:
        found.problems.append(
            f"{name}: {folder} has no segment {at['segment']}, where the certificate was made"
        )
    if at["lost"]:
        found.notes.append(
            f"{name}: {at['lost']} record(s) were lost to a full disk; the ledger says so itself"
        )


def _check_segment(found: Findings, name: str, frame: Mapping[str, Any], segment: Segment) -> None:
    offset = frame["ledger"]["offset"]
    ends = [segment.start, *(end for _, _, end in segment.records)]
    if offset in ends:
        _compare(found, name, frame, segment, offset)
    else:
        text = (
            "can be read up to byte"
            if offset > ends[-1]
            else "has no record that ends at the place; it ends at"
        )
        found.problems.append(
            f"{name}: {segment.path} {text} {ends[-1]}; the certificate was made at {offset}"
        )


class _End:
    """What a segment says at its end: the one after it must begin there."""

    def __init__(self, segment: Segment) -> None:
        self.number, self.lost = segment.number, segment.snapshot["lost"]
        self.digests = digests_at_end(segment)


def _compare(found: Findings, name: str, frame: Mapping[str, Any], segment: Segment, offset: int) -> None:
    state = state_at(segment, offset)
    told = certificates.frame_section(state, (), None, {})["symbols"]
    for symbol, section in frame["symbols"].items():
        if symbol not in told:
            found.problems.append(f"{name} {symbol}: the ledger does not know it")
            continue
        for key in COMPARED:
            if section[key] != told[symbol][key]:
                found.problems.append(f"{name} {symbol}: {_difference(key, section[key], told[symbol][key])}")


def _difference(key: str, said: Any, ledger: Any) -> str:
    if key == "digest":
        return "the content hashes of its bars are not those of the ledger"
    if isinstance(said, list):
        for ours, theirs in zip(said, ledger, strict=False):
            if ours != theirs:
                return f"{key}: it says {ours}, the ledger {theirs}"
        return f"{key}: it lists {len(said)}, the ledger has {len(ledger)}"
    return f"{key}: it says {said}, the ledger {ledger}"


def _check_chain(found: Findings, name: str, before: _End, after: Segment) -> None:
    """A segment begins with the digests that the one before it ended with."""
    if after.number != before.number + 1:
        found.problems.append(
            f"{name}: segments {before.number + 1} … {after.number - 1} of the ledger are missing"
        )
    elif after.snapshot["lost"] == before.lost:
        found.problems += [
            f"{name} {symbol}: segment {after.number} of the ledger does not begin where {before.number} ends"
            for symbol, held in after.snapshot["symbols"].items()
            if symbol in before.digests and held["digest"] != before.digests[symbol]
        ]
