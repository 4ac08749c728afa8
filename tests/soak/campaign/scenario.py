"""One run of the campaign, drawn from its seed: venue, interval, symbols, holes, speed, and which faults."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np

from tests.soak.campaign.market import FORMS, INTERVALS, MINUTE, Holes

WINDOW = 20
"""Bars of the momentum that every run predicts."""

PROFILES = ("lossless", "stream", "rest", "archive", "lossless", "revisions", "ban", "lag")
"""Those of `FaultScript.random`, and two more: a ban that lasts for a good part of the run, and REST that lags behind the
stream on a clock slow enough to see it."""

SPARE = 40.0
"""Real seconds that the recorded market goes on after the run should have ended."""

DAY = 1440 * MINUTE
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Scenario:
    """`speed` in exchange seconds a real one, `bars` a symbol; `past` is the bars that the graph needs, 0 for no more than
    momentum does. `restarted`: the run ends half-way, and a second one goes on from its state. `held`: the exchange's
    clock stands until somebody listens, as that of ``alpha_forge signal --sandbox``. The market is recorded from
    `first_ms` on in bars of `recorded`: `parts` are those of the past, of the run, and beyond it.
    """

    seed: int
    venue: str
    interval: str
    recorded: str
    symbols: int
    bars: int
    speed: float
    start_ms: int
    first_ms: int
    parts: tuple[int, int, int]
    past: int
    holes: Holes
    form: str
    profile: str
    state: bool
    restarted: bool
    held: bool
    buffer_minutes: float
    silence: float
    per_connection: int

    @property
    def interval_ms(self) -> int:
        return INTERVALS[self.interval]

    @property
    def until_ms(self) -> int:
        return self.start_ms + self.bars * self.interval_ms


def draw(seed: int) -> Scenario:
    """The run of this seed; every 25th has a hundred symbols or more."""
    rng = np.random.default_rng([seed, 20260105])
    wide = seed % 25 == 24
    profile = PROFILES[seed % len(PROFILES)]
    interval = ("1m", "15m", "1h")[int(rng.integers(0, 3))]
    symbols = int(rng.integers(100, 161)) if wide else int(rng.integers(2, 9))
    if interval == "1m":
        speed, bars = float(rng.choice([3600, 7200])), int(rng.integers(40, 90))
    elif interval == "15m":
        speed, bars = float(rng.choice([18_000, 36_000])), int(rng.integers(25, 50))
    else:
        speed, bars = 36_000.0, int(rng.integers(10, 21))
    if profile == "lag":
        interval, speed, bars = "1m", 300.0, int(rng.integers(8, 14))
    # The archive has whole days only: what is to meet it must look back for some.
    far = not wide and (profile in ("archive", "revisions") or rng.random() < 0.3)
    length = INTERVALS[interval]
    past = {"1m": 2, "15m": 6, "1h": 45}[interval] * DAY // length if far else 0
    recorded = interval
    if interval != "1m" and not far and rng.random() < 0.4:
        recorded = {"15m": "5m", "1h": "15m"}[interval]
    start_ms = _start(rng)
    # More than any look-back reaches, since a tenth more than the need is fetched; sometimes less.
    before = 80 if not past else round(past * float(rng.choice([0.7, 1.0, 1.2])))
    first_ms = start_ms // length * length - before * length
    # The exchange's clock runs while the process starts: what it plays must outlast that.
    beyond = round((SPARE / 3 if wide else SPARE) * 1000 * speed / length)
    ratio = length // INTERVALS[recorded]
    return Scenario(
        seed,
        ("usdm", "spot")[(seed + seed // len(PROFILES)) % 2],
        interval,
        recorded,
        symbols,
        bars,
        speed,
        start_ms,
        first_ms,
        (before * ratio, bars * ratio, beyond * ratio),
        past,
        _holes(rng),
        str(rng.choice(FORMS)),
        profile,
        bool(rng.random() < 0.8) or seed % 5 == 3,
        seed % 5 == 3,
        bool(rng.random() < 0.4),
        float(rng.choice([0.05, 0.25])) if profile == "lag" else float(rng.choice([0.25, 2.0])),
        float(rng.choice([1.0, 2.0, 60.0])),
        int(rng.choice([1, 3, 512])) if symbols < 20 else int(rng.choice([50, 512])),
    )


def _start(rng: np.random.Generator) -> int:
    """An instant inside a bar, on some day around the turn of 2025: spot's archive counts in µs from then on."""
    day = int(rng.integers(-20, 60))
    base = round((dt.datetime(2025, 1, 1, tzinfo=dt.UTC) - _EPOCH).total_seconds() * 1000)
    # After eight o'clock yesterday's file is there; before, the archive lacks two days.
    return base + day * DAY + int(rng.integers(60, 1400)) * MINUTE + int(rng.integers(5_000, 40_000))


def _holes(rng: np.random.Generator) -> Holes:
    if rng.random() < 0.2:
        return Holes()
    return Holes(
        int(rng.integers(0, 4)),
        int(rng.integers(0, 5)),
        float(rng.choice([0.0, 0.005, 0.03])),
        int(rng.integers(0, 2)),
        int(rng.integers(0, 2)),
    )
