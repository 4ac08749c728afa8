"""One run of the campaign, drawn from its seed: how often it is killed, where, and what its destinations suffer."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from tests.soak.chaos.child import POINTS

SPEED = 1_200.0
"""Exchange seconds in a real one: twenty bars of a minute."""

CLICKHOUSE = ("ClickHouse killed", "ClickHouse refuses", "requests cut", "requests reset", "answers lost", "answers cut",
              "ClickHouse stalls", "ClickHouse slow")  # fmt: skip
DYNAMODB = ("DynamoDB killed", "DynamoDB throttles", "DynamoDB errs", "items unprocessed", "DynamoDB resets",
            "DynamoDB's answers lost", "DynamoDB slow", "DynamoDB hangs", "DynamoDB does all of it")  # fmt: skip
FILES = ("disk full", "CSV held by another", "SQLite held by another")
STATE = ("state disk full",)
ENDS = ("killed", "killed at a step", "killed while starting", "SIGTERM", "SIGTERM twice")


@dataclass(frozen=True)
class Trouble:
    """Something that happens to a destination: `at` seconds after the run is warm, for `seconds`."""

    kind: str
    at: float
    seconds: float


@dataclass(frozen=True)
class Life:
    """One process: its troubles, how it ends, after how many seconds, and the step and hit at which it kills itself."""

    end: str
    after: float
    point: str = ""
    hits: int = 0
    troubles: tuple[Trouble, ...] = ()


@dataclass(frozen=True)
class Scenario:
    """`lives` are disturbed; one more is not, and goes on until `bars` bars have closed.

    `twins`: two processes with a state directory each, into the same destinations; the first one is killed for good (or,
    with `revived`, started again), the other one is not.
    """

    seed: int
    symbols: int
    bars: int
    lives: tuple[Life, ...] = field(default=())
    twins: bool = False
    revived: bool = False


def draw(seed: int) -> Scenario:
    rng = random.Random(f"chaos {seed}")
    twins = seed % 5 == 4
    count = 1 if twins else rng.choice((1, 2, 2, 3))
    lives = tuple(_life(rng, first=number == 0, twins=twins) for number in range(count))
    return Scenario(
        seed, rng.choice((1, 3, 3, 6)), 40 + 15 * count, lives, twins, twins and rng.random() < 0.5
    )


def _life(rng: random.Random, *, first: bool, twins: bool) -> Life:
    ends = [end for end in ENDS if not (first and end == "killed while starting")]
    end = rng.choice(("killed", "killed at a step") if twins else ends)
    after = rng.uniform(0.3, 1.3) if end == "killed while starting" else rng.uniform(0.1, 1.1)
    point, hits = "", 0
    if end == "killed at a step":
        point = rng.choice(list(POINTS))
        hits = rng.randint(1, POINTS[point])
    troubles = []
    for kinds, share in ((CLICKHOUSE, 0.6), (DYNAMODB, 0.6), (FILES, 0.4), (STATE, 0.15)):
        if rng.random() < share:
            troubles.append(Trouble(rng.choice(kinds), rng.uniform(0.0, 0.6), rng.uniform(0.1, 0.9)))
    return Life(end, after, point, hits, tuple(troubles))
