"""REST without I/O: weights, paging, rows, and what the exchange's refusals mean."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from alpha_forge_sdk import Interval, SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import numpy.typing as npt

    from alpha_forge_plugins.market.binance.venue import Venue

MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Page:
    """One request for `limit` bars whose first opens at `first` (ms) and whose last opens at `last` (ms)."""

    first: int
    last: int
    limit: int


def page_sizes(rows: int, venue: Venue) -> list[int]:
    """How `rows` bars are cut into pages: least weight first, fewest requests second.

    Of USD-M, 499 rows weigh 2, the best rate there is; 1000 in one page weigh as much as 499 + 499 + 2 in three.
    """
    best = max(venue.weights, key=lambda step: (step[0] / step[1], step[0]))[0]
    sizes: list[int] = []
    while rows > 0:
        size = min(rows, best)
        if best < rows <= venue.max_limit:
            rest = page_sizes(rows - best, venue)
            if venue.klines_weight(rows) <= venue.klines_weight(best) + pages_weight(rest, venue):
                size = rows
        sizes.append(size)
        rows -= size
    return sizes


def pages_weight(sizes: Iterable[int], venue: Venue) -> int:
    """Request weight of pages with these limits."""
    return sum(venue.klines_weight(size) for size in sizes)


def pages(start: int, end: int, interval: Interval, venue: Venue) -> list[Page]:
    """Requests that cover the closes in (start, end] (ns), oldest first, each bar by exactly one page."""
    first, last = interval.row(start) + 1, interval.row(end)
    result = []
    for size in page_sizes(last - first + 1, venue):
        opens = (interval.ts(first) - interval.ns) // MS, (interval.ts(first + size - 1) - interval.ns) // MS
        result.append(Page(*opens, size))
        first += size
    return result


class _Row(msgspec.Struct, array_like=True, gc=False):
    # Rows have twelve fields; those that follow are skipped unread.
    start: int
    open: float
    high: float
    low: float
    close: float
    volume: float


_rows = msgspec.json.Decoder(list[_Row], strict=False)


def parse_klines(body: bytes, interval: Interval) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """A page's body → closes (bars,) in ns and values (5, bars) open, high, low, close, volume, as they came.

    Raises ValueError for a body that is no list of klines.
    """
    import numpy as np

    try:
        rows = _rows.decode(body)
    except msgspec.DecodeError as error:
        raise ValueError(f"not a list of klines: {error}: {body[:80]!r}") from None
    ts = np.array([row.start for row in rows], np.int64) * MS + interval.ns
    values = [(row.open, row.high, row.low, row.close, row.volume) for row in rows]
    return ts, np.array(values, np.float64).reshape(len(rows), 5).T


class _Symbol(msgspec.Struct, gc=False, rename="camel"):
    symbol: str
    status: str = ""
    contract_type: str = ""


class _RateLimit(msgspec.Struct, gc=False, rename="camel"):
    rate_limit_type: str
    interval: str
    interval_num: int
    limit: int


class _ExchangeInfo(msgspec.Struct, rename="camel"):
    symbols: list[_Symbol]
    server_time: int
    rate_limits: list[_RateLimit] = []


@dataclass(frozen=True, slots=True)
class ExchangeInfo:
    """What a source needs of ``exchangeInfo``: who trades, the budget, the server's time (ms).

    ``others`` are the symbols that can't be traded, each with the reason.
    """

    tradable: frozenset[str]
    others: dict[str, str]
    weight_per_minute: int
    server_time: int


def parse_exchange_info(body: bytes, venue: Venue) -> ExchangeInfo:
    """Raises ValueError for a body of another shape."""
    try:
        info = msgspec.json.decode(body, type=_ExchangeInfo)
    except msgspec.DecodeError as error:
        raise ValueError(f"not an exchangeInfo: {error}: {body[:80]!r}") from None
    tradable, others = set(), {}
    for entry in info.symbols:
        status = entry.status or "no status"
        if venue.contract_type is not None and entry.contract_type != venue.contract_type:
            others[entry.symbol] = f"{entry.contract_type or 'no contract type'}, {status}"
        elif entry.status != "TRADING":
            others[entry.symbol] = status
        else:
            tradable.add(entry.symbol)
    weights = [
        limit.limit
        for limit in info.rate_limits
        if (limit.rate_limit_type, limit.interval, limit.interval_num) == ("REQUEST_WEIGHT", "MINUTE", 1)
    ]
    weight = min(weights, default=venue.weight_per_minute)
    return ExchangeInfo(frozenset(tradable), others, weight, info.server_time)


def parse_server_time(body: bytes) -> int:
    """``{"serverTime": ms}`` → ns since the epoch. Raises ValueError for anything else."""
    try:
        return int(json.loads(body)["serverTime"]) * MS
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"not a server time: {body[:80]!r}") from None


_BANNED = re.compile(r"banned until (\d{13})")


def refusal(body: bytes) -> tuple[int | None, str]:
    """An error body → (code, message); (None, its beginning) if it isn't the exchange's JSON."""
    try:
        error = json.loads(body)
        return int(error["code"]), str(error["msg"])
    except (ValueError, TypeError, KeyError):
        return None, body[:120].decode("utf-8", "replace")


def wait_until(now: int, retry_after: str | None, message: str) -> int:
    """When requests pass after a 429 or 418, ns: by header and by the ban's end, else the next minute."""
    known = []
    if retry_after is not None and retry_after.strip().isdigit():
        known.append(now + int(retry_after) * 1_000_000_000)
    banned = _BANNED.search(message)
    if banned is not None:
        known.append(int(banned[1]) * MS)
    # Where both are told, the later one holds: a request during a ban prolongs it.
    return max(known) if known else (now // 60_000_000_000 + 1) * 60_000_000_000


# Faults on the exchange's side of which the next request may know nothing: disconnected, unexpected response,
# timeout, overloaded, shutting down.
_PASSING = frozenset({-1001, -1006, -1007, -1008, -1016})


def passes(status: int, body: bytes) -> bool:
    """Whether the same request may succeed a little later: faults of a server, and a firewall's 403."""
    return status >= 500 or status == 403 or refusal(body)[0] in _PASSING


def stranger(url: str, what: str) -> SourceError:
    """The error for an answer that the exchange never gives."""
    return SourceError(
        "AF5005",
        f"{url} answered with something that is not the exchange's: {what}",
        "a proxy, a firewall or a sign-in page may be in between: open the URL by hand, correct endpoints",
    )


def refused(url: str, status: int, body: bytes) -> SourceError:
    """The error for an answer that no repetition would change."""
    code, message = refusal(body)
    if status == 403 and code is None:
        return SourceError(
            "AF5005",
            f"{url} is shut to this address by a firewall (HTTP 403): {message!r}",
            "too many requests, or a proxy in between that forbids them: wait some minutes, open the URL by hand",
        )
    if status == 451:
        return SourceError(
            "AF5004",
            f"{url} refuses to serve this location (HTTP 451): {message}",
            "run from a location that the exchange serves, or set endpoints to one that you may use",
        )
    if code == -1121:
        return SourceError(
            "AF5003", f"{url}: the exchange does not know the symbol: {message}", "correct universe"
        )
    if code is None:
        return stranger(url, f"HTTP {status}, {message!r}")
    return SourceError(
        "AF5006",
        f"{url} refused the request (HTTP {status}, code {code}): {message}",
        "this is not a passing fault: check interval and endpoints, and report it if they are right",
    )
