"""Hypothesis strategies: bars, panels and predictions, the ordinary and the strange. Needs the extra ``sdk``."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from alpha_forge.contracts.types import Bar, Prediction
from alpha_forge_sdk.testing.bars import made_bars

Panel = dict[str, npt.NDArray[np.float64]]

HOUR = 3_600_000_000_000
_FIRST = dt.datetime(2010, 1, 1)
_LAST = dt.datetime(2100, 1, 1)

prices = st.floats(1e-8, 1e8, allow_nan=False, allow_infinity=False)
"""Prices from a dead coin's to a share of Berkshire."""

symbols = st.one_of(
    st.from_regex(r"[A-Z0-9]{2,10}USDT", fullmatch=True),
    # Exchanges list what people laugh about; a destination must not.
    st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20),
)
"""Symbols: mostly as exchanges write them, some as they shouldn't."""


@st.composite
def bars(draw: st.DrawFn, ts: st.SearchStrategy[int] | None = None) -> Bar:
    """One possible bar: ``low <= open, close <= high``, all positive, volume from nothing up."""
    one, other = draw(prices), draw(prices)
    up = draw(st.floats(1.0, 1.5))
    down = draw(st.floats(0.5, 1.0))
    close = draw(ts if ts is not None else st.integers(1, 2**60 // HOUR).map(lambda n: n * HOUR))
    volume = draw(st.floats(0, 1e12, allow_nan=False))
    return Bar(close, one, max(one, other) * up, min(one, other) * down, other, volume)


@st.composite
def panels(
    draw: st.DrawFn,
    *,
    min_bars: int = 1,
    max_bars: int = 200,
    min_symbols: int = 1,
    max_symbols: int = 5,
    holes: bool = False,
) -> Panel:
    """Columns of bars as features see them: (bars, symbols) float64 by name, positive and varying.

    With `holes`, whole bars of a symbol may be absent (NaN in every column). Shrinks towards fewer bars and symbols.
    """
    count = draw(st.integers(min_bars, max_bars))
    width = draw(st.integers(min_symbols, max_symbols))
    made: Panel = made_bars(count, width, draw(st.integers(0, 2**32 - 1)))
    if holes and count:
        absent = draw(
            st.lists(
                st.tuples(st.integers(0, count - 1), st.integers(0, width - 1)), max_size=10, unique=True
            )
        )
        for row, symbol in absent:
            for values in made.values():
                values[row, symbol] = np.nan
    return made


def values(*, finite: bool = False) -> st.SearchStrategy[float]:
    """Predicted values: any float64; with `finite`, neither NaN nor an infinity."""
    return st.floats(allow_nan=not finite, allow_infinity=not finite)


@st.composite
def predictions(
    draw: st.DrawFn, *, finite: bool = False, metadata: dict[str, Any] | None = None
) -> Prediction:
    """One record as sinks get it: a close to the microsecond, any symbol, the three keys of metadata."""
    ts = draw(st.datetimes(_FIRST, _LAST, timezones=st.just(dt.UTC)))
    told = metadata or {
        "frame": "ohlcv",
        "column": draw(st.sampled_from(("prediction", "Vorhersage"))),
        "dag_name": "test",
    }
    return Prediction(draw(symbols), ts, draw(values(finite=finite)), told)


def batches(*, max_size: int = 50, finite: bool = False) -> st.SearchStrategy[list[Prediction]]:
    """Batches of records with different keys (symbol, ts), in any order."""
    return st.lists(predictions(finite=finite), max_size=max_size, unique_by=lambda p: (p.symbol, p.ts))
