"""The transform `transforms.{{ cookiecutter.name }}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from alpha_forge_sdk import BAR_COLUMNS, Interval, Transform, kernels
from alpha_forge_sdk import Params as BaseParams
from pydantic import Field

Array = npt.NDArray[Any]


class {{ cookiecutter.__class }}(Transform):
    """{{ cookiecutter.description }}

    The open of the oldest of `bars` bars, the highest high, the lowest low, the close of the newest, and the
    summed volume; at the newest one's ts. A symbol that lacks one of those bars has none there.
    """

    class Params(BaseParams):
        """What a configuration can set."""

        bars: int = Field(4, ge=1, le=10_000, description="bars that are merged into one")

    examples = ({"bars": 4}, {"bars": 2})

    def __init__(self, params: Params) -> None:
        """Only remembers the parameters."""
        super().__init__(params)
        self._interval: Interval | None = None

    def output_interval(self, interval: Interval) -> Interval:
        """The input's: a row of the output for each of the input. Called before `lookback` and `apply`."""
        self._interval = interval
        return interval

    def lookback(self) -> int:
        """Rows of the input that one row of the output needs, the current one included."""
        return int(self.params.bars)

    def apply(
        self, ts: Array, columns: Mapping[str, Array], *others: tuple[Array, Mapping[str, Array]]
    ) -> tuple[Array, dict[str, Array]]:
        """(bars,) int64 closes in ns and {name: (bars, symbols)} → the same, for rows in which a symbol has a bar."""
        if self._interval is None:
            raise RuntimeError("transforms.{{ cookiecutter.name }} was not told its interval: call output_interval first")
        bars, count = self.params.bars, len(ts)
        oldest = slice(0, max(0, count - bars + 1))
        opens, follows = np.full_like(columns["open"], np.nan), np.zeros(count, dtype=bool)
        opens[bars - 1 :] = columns["open"][oldest]
        # Rows that no symbol has a bar in are not handed over: without a gap, `bars` rows span so much time.
        follows[bars - 1 :] = ts[bars - 1 :] - ts[oldest] == (bars - 1) * self._interval.ns
        merged = {
            "open": opens,
            "high": np.asarray(kernels.rolling_max(columns["high"], bars)),
            "low": np.asarray(kernels.rolling_min(columns["low"], bars)),
            "close": columns["close"],
            "volume": np.asarray(kernels.rolling_sum(columns["volume"], bars)),
        }
        whole = follows[:, None] & ~np.isnan(np.stack(list(merged.values()))).any(axis=0)
        rows = whole.any(axis=1)
        return ts[rows], {name: np.where(whole, merged[name], np.nan)[rows] for name in BAR_COLUMNS}
