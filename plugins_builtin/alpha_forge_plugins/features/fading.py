"""How long an average that fades remembers its start."""

from __future__ import annotations

import math
from collections.abc import Iterator

MISFIT = 8.0
"""How far off a seed may be, in units of what it seeds.

The mean of few bars, after a calm or a storm, can miss a column that swings (a true range, a difference of
averages) by a multiple of its usual size: up to 5 were met over series with fat tails and clustered
volatility.
"""


def bars_to_fade(decay: float, epsilon: float, misfit: float = 1.0) -> int:
    """Smallest k with ``misfit * decay ** k <= epsilon``: bars until a start weighs no more than `epsilon`.

    ``decay`` is the share of an average that one bar leaves of it, in [0, 1). ValueError for an epsilon
    outside (0, 1).
    """
    check_epsilon(epsilon)
    return 0 if decay == 0.0 else math.ceil(math.log(epsilon / misfit) / math.log(decay))


def bars_until(epsilon: float, weights: Iterator[float], misfit: float = 1.0) -> int:
    """Position of the first of `weights` (one a bar, fading) that times `misfit` is not above `epsilon`."""
    check_epsilon(epsilon)
    return next(k for k, weight in enumerate(weights) if misfit * weight <= epsilon)


def check_epsilon(epsilon: float) -> None:
    """Raise ValueError for an epsilon outside (0, 1)."""
    if not 0.0 < epsilon < 1.0:
        raise ValueError(f"epsilon must be between 0 and 1, got {epsilon!r}; for example 1e-9")
