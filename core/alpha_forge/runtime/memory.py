"""Memory observer: the resident set, seen every hundred events."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

log = logging.getLogger("alpha_forge.memory")

EVERY = 100


def resident_bytes() -> int:
    """Resident memory of this process in bytes; its peak where the system tells nothing better."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class MemoryObserver:
    """Logs the resident set every `EVERY` events and keeps its newest and largest value."""

    def __init__(self) -> None:
        self.events = 0
        self.newest = 0
        self.largest = 0

    def observe(self, events: int) -> None:
        """Note that `events` more have been processed."""
        before = self.events // EVERY
        self.events += events
        if self.events // EVERY != before:
            self.newest = resident_bytes()
            self.largest = max(self.largest, self.newest)
            log.info("memory: %.1f MiB resident after %d events", self.newest / 2**20, self.events)
