"""The gap-free certificate: for each frame and symbol, what the bars were, where they came from, and that none is
missing. JSON, versioned, with a digest of its own."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from alpha_forge.contracts.errors import UsageError
from alpha_forge.contracts.interval import iso as _iso
from alpha_forge.runtime.ledger.runs import BEFORE, LOST, PROVED, SKIPPED, Run
from alpha_forge.runtime.ledger.state import LedgerState
from alpha_forge.runtime.sequencer import Unsettled

FORMAT = "alpha_forge.certificate"
VERSION = 1

REASONS = {
    PROVED: "the exchange has none",
    SKIPPED: "the exchange has none",
    BEFORE: "before the symbol's first bar",
    LOST: "not accounted for",
}

iso = lru_cache(maxsize=16_384)(_iso)
"""Hundreds of symbols share their instants."""

LARGEST = 256 * 2**20
"""Bytes of a file that is read as a certificate; 500 symbols with every list full come to 60 MiB."""


def frame_section(
    state: LedgerState,
    unsettled: Sequence[Unsettled],
    position: tuple[int, int] | None,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """One frame's part. `facts` (its source, counts of the run) go in as they are."""
    behind: dict[int, list[Unsettled]] = {}
    for one in unsettled:
        behind.setdefault(one.symbol, []).append(one)
    symbols = {name: _symbol_section(state, s, behind.get(s, ())) for s, name in enumerate(state.symbols)}
    at = None if position is None else {"segment": position[0], "offset": position[1], "lost": state.lost}
    return {"interval": state.interval.name, **facts, "ledger": at, "symbols": symbols}


def _symbol_section(state: LedgerState, symbol: int, behind: Sequence[Unsettled]) -> dict[str, Any]:
    ts = state.interval.ts
    runs = state.runs.of(symbol)
    revisions = state.revisions[symbol]
    section: dict[str, Any] = {
        "first": iso(ts(runs[0].first)) if runs else None,
        "last": iso(ts(runs[-1].last)) if runs else None,
        "expected": sum(run.rows for run in runs),
        "bars": sum(run.rows for run in runs if not run.hole),
        "runs": [
            {**_range(state, run.first, run.last), "origin": state.origins[run.code]}
            for run in runs
            if not run.hole
        ],
        "holes": [_hole(state, run, bars=any(not r.hole for r in runs)) for run in runs if run.hole],
        "open": [{**_range(state, one.first, one.last), "held": one.held} for one in behind],
        "revisions": {"count": revisions.count, "late": revisions.late, "listed": revisions.listed},
        "doubled": int(state.runs.doubled[symbol]),
        "forgotten": int(state.runs.forgotten[symbol]),
        "digest": state.digest(symbol),
    }
    section["holds"] = not faults(section)
    return section


def _range(state: LedgerState, first: int, last: int) -> dict[str, Any]:
    return {
        "from": iso(state.interval.ts(first)),
        "to": iso(state.interval.ts(last)),
        "bars": last - first + 1,
    }


def _hole(state: LedgerState, run: Run, *, bars: bool) -> dict[str, Any]:
    """`bars`: whether there is any bar of the symbol."""
    proof = {
        PROVED: f"history silent, asked when the source had passed {iso(run.proof)}",
        SKIPPED: "history goes on after it",
        BEFORE: "history begins after it" if bars else "history has no bar of the symbol",
    }
    return {
        **_range(state, run.first, run.last),
        "reason": REASONS[run.code],
        "proven_by": proof.get(run.code),
    }


def faults(section: Mapping[str, Any]) -> list[str]:
    """Why the bars of a symbol are not all there, by what its section itself says; empty if they are."""
    found = [
        f"{hole['bars']} bar(s) {hole['from']} … {hole['to']} are not accounted for"
        for hole in section["holes"]
        if not hole["proven_by"]
    ]
    found += [
        f"{one['bars']} bar(s) {one['from']} … {one['to']} were still missing or waiting, {one['held']} held"
        for one in section["open"]
    ]
    if section["revisions"]["late"]:
        which = next(
            (r["ts"] for r in section["revisions"]["listed"] if r["processed"] is None), "one not listed"
        )
        count = section["revisions"]["late"]
        found.append(f"{count} bar(s) came after they had been certified absent, the first: {which}")
    if section["doubled"]:
        found.append(f"{section['doubled']} bar(s) were processed twice")
    return found


def certificate(
    name: str, created: int, reason: str, frames: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The whole, with its digest. `created` is an instant (ns) of the run's clock."""
    content: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "name": name,
        "created": iso(created),
        "reason": reason,
        "frames": frames,
        "totals": totals(frames),
        "holds": all(s["holds"] for frame in frames.values() for s in frame["symbols"].values()),
    }
    return {**content, "sha256": digest(content)}


def totals(frames: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Sums over all symbols of all frames."""
    every = [s for frame in frames.values() for s in frame["symbols"].values()]
    return {
        "symbols": len(every),
        "expected": sum(s["expected"] for s in every),
        "bars": sum(s["bars"] for s in every),
        "holes": sum(hole["bars"] for s in every for hole in s["holes"]),
        "open": sum(one["bars"] for s in every for one in s["open"]),
        "revisions": sum(s["revisions"]["count"] for s in every),
    }


def digest(content: Mapping[str, Any]) -> str:
    """sha256, hex, over the content without its own ``sha256``: JSON with sorted keys, no spaces, ASCII."""
    bare = {key: value for key, value in content.items() if key != "sha256"}
    text = json.dumps(bare, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Put it in place as a whole: a reader finds the last one or this one. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".tmp")
    with draft.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(_lines(content))
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def _lines(content: Mapping[str, Any]) -> Iterator[str]:
    """The content as JSON with a symbol a line: indented by the json module, it would take ten times as long."""
    yield "{\n"
    for key, value in content.items():
        if key != "frames":
            yield f' "{key}": {json.dumps(value, allow_nan=False)},\n'
    yield ' "frames": {'
    for number, (name, frame) in enumerate(content["frames"].items()):
        yield f"{',' if number else ''}\n  {json.dumps(name)}: {{\n"
        for key, value in frame.items():
            if key != "symbols":
                yield f'   "{key}": {json.dumps(value, allow_nan=False)},\n'
        sections = (f"{json.dumps(s)}: {json.dumps(v, allow_nan=False)}" for s, v in frame["symbols"].items())
        yield '   "symbols": {\n    ' + ",\n    ".join(sections) + "\n   }\n  }"
    yield "\n }\n}\n"


def read(path: Path) -> dict[str, Any]:
    """The certificate in a file, whatever it says.

    Raises UsageError: AF5060 if the file can't be read or is no certificate, AF5061 if a newer version wrote it.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise _no_certificate(path, f"it is larger than {LARGEST >> 20} MiB")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise _no_certificate(path, error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        raise _no_certificate(path, f"it is no JSON, or cut off: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise _no_certificate(path, f'its "format" is not "{FORMAT}"')
    version = content.get("version")
    if version != VERSION:
        raise UsageError(
            "AF5061",
            f"{path} is a certificate of version {version!r}; this is Alpha Forge for version {VERSION}",
            "use the version of Alpha Forge that wrote it, or a newer one",
        )
    return content


def _no_certificate(path: Path, cause: str) -> UsageError:
    return UsageError(
        "AF5060",
        f"{path} is no certificate of bars: {cause}",
        "name the NAME.certificate.json in a run's state directory",
    )
