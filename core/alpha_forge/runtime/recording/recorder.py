"""Recorder: writes what the engine is given and what it answers, as it happens."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alpha_forge.plan.graph import EventFlowDAG
from alpha_forge.runtime.recording.blocks import MAGIC, Item, encode, pack_items, pack_rows
from alpha_forge.runtime.results import PredictedRow

log = logging.getLogger("alpha_forge.record")

Int = npt.NDArray[np.int64]

SEGMENT = 128 << 20
"""Bytes after which a new segment begins."""
LIMIT = 2 << 30
"""Bytes that all segments may have together; beyond it the oldest go."""


class Recorder:
    """The engine's journal. Segments: ``FILE`` is the newest, ``FILE.000001`` … are older ones.

    Each segment can be verified by itself: it begins with the bars that a start needs. Called on the compute thread,
    before the predictions leave. A disk that fails ends the recording, not the run.
    """

    def __init__(
        self,
        path: Path,
        dag: EventFlowDAG,
        head: Mapping[str, Any],
        *,
        segment: int = SEGMENT,
        limit: int = LIMIT,
    ) -> None:
        """Begin a recording; an older one of that name is replaced. Raises OSError if the file can't be written."""
        self._path = path
        self._dag = dag
        self._head = dict(head)
        self._segment = segment
        self._limit = limit
        self._number = 0
        self._recent: dict[str, deque[Item]] = {n.frame: deque() for n in dag.data_nodes()}
        self._closed: dict[str, Int] = {}
        self._cut: dict[str, Any] | None = None
        self.failed = ""
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in segments(path):
            old.unlink()
        self._file = path.open("wb")
        self._size = 0
        self._open_segment()

    def begin(self, known: Mapping[str, Int]) -> None:
        """The engine's `begin`."""
        self._closed = {name: np.asarray(rows) - 1 for name, rows in known.items()}
        self._write({"kind": "begin", "known": {n: r.astype("<i8").tobytes() for n, r in known.items()}})

    def cut(self, cutoff: Mapping[str, int], cutoffs: Mapping[tuple[str, str], Int]) -> None:
        """The engine's `emit_after`."""
        finer = [[f, c, ts.astype("<i8").tobytes()] for (f, c), ts in cutoffs.items()]
        self._cut = {"kind": "cut", "cutoff": dict(cutoff), "finer": finer}
        self._write(self._cut)

    def warmed(self, items: Sequence[Item]) -> None:
        """Bars of the past."""
        if items:
            self._note(items)
            self._write({"kind": "warm", "bars": pack_items(items)})

    def processed(self, items: Sequence[Item], rows: Sequence[PredictedRow]) -> None:
        """Bars, and what was predicted of them."""
        self._note(items)
        self._write({"kind": "bars", "bars": pack_items(items), "rows": pack_rows(rows)})
        if self._size > self._segment:
            self._turn()

    def close(self) -> None:
        """End the recording. Idempotent."""
        if self._file.closed:
            return
        self._write({"kind": "end"})
        self._end_segment()

    def _note(self, items: Sequence[Item]) -> None:
        for frame, batch in items:
            grid, recent, closed = self._dag.frames[frame].interval, self._recent[frame], self._closed[frame]
            recent.append((frame, batch))
            closed[batch.symbols] = closed[batch.absent] = grid.row(batch.ts)
            first = self._first(frame)
            while grid.row(recent[0][1].ts) < first:
                recent.popleft()

    def _turn(self) -> None:
        """A new segment, which begins with the bars that the newest ones need."""
        self._write({"kind": "turn"})
        self._end_segment()
        try:
            self._number += 1
            self._path.rename(_numbered(self._path, self._number))
            self._file = self._path.open("wb")
            self._open_segment()
        except OSError as error:
            self._fail(error)
            return
        known, items = self._start()
        self._write({"kind": "begin", "known": {n: r.astype("<i8").tobytes() for n, r in known.items()}})
        self._write({"kind": "warm", "bars": pack_items(items)})
        if self._cut is not None:
            self._write(self._cut)
        self._drop_oldest()

    def _first(self, frame: str) -> int:
        """The oldest row that a start from here would need."""
        return int(self._closed[frame].min()) - self._dag.warmup[frame].fetch + 1

    def _start(self) -> tuple[dict[str, Int], list[Item]]:
        """From which rows on, and which bars, a new start needs to go on from here."""
        known, items = {}, []
        for frame, recent in self._recent.items():
            grid, first = self._dag.frames[frame].interval, self._first(frame)
            known[frame] = np.full(len(self._closed[frame]), first, dtype=np.int64)
            items += [item for item in recent if grid.row(item[1].ts) >= first]
        # Of each symbol in order; the order between frames is that of their closes.
        items.sort(key=lambda item: item[1].ts)
        return known, items

    def _open_segment(self) -> None:
        self._size = 0
        self._file.write(MAGIC)
        self._write({"kind": "head", "segment": self._number, **self._head})

    def _end_segment(self) -> None:
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            self._fail(error)

    def _write(self, block: dict[str, Any]) -> None:
        if self.failed or self._file.closed:
            return
        try:
            self._put(encode(block))
        except OSError as error:
            self._fail(error)

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()
        self._size += len(data)

    def _fail(self, error: OSError) -> None:
        self.failed = f"{type(error).__name__}: {error}"
        log.error("recording to %s ended: %s; the run goes on", self._path, self.failed)

    def _drop_oldest(self) -> None:
        older = segments(self._path)[:-1]
        total = sum(path.stat().st_size for path in older) + self._segment
        for path in older:
            if total <= self._limit:
                return
            total -= path.stat().st_size
            path.unlink()


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number:06d}")


def segments(path: Path) -> list[Path]:
    """The files of a recording that are there, oldest first."""
    older = sorted(p for p in path.parent.glob(f"{path.name}.[0-9][0-9][0-9][0-9][0-9][0-9]"))
    return [*older, *([path] if path.exists() else [])]
