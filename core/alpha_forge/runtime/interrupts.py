"""Ctrl-C while a run is being prepared."""

from __future__ import annotations

import signal
from types import FrameType


class Interrupts:
    """Ctrl-C before the event loop runs: raised as usual, and remembered.

    Python raises KeyboardInterrupt wherever it is. Where that is a callback of the collector or of the import system it
    is only printed, and the run would go on as if nobody had asked it to end.
    """

    def __init__(self) -> None:
        self.seen = False

    def __enter__(self) -> Interrupts:
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.seen = True
        raise KeyboardInterrupt

    def __exit__(self, *error: object) -> None:
        signal.signal(signal.SIGINT, self._before)
