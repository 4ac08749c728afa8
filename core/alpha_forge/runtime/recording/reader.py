"""Reading a recording: one `Segment` a file, each with everything that a start needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alpha_forge.contracts.errors import UsageError
from alpha_forge.runtime.recording.blocks import FAMILY, Item, decode, unpack_items, unpack_rows
from alpha_forge.runtime.recording.recorder import segments
from alpha_forge.runtime.results import PredictedRow

Int = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Call:
    """What the engine was given at once: bars of the past (``rows`` is None), or bars and what they predicted."""

    items: list[Item]
    rows: list[PredictedRow] | None


@dataclass(frozen=True, slots=True)
class Cut:
    """Which closes predict from here on; see `Engine.emit_after`."""

    cutoff: dict[str, int]
    finer: dict[tuple[str, str], Int]


@dataclass(slots=True)
class Segment:
    """One file of a recording. ``ended`` is False where the run, or the machine, was cut off."""

    path: Path
    head: dict[str, Any]
    known: dict[str, Int] = field(default_factory=dict)
    events: list[Call | Cut] = field(default_factory=list)
    ended: bool = False

    def calls(self) -> Iterator[Call]:
        return (event for event in self.events if isinstance(event, Call))

    def predicted(self) -> list[PredictedRow]:
        """Everything that was predicted, in order."""
        return [row for call in self.calls() for row in call.rows or ()]


def is_recording(path: Path) -> bool:
    """True if the file begins like a recording, of whatever version."""
    try:
        with path.open("rb") as file:
            return file.read(len(FAMILY)) == FAMILY
    except OSError:
        return False


def read(path: Path) -> Iterator[Segment]:
    """The segments of a recording, oldest first. Raises UsageError for what is damaged or no recording."""
    for part in segments(path):
        segment: Segment | None = None
        with part.open("rb") as file:
            for block in decode(file, part):
                if segment is None:
                    if block.get("kind") != "head":
                        break
                    segment = Segment(part, block)
                else:
                    _take(segment, block)
        if segment is None:
            raise UsageError(
                "AF8113", f"{part} was cut off before its first bar", "there is nothing in it to verify"
            )
        yield segment


def _take(segment: Segment, block: dict[str, Any]) -> None:
    kind = block["kind"]
    if kind == "begin":
        segment.known = {n: np.frombuffer(r, dtype="<i8").copy() for n, r in block["known"].items()}
    elif kind == "cut":
        finer = {(f, c): np.frombuffer(ts, dtype="<i8").copy() for f, c, ts in block["finer"]}
        segment.events.append(Cut(block["cutoff"], finer))
    elif kind == "warm":
        segment.events.append(Call(unpack_items(block["bars"]), None))
    elif kind == "bars":
        segment.events.append(Call(unpack_items(block["bars"]), unpack_rows(block["rows"])))
    elif kind in ("end", "turn"):
        segment.ended = True
