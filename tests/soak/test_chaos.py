"""Records in four destinations, through kills, dead engines, lost answers and full disks: each once, to the bit.

Ten runs are part of ``make test``, 200 of ``make soak``: ``CHAOS_SEED`` (1000) is the first seed, ``CHAOS_RUNS`` (200) how
many. A run again: ``python -m tests.soak.chaos --seed N``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from alpha_forge_sdk.testing.engines import EngineMissing
from tests.soak.chaos import truth
from tests.soak.chaos.__main__ import DESTINATIONS, line, summary, told
from tests.soak.chaos.running import Outcome, execute
from tests.soak.chaos.scenario import draw
from tests.soak.chaos.truth import FIRST, MINUTE, Market, Stored
from tests.soak.chaos.world import Engines, engines

SHORT = range(10)
FIRST_SEED = int(os.environ.get("CHAOS_SEED", "1000"))
LONG = range(FIRST_SEED, FIRST_SEED + int(os.environ.get("CHAOS_RUNS", "200")))

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(scope="module")
def both() -> Iterator[Engines]:
    try:
        with engines() as made:
            yield made
    except EngineMissing as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def outcomes() -> Iterator[list[Outcome]]:
    found: list[Outcome] = []
    yield found
    if found:
        print(summary(found), file=sys.stderr)


def holds(seed: int, both: Engines, outcomes: list[Outcome]) -> None:
    outcome = execute(draw(seed), both)
    outcomes.append(outcome)
    print(line(outcome))
    assert not outcome.problems, told(outcome)
    assert set(outcome.verdicts) == set(DESTINATIONS)
    counts = {name: verdict.stored for name, verdict in outcome.verdicts.items()}
    scenario = outcome.scenario
    assert min(counts.values()) >= scenario.bars * scenario.symbols / 2, counts


@needs_fork
@pytest.mark.parametrize("seed", SHORT)
def test_nothing_is_lost_doubled_or_torn(seed, both, outcomes):
    holds(seed, both, outcomes)


@needs_fork
@pytest.mark.soak
@pytest.mark.parametrize("seed", LONG)
def test_nothing_is_lost_doubled_or_torn_in_many_runs(seed, both, outcomes):
    holds(seed, both, outcomes)


def test_the_short_campaign_has_everything_in_it():
    """What ten runs do is drawn from their seeds: it must not become ten times the same."""
    scenarios = [draw(seed) for seed in SHORT]
    assert [draw(seed) for seed in SHORT] == scenarios
    lives = [life for scenario in scenarios for life in scenario.lives]
    assert {life.end for life in lives} >= {"killed at a step", "SIGTERM", "SIGTERM twice"}
    assert sum(scenario.twins for scenario in scenarios) == 2
    kinds = {trouble.kind for life in lives for trouble in life.troubles}
    assert {"disk full", "ClickHouse killed", "requests cut"} <= kinds
    assert any("DynamoDB" in kind for kind in kinds)


def made() -> tuple[dict[truth.Key, int], list[tuple[str, int, int]], dict[str, int]]:
    """The truth of ten closes of two symbols, and a destination that has it."""
    market = Market.make(7, 2)
    after = FIRST + 60 * MINUTE
    until = dict.fromkeys(market.names, after + 10 * MINUTE)
    values = market.predictions()
    rows = [(*key, bits) for key, bits in values.items() if after < key[1] <= after + 10 * MINUTE]
    return values, sorted(rows, key=lambda row: row[1]), until


def verdict(rows: list[tuple[str, int, int]], torn: int = 0) -> dict[str, object]:
    values, _, until = made()
    faults = truth.judge(Stored(rows, torn), values, FIRST + 60 * MINUTE, until).faults
    faults.pop("first_lost", None)
    return faults


def test_the_judge_finds_each_fault():
    _, rows, _ = made()
    assert len(rows) == 20
    assert verdict(rows) == {}
    assert verdict(rows[:7] + rows[8:]) == {"lost": 1}
    assert verdict([*rows, rows[-1]]) == {"duplicated": 1}
    assert verdict(rows, torn=2) == {"torn": 2}
    symbol, ts, bits = rows[3]
    assert verdict([*rows[:3], (symbol, ts, bits + 1), *rows[4:]]) == {"wrong": 1}
    assert verdict([(symbol, FIRST + 60 * MINUTE, 0), *rows]) == {"invented": 1, "wrong": 1}
    assert verdict([*rows[2:4], *rows[:2], *rows[4:]]) == {"unordered": 2}


def test_the_reader_of_csv_finds_torn_rows(tmp_path):
    head = ",".join(truth.COLUMNS) + "\n"
    row = "2026-01-05T01:01:00Z,BTCUSDT,0.25,ohlcv,mom_20,chaos,{}\n"
    path = tmp_path / "out.csv"

    def torn(text: str) -> int:
        path.write_text(text)
        return truth.read_csv(path).torn

    assert torn(head + row) == 0
    assert truth.read_csv(path).records == [("BTCUSDT", FIRST + 61 * MINUTE, truth.bits_of(0.25))]
    assert torn(head + row + row[:20]) == 1
    assert torn(head + row[:20] + "\n" + row) == 1
    assert torn(head + row.replace("mom_20", "mom")) == 1
    assert torn(head + row + head + row) == 1
    assert torn(row) == 1
