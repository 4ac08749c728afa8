"""The two venues and what differs between them: USD-M futures and spot."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final

from alpha_forge_sdk.sandbox.intervals import INTERVALS, SPOT_INTERVALS

#: Archive files of spot write microseconds for everything that opens from here on.
_MICROSECONDS_FROM: Final = int(dt.datetime(2025, 1, 1, tzinfo=dt.UTC).timestamp()) * 1000


@dataclass(frozen=True, slots=True)
class Venue:
    """One market segment of the exchange.

    `root` is the first part of the WebSocket paths on which klines flow (empty: `/ws` and `/stream` themselves).
    `messages_per_second` and `message_burst` limit a client's messages; `ping_every` and `pong_within` are real
    seconds; `push_every_ms` is the exchange time between two pushes of a bar in progress. `places` is the least
    number of decimals in a number. `microseconds_from` is the open time from which archive files count in
    microseconds, None for never.
    """

    name: str
    root: str
    intervals: tuple[str, ...]
    messages_per_second: float
    message_burst: int
    ping_every: float
    pong_within: float
    push_every_ms: int
    places: int
    archive: str
    archive_header: bool
    microseconds_from: int | None
    wraps_errors: bool

    @property
    def has_continuous(self) -> bool:
        """Whether there are continuous contracts."""
        return self.name == "usdm"


USDM: Final = Venue(
    name="usdm",
    root="market",
    intervals=INTERVALS,
    messages_per_second=10.0,
    message_burst=15,
    ping_every=180.0,
    pong_within=600.0,
    push_every_ms=250,
    places=0,
    archive="data/futures/um/",
    archive_header=True,
    microseconds_from=None,
    wraps_errors=True,
)

#: The pong limit is checked at every ping, so a client is dropped at the first one after its minute.
SPOT: Final = Venue(
    name="spot",
    root="",
    intervals=SPOT_INTERVALS,
    messages_per_second=5.0,
    message_burst=8,
    ping_every=20.0,
    pong_within=60.0,
    push_every_ms=2000,
    places=8,
    archive="data/spot/",
    archive_header=False,
    microseconds_from=_MICROSECONDS_FROM,
    wraps_errors=False,
)

VENUES: Final = {venue.name: venue for venue in (USDM, SPOT)}
