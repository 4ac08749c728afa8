"""How things are timed: contenders take turns within one run, so that a busy machine hits all of them alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

Turn = Callable[[], float]
"""One turn of a contender: works, and returns the seconds that one unit of its work took."""


@contextmanager
def quiet() -> Iterator[None]:
    """No garbage collection inside: it would strike whoever is on turn."""
    was = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def per_unit(work: Callable[[], object], units: int) -> Turn:
    """A turn that runs `work` once, which does `units` units."""

    def turn() -> float:
        start = time.perf_counter()
        work()
        return (time.perf_counter() - start) / units

    return turn


def in_turn(contenders: Mapping[str, Turn], rounds: int, warm: int = 1) -> dict[str, list[float]]:
    """`rounds` samples of each, A B C, B C A, C A B …; `warm` rounds before them are thrown away."""
    names = list(contenders)
    samples: dict[str, list[float]] = {name: [] for name in names}
    with quiet():
        for number in range(-warm, rounds):
            for k in range(len(names)):
                name = names[(number + k) % len(names)]
                seconds = contenders[name]()
                if number >= 0:
                    samples[name].append(seconds)
    return samples


def median(samples: Sequence[float]) -> float:
    return statistics.median(samples)


def percentile(samples: Sequence[float], share: float) -> float:
    """The sample below which `share` (0 … 1) of them lie, the nearest one above it."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
