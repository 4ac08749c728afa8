"""Random scripts for campaigns: drawn from a seed, so that a number names a whole run."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

from alpha_forge_sdk.sandbox.hostile.kinds import ARCHIVE_KINDS, HTTP_KINDS, KINDS, MARKET_KINDS, STREAM_KINDS
from alpha_forge_sdk.sandbox.hostile.script import Rule
from alpha_forge_sdk.sandbox.hostile.values import Moment
from alpha_forge_sdk.sandbox.intervals import MINUTE


def _kinds(*effects: str, among: Any = KINDS) -> tuple[str, ...]:
    return tuple(name for name, kind in among.items() if kind.effect in effects)


#: The kinds that a profile draws from.
PROFILES: Final[dict[str, tuple[str, ...]]] = {
    "lossless": _kinds("lossless"),
    "mixed": _kinds("lossless", "holes"),
    "revisions": _kinds("lossless", "revises"),
    "stream": _kinds("lossless", among=STREAM_KINDS),
    "rest": _kinds("lossless", among=HTTP_KINDS),
    "archive": _kinds("lossless", among=ARCHIVE_KINDS),
}


class _Draw:
    """One script in the making."""

    def __init__(
        self, rng: random.Random, symbols: tuple[str, ...], interval_ms: int, start_ms: int, until_ms: int
    ) -> None:
        self.rng = rng
        self.symbols = symbols
        self.interval_ms = interval_ms
        self.start_ms = start_ms
        self.until_ms = until_ms

    def rule(self, kind: str) -> Rule:
        """A rule of this kind that a client can survive."""
        if kind in MARKET_KINDS:
            return self._market_rule(kind)
        return Rule(
            kind,
            self._start() if self.rng.random() < 0.3 and kind not in ARCHIVE_KINDS else None,
            None,
            round(self._rate(kind), 3),
            self._times(kind),
            self._some_symbols() if kind not in ("refuse_connect", "daily_disconnect") else (),
            (),
            self._paths(kind),
            self._options(kind),
        )

    def span(self, least: float, most: float) -> int:
        """A duration of so many bars."""
        return max(1, round(self.rng.uniform(least, most) * self.interval_ms))

    def _start(self) -> Moment:
        return Moment(round(self.rng.uniform(0.0, 0.5) * (self.until_ms - self.start_ms)), relative=True)

    def _rate(self, kind: str) -> float:
        if kind in ("rest_lag", "wrong_clock", "stale_listing", "out_of_order", "daily_disconnect"):
            return self.rng.uniform(0.3, 1.0)
        if kind in ARCHIVE_KINDS:
            return self.rng.uniform(0.1, 0.6)
        if kind in HTTP_KINDS:
            return self.rng.uniform(0.3, 0.9)  # a run makes few requests
        return self.rng.uniform(0.02, 0.3)

    def _times(self, kind: str) -> int | None:
        """Few of what costs a client much: a connection, a pause, a ban."""
        if KINDS[kind].place in ("connection", "handshake", "subscription"):
            return self.rng.randint(1, 4)
        if kind in ("http_418", "slow_body"):
            return self.rng.randint(1, 2)
        if kind in HTTP_KINDS and kind not in ("rest_lag", "wrong_clock", "stale_listing"):
            return self.rng.randint(1, 3)
        return None

    def _some_symbols(self) -> tuple[str, ...]:
        if self.rng.random() < 0.6:
            return ()
        count = self.rng.randint(1, max(1, len(self.symbols) // 2))
        chosen = set(self.rng.sample(self.symbols, count))
        return tuple(symbol for symbol in self.symbols if symbol in chosen)

    def _paths(self, kind: str) -> tuple[str, ...]:
        if kind in HTTP_KINDS and KINDS[kind].place == "http":
            return self.rng.choice(((), ("/data/",), ("/",)))
        return ()

    def _options(self, kind: str) -> dict[str, Any]:
        make = _OPTIONS.get(kind)
        options = {} if make is None else make(self)
        if "inside" in KINDS[kind].options and self.rng.random() < 0.5:
            options["inside"] = True
        return options

    def _market_rule(self, kind: str) -> Rule:
        length = self.until_ms - self.start_ms
        begin = self.start_ms + round(self.rng.uniform(0.2, 0.6) * length) // MINUTE * MINUTE
        if kind == "outage":
            end = begin + max(MINUTE, self.span(0.5, 5.0) // MINUTE * MINUTE)
            return Rule(kind, Moment(begin), Moment(end), symbols=self._some_symbols())
        if kind == "list":
            # The past of a symbol that is new: listed before the clock starts, so that a warm-up meets it.
            begin = self.start_ms - self.span(3.0, 30.0) // MINUTE * MINUTE
        return Rule(kind, Moment(begin), symbols=(self.rng.choice(self.symbols),))


LONGEST_LAG: Final = 25_000
"""Exchange ms by which REST lags behind at most in a random script."""

_OPTIONS: Final[dict[str, Callable[[_Draw], dict[str, Any]]]] = {
    "disconnect": lambda draw: {"reset": draw.rng.random() < 0.5},
    "close": lambda draw: {"code": draw.rng.choice((1000, 1001, 1011, 1012, 1013))},
    "silent_stream": lambda draw: {"life": draw.rng.choice(("subscription", "connection"))},
    "silent_subscription": lambda draw: {"life": draw.rng.choice(("subscription", "connection"))},
    "garbage": lambda draw: {"replaces": draw.rng.random() < 0.3},
    "oversized": lambda draw: {"bytes": draw.rng.choice((1_100_000, 2_000_000, 17_000_000))},
    "server_shutdown": lambda draw: {"lead": draw.span(0.0, 1.0)},
    "daily_disconnect": lambda draw: {"lifetime": draw.span(3.0, 12.0)},
    "refuse_connect": lambda draw: {"status": draw.rng.choice((429, 500, 502, 503, 504))},
    "duplicate_close": lambda draw: {"copies": draw.rng.randint(1, 3), "delay": draw.span(0.0, 2.0)},
    "late_close": lambda draw: {"delay": draw.span(0.01, 1.5)},
    "changed_close": lambda draw: {"delay": draw.span(0.01, 1.0)},
    "out_of_order": lambda draw: {"window": draw.span(0.01, 0.8)},
    "http_429": lambda draw: {"retry_after": draw.rng.choice((0, 1))},
    # With Retry-After: on a fast clock nobody can tell from "banned until" how long that is in real seconds.
    "http_418": lambda draw: {"ban": draw.span(0.1, 1.0)},
    "http_5xx": lambda draw: {"status": draw.rng.choice((500, 502, 503, 504))},
    "slow_body": lambda draw: {"span": draw.rng.randint(50, 300)},
    # Longer than a client waits before it believes that a bar does not exist, a lag is no other thing than a hole.
    "rest_lag": lambda draw: {"lag": min(draw.span(0.1, 0.9), LONGEST_LAG)},
    # A clock that is ahead would make bars in progress look closed; one that is behind costs only time.
    "wrong_clock": lambda draw: {"offset": -draw.span(0.01, 0.5)},
    "stale_listing": lambda draw: {"lag": draw.rng.randint(1, 3) * 86_400_000},
    "missing_file": lambda draw: {"listed": draw.rng.random() < 0.5},
    "cut_day": lambda draw: {"share": round(draw.rng.uniform(0.05, 0.95), 2)},
    "reuploaded": lambda draw: {"rows": draw.rng.randint(1, 5)},
    "zip_bomb": lambda draw: {"bytes": draw.rng.choice((1 << 29, 1 << 30)), "lies": draw.rng.random() < 0.5},
    "off_grid_rows": lambda draw: {"rows": draw.rng.randint(1, 5)},
    "duplicate_rows": lambda draw: {"rows": draw.rng.randint(1, 5)},
}


def draw_rules(
    seed: int, symbols: tuple[str, ...], interval_ms: int, start_ms: int, until_ms: int, profile: str
) -> tuple[Rule, ...]:
    """The rules of `FaultScript.random`."""
    if profile not in PROFILES:
        raise ValueError(f"no profile {profile!r}; there are {', '.join(PROFILES)}")
    if not symbols or until_ms <= start_ms or interval_ms <= 0:
        raise ValueError("a random script needs symbols, an interval, and an end after its start")
    kinds = PROFILES[profile]
    rng = random.Random(f"{seed} {profile}")
    # The first kind goes round with the seed, so that none is left out of a campaign.
    chosen = [kinds[seed % len(kinds)], *rng.sample(kinds, min(len(kinds), rng.randint(2, 5)))]
    draw = _Draw(rng, symbols, interval_ms, start_ms, until_ms)
    return tuple(draw.rule(kind) for kind in dict.fromkeys(chosen))
