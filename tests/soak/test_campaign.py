"""At least three hundred hostile runs, each compared with the market's truth. ``make soak``.

``CAMPAIGN_SEED`` (0) is the first seed, ``CAMPAIGN_RUNS`` (320) how many there are.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

import pytest

from alpha_forge_sdk.sandbox.hostile.kinds import KINDS
from tests.soak.campaign.__main__ import summary, told
from tests.soak.campaign.running import Outcome, execute
from tests.soak.campaign.scenario import draw

pytestmark = pytest.mark.soak

FIRST = int(os.environ.get("CAMPAIGN_SEED", "0"))
RUNS = int(os.environ.get("CAMPAIGN_RUNS", "320"))
MANY = 300
"""Runs in which every kind of fault is sure to come."""


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> Iterator[list[Outcome]]:
    done: list[Outcome] = []
    yield done
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n{summary(done)}")


@pytest.mark.parametrize("seed", range(FIRST, FIRST + RUNS))
def test_every_bar_once_in_order_and_none_invented(seed: int, outcomes: list[Outcome]) -> None:
    outcomes.append(execute(draw(seed)))
    assert not outcomes[-1].problems, told(outcomes[-1])


def test_the_campaign_met_every_kind_of_fault(outcomes: list[Outcome]) -> None:
    if len(outcomes) < MANY:
        pytest.skip(f"{len(outcomes)} runs are too few to meet them all")
    done: Counter[str] = sum((outcome.faults for outcome in outcomes), Counter())
    wanted = {name for name, kind in KINDS.items() if kind.effect in ("lossless", "revises")}
    assert not wanted - set(done), "never injected"
    origins: Counter[str] = sum((outcome.origins for outcome in outcomes), Counter())
    assert set(origins) == {"archive", "rest", "stream", "repair"}
    assert min(origins.values()) > 10_000
    assert sum(outcome.holes for outcome in outcomes) > 10_000
    assert sum(outcome.revisions for outcome in outcomes) > 100
