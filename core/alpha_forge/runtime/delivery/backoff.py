"""Exponential back-off with full jitter."""

from __future__ import annotations

import random


class Backoff:
    """Delays that double from `first` to `cap` seconds, each drawn uniformly below its bound; success resets it."""

    def __init__(self, first: float = 0.2, cap: float = 60.0, seed: int | None = None) -> None:
        if not 0 < first <= cap:
            raise ValueError(f"need 0 < first <= cap, got {first} and {cap}")
        self._first = first
        self._cap = cap
        self._random = random.Random(seed)
        self.failures = 0

    def failed(self) -> float:
        """Note a failure; seconds to wait before the next try."""
        bound = min(self._cap, self._first * 2.0 ** min(self.failures, 60))
        self.failures += 1
        return self._random.uniform(0.0, bound)

    def reset(self) -> None:
        self.failures = 0
