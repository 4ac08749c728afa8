"""ProcessedEventTracker: no bar triggers a flow twice."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from alpha_forge.plan.graph import FrameSpec

Int = npt.NDArray[np.int64]

OLDEST = np.iinfo(np.int64).min


class ProcessedEventTracker:
    """The newest close of each (event id, symbol) that has been processed.

    Bars of a symbol come in order, so one number a symbol says it for all before: bounded for ever.
    """

    def __init__(self, frames: Iterable[FrameSpec]) -> None:
        self._newest: dict[str, Int] = {}
        for frame in frames:
            self._newest[frame.event] = np.full(len(frame.symbols), OLDEST, dtype=np.int64)
        self._latest = dict.fromkeys(self._newest, OLDEST)
        """Of each event the newest close of all: what is newer is new for everybody."""

    def unseen(self, event: str, ts: int, symbols: Int) -> Int:
        """Those of `symbols` that this event at `ts` has not been processed for; marks them processed."""
        newest = self._newest[event]
        if ts > self._latest[event]:
            self._latest[event] = ts
            newest[symbols] = ts
            return symbols
        fresh = newest[symbols] < ts
        if not fresh.all():
            symbols = symbols[fresh]
        newest[symbols] = ts
        return symbols
