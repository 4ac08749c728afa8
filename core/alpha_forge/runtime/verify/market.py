"""The bars of a recording, compared with those that the exchange really made."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from alpha_forge.contracts.types import BAR_COLUMNS
from alpha_forge.plan.graph import EventFlowDAG
from alpha_forge.runtime.verify.findings import Finding, Verdict
from alpha_forge.runtime.verify.recompute import InOrder
from alpha_forge.runtime.verify.values import Difference, same_bits

Float = npt.NDArray[np.float64]

MARKET = "the exchange's bars"

Truth = Callable[[str, int, int], Float]
"""(frame, first row, last row) → (5, rows, symbols), NaN where there is no bar."""


def check_market(dag: EventFlowDAG, ordered: InOrder, truth: Truth, verdict: Verdict) -> None:
    """Every bar of the exchange was processed once, with its values, and none besides: up to the last close at which
    every symbol's bar was in or certified absent."""
    verdict.checks.append(MARKET)
    for frame, history in ordered.histories.items():
        spec = dag.frames[frame]
        last = spec.interval.row(ordered.closed[frame])
        rows = last - history.first + 1
        mine, real = history.values[:, :rows], truth(frame, history.first, last)
        wrong = ~same_bits(np.ascontiguousarray(mine), np.ascontiguousarray(real))
        if not wrong.any():
            continue
        row, symbol, column = (int(i) for i in np.argwhere(wrong.transpose(1, 2, 0))[0])
        expected, got = (_known(bars[column, row, symbol]) for bars in (real, mine))
        difference = Difference(
            frame, BAR_COLUMNS[column], spec.interval.ts(history.first + row), symbol, expected, got
        )
        said = "at the exchange / in the recording"
        verdict.findings.append(
            Finding(MARKET, f"the bars of {frame}", difference, spec.symbols[symbol], said)
        )


def _known(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)
