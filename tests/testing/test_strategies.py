"""What the strategies draw is what they promise."""

from __future__ import annotations

import datetime as dt
import math

import numpy as np
from hypothesis import given, settings

from alpha_forge.contracts.types import Bar, Prediction
from alpha_forge_sdk.testing import strategies

few = settings(max_examples=50, deadline=None)


@few
@given(strategies.bars())
def test_bars_are_possible(bar: Bar) -> None:
    assert 0 < bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high
    assert bar.volume >= 0
    assert bar.ts % strategies.HOUR == 0


@few
@given(strategies.panels(min_bars=3, max_bars=20, holes=True))
def test_panels_are_columns_of_one_shape_whose_holes_are_whole_bars(panel: strategies.Panel) -> None:
    shapes = {values.shape for values in panel.values()}
    assert len(shapes) == 1
    assert 3 <= shapes.pop()[0] <= 20
    holes = [np.isnan(values) for values in panel.values()]
    assert all((hole == holes[0]).all() for hole in holes)
    assert (panel["close"][~holes[0]] > 0).all()


@few
@given(strategies.batches(finite=True))
def test_batches_hold_each_key_once(batch: list[Prediction]) -> None:
    assert len({(p.symbol, p.ts) for p in batch}) == len(batch)
    for prediction in batch:
        assert prediction.ts.tzinfo is dt.UTC
        assert math.isfinite(prediction.value)
        assert set(prediction.metadata) == {"frame", "column", "dag_name"}
        prediction.symbol.encode("utf-8")
