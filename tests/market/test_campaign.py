"""Twenty runs of the campaign of `tests.soak`: client and runtime against a hostile exchange, bar for bar."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.soak.campaign.__main__ import told
from tests.soak.campaign.expected import (
    Heard,
    Truth,
    compare_bars,
    compare_predictions,
    digest,
    predicted,
)
from tests.soak.campaign.expected import told as told_at
from tests.soak.campaign.market import Holes, Market, make, write
from tests.soak.campaign.running import execute
from tests.soak.campaign.scenario import draw

WIDE = 24
"""A seed with more than a hundred symbols."""


@pytest.mark.parametrize("seed", [*range(19), WIDE])
def test_every_bar_once_in_order_and_none_invented(seed: int) -> None:
    scenario = draw(seed)
    assert (scenario.symbols > 100) == (seed == WIDE)
    outcome = execute(scenario)
    assert not outcome.problems, told(outcome)
    assert outcome.streamed > 0


def small() -> tuple[Market, Truth, Heard]:
    market = make(np.random.default_rng(5), 3, 1_735_689_600_000, 60_000, (40, 20, 0), Holes(1, 1, 0.05))
    first = (market.first_ms + 60_000) * 1_000_000
    truth = Truth.of(market, 60_000, first, first + 59 * 60 * 10**9)
    rows = sorted((ts, name) for name, its in truth.bars.items() for ts in its)
    bars = [(name, ts, truth.bars[name][ts]) for ts, name in rows]
    return (
        market,
        truth,
        Heard(first, 0, bars, [(name, ts) for name in truth.bars for ts in truth.holes(name)]),
    )


def test_what_is_heard_as_it_was_fits() -> None:
    _, truth, heard = small()
    assert heard.absent
    assert compare_bars(heard, truth) == []


@pytest.mark.parametrize(
    ("harm", "told_as"),
    [
        (lambda h: h.bars.pop(17), "1 bars missing"),
        (lambda h: h.bars.append(h.bars[17]), "came after"),
        (lambda h: h.bars.insert(18, h.bars[17]), "came after"),
        (lambda h: h.bars.insert(0, h.bars.pop(17)), "came after"),
        (lambda h: h.bars.append((*h.absent[0], (1.0,) * 5)), "never made"),
        (lambda h: h.bars.__setitem__(17, (*h.bars[17][:2], other(h.bars[17][2]))), "the exchange has"),
        (lambda h: h.absent.pop(), "1 absences missing"),
        (lambda h: h.absent.append(h.bars[17][:2]), "1 absences too many"),
        (lambda h: h.absent.append(h.absent[0]), "told twice"),
    ],
)
def test_each_way_to_be_wrong_is_told(harm: Callable[[Heard], object], told_as: str) -> None:
    _, truth, heard = small()
    harm(heard)
    assert told_as in "\n".join(compare_bars(heard, truth))


def other(values: tuple[float, ...]) -> tuple[float, ...]:
    """The last bit of the last value."""
    return (*values[:-1], math.nextafter(values[-1], math.inf))


def test_a_digest_depends_on_every_bit_and_on_the_order_of_segments() -> None:
    _, truth, _ = small()
    bars = next(iter(truth.bars.values()))
    keys = list(bars)
    assert digest(bars) != digest({**bars, keys[3]: other(bars[keys[3]])})
    assert digest(bars) != digest({ts: bars[ts] for ts in keys[:-1]})
    assert digest(bars) != digest(bars, [keys[10]])
    assert digest({}) == "00" * 32


def test_predictions_that_are_off_missing_or_doubled_are_told(tmp_path: Path) -> None:
    _, truth, _ = small()
    want = predicted(truth, 0, 20)
    assert len(want) > 60
    lines = [f"{told_at(ts)},{name},{value!r}" for (name, ts), value in want.items()]
    path = tmp_path / "predictions.csv"

    def problems(rows: list[str]) -> str:
        path.write_text("\n".join(["ts,symbol,prediction", *rows]) + "\n")
        return "\n".join(compare_predictions(path, want))

    assert problems(lines) == ""
    assert "1 predictions missing" in problems(lines[1:])
    assert "two predictions" in problems([*lines, lines[0]])
    ts, name, value = lines[0].split(",")
    assert "numpy says" in problems([f"{ts},{name},{float(value) + 1e-9!r}", *lines[1:]])


def test_the_market_s_files_say_what_its_bars_are(tmp_path: Path) -> None:
    """By pandas, from the text: the truth and what is told to the exchange are one."""
    market, truth, _ = small()
    write(market, tmp_path, "csv")
    for base, name in zip(market.bases, market.names, strict=True):
        table = pd.read_csv(tmp_path / f"{base}_USDT_1m.csv", dtype=str)
        closes = (table["timestamp"].astype("int64") + 60_000) * 1_000_000
        rows = table[["open", "high", "low", "close", "volume"]].map(float).itertuples(index=False, name=None)
        assert dict(zip(closes.tolist(), rows, strict=True)) == truth.bars[name]
