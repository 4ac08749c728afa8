"""REST without I/O: weights, paging, rows, and what the exchange's refusals mean."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from alpha_forge_sdk import Interval, SourceError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MS = 1_000_000
MAX_LIMIT = 1500
"""Rows of one page at most; one more is refused (-1130)."""

# Documentation and measurement differ at the edges (100 rows: 2 or 1, 500 rows: 5 or 2): the heavier counts.
_WEIGHTS = ((99, 1), (499, 2), (1000, 5), (MAX_LIMIT, 10))


def klines_weight(limit: int) -> int:
    """Request weight of ``GET /fapi/v1/klines`` with this limit (1 … 1500)."""
    for rows, weight in _WEIGHTS:
        if limit <= rows:
            return weight
    raise ValueError(f"limit is at most {MAX_LIMIT}, got {limit}")


@dataclass(frozen=True, slots=True)
class Page:
    """One request for `limit` bars whose first opens at `first` (ms) and whose last opens at `last` (ms)."""

    first: int
    last: int
    limit: int

    @property
    def weight(self) -> int:
        return klines_weight(self.limit)


def page_sizes(rows: int) -> list[int]:
    """How `rows` bars are cut into pages: least weight first, fewest requests second.

    499 rows weigh 2, the best rate there is; 1000 in one page weigh as much as 499 + 499 + 2 in three.
    """
    sizes: list[int] = []
    while rows > 0:
        size = rows if 2 * 499 < rows <= 1000 else min(rows, 499)
        sizes.append(size)
        rows -= size
    return sizes


def pages(start: int, end: int, interval: Interval) -> list[Page]:
    """Requests that cover the closes in (start, end] (ns), oldest first, each bar by exactly one page."""
    first, last = interval.row(start) + 1, interval.row(end)
    result = []
    for size in page_sizes(last - first + 1):
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
    """What a source needs of ``/fapi/v1/exchangeInfo``: who trades, the budget, the server's time (ms)."""

    tradable: frozenset[str]
    others: dict[str, str]
    weight_per_minute: int
    server_time: int


def parse_exchange_info(body: bytes) -> ExchangeInfo:
    """Raises ValueError for a body of another shape."""
    try:
        info = msgspec.json.decode(body, type=_ExchangeInfo)
    except msgspec.DecodeError as error:
        raise ValueError(f"not an exchangeInfo: {error}: {body[:80]!r}") from None
    tradable, others = set(), {}
    for entry in info.symbols:
        if entry.status == "TRADING" and entry.contract_type == "PERPETUAL":
            tradable.add(entry.symbol)
        else:
            others[entry.symbol] = (
                f"{entry.contract_type or 'no contract type'}, {entry.status or 'no status'}"
            )
    weights = [
        limit.limit
        for limit in info.rate_limits
        if (limit.rate_limit_type, limit.interval, limit.interval_num) == ("REQUEST_WEIGHT", "MINUTE", 1)
    ]
    return ExchangeInfo(frozenset(tradable), others, min(weights, default=2400), info.server_time)


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
    """When requests pass after a 429 or 418, ns: by header, else the ban's end, else the next minute."""
    if retry_after is not None and retry_after.strip().isdigit():
        return now + int(retry_after) * 1_000_000_000
    banned = _BANNED.search(message)
    if banned is not None:
        return int(banned[1]) * MS
    return (now // 60_000_000_000 + 1) * 60_000_000_000


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
