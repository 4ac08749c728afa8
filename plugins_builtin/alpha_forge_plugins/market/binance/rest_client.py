"""The HTTP loop around ``rest``: budget, retries, and the exchange's own time."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import httpx

from alpha_forge_plugins.market.binance import rest
from alpha_forge_plugins.market.binance.budget import WeightBudget
from alpha_forge_sdk import Clock, SourceError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from alpha_forge_plugins.market.binance.venue import Venue
    from alpha_forge_sdk import Interval

log = logging.getLogger(__name__)

T = TypeVar("T")

_EVER = 2**62
_ATTEMPTS = 6
_FIRST_DELAY = 0.25
_LONGEST_DELAY = 10.0


def backoff(attempt: int, first: float = _FIRST_DELAY, longest: float = _LONGEST_DELAY) -> float:
    """Real seconds to wait after `attempt` failures: exponential with full jitter (Brooker, AWS, 2015)."""
    return random.uniform(0.0, min(longest, first * 2.0 ** min(attempt, 30)))


def shared_budget(shared: dict[tuple[str, ...], Any], base: str, venue: Venue) -> WeightBudget:
    """The budget of a host's counter of weight: one for all sources that have the same `shared` mapping."""
    key = ("binance", "weight", urlsplit(base).netloc, venue.budget)
    budget: WeightBudget = shared.setdefault(key, WeightBudget(venue.weight_per_minute))
    return budget


class RestClient:
    """Requests to one exchange's REST service, within the budget that all clients of the host in this process share.

    Waits that the exchange imposes (next minute, ``Retry-After``, a ban) pass in its own time, on `clock`.
    The pauses after faults of the network are real seconds. Refusals that add up to more than `patience` are an
    error. `timeout` is that of `http`; an answer that takes longer than three of them as a whole is given up.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        base: str,
        venue: Venue,
        clock: Clock,
        budget: WeightBudget,
        *,
        patience: float = 600.0,
        concurrency: int = 8,
        timeout: float = 10.0,
    ) -> None:
        self._http = http
        self._base = base
        self._clock = clock
        self._patience = patience
        self._longest = 3 * timeout
        self._slots = asyncio.Semaphore(concurrency)
        self._offset = 0
        self._bounds = (-_EVER, _EVER)
        self._server_seen = 0
        self.venue = venue
        self.budget = budget

    def now(self) -> int:
        """The exchange's time, ns, as well as it is known."""
        return self._clock.now() + self._offset

    async def exchange_info(self) -> rest.ExchangeInfo:
        """Who trades; sets the budget and the offset to the exchange's clock. Raises SourceError."""
        venue = self.venue
        info, trip = await self._parsed(
            venue.exchange_info_path,
            {},
            venue.exchange_info_weight,
            lambda body: rest.parse_exchange_info(body, venue),
        )
        self._learn(info.server_time * rest.MS, trip)
        self.budget.limit = info.weight_per_minute
        return info

    @property
    def skew(self) -> float:
        """Seconds by which the exchange's clock was ahead of ours when it was last asked."""
        return self._offset / 1e9

    async def final_until(self, end: int) -> int:
        """The latest instant ≤ `end` that the exchange is known to have passed: bars up to it are final.

        The exchange is asked only where its last known time does not answer already.
        """
        if end > self._server_seen:
            server, trip = await self._parsed(self.venue.time_path, {}, 1, rest.parse_server_time)
            self._learn(server, trip)
        return min(end, self._server_seen)

    def _learn(self, server: int, trip: tuple[int, int]) -> None:
        """The exchange's clock showed `server` some time between the two instants of ours.

        Each answer bounds the offset from both sides, the quicker the closer; together they bound it better. Answers
        that contradict each other are of a clock that was set.
        """
        low, high = server - trip[1], server - trip[0]
        known_low, known_high = self._bounds
        if low <= known_high and known_low <= high:
            low, high = max(low, known_low), min(high, known_high)
        self._bounds = low, high
        self._offset = (low + high) // 2
        self._server_seen = max(self._server_seen, server)

    async def klines(
        self, symbol: str, interval: Interval, page: rest.Page
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """One page: closes (ns) and values (5, bars) as the exchange sent them. Raises SourceError."""
        times: dict[str, str | int] = {"startTime": page.first, "endTime": page.last, "limit": page.limit}
        query = {"symbol": symbol, "interval": interval.name, **times}
        bars, _ = await self._parsed(
            self.venue.klines_path,
            query,
            self.venue.klines_weight(page.limit),
            lambda body: rest.parse_klines(body, interval),
        )
        return bars

    async def first_open(self, symbol: str, interval: Interval, start: int) -> int | None:
        """The open time (ms) of the symbol's first bar that opens at or after `start` (ms), or None."""
        query: dict[str, str | int] = {"symbol": symbol, "interval": interval.name}
        query |= {"startTime": start, "limit": 1}
        weight = self.venue.klines_weight(1)
        (ts, _), _ = await self._parsed(
            self.venue.klines_path, query, weight, lambda body: rest.parse_klines(body, interval)
        )
        return (int(ts[0]) - interval.ns) // rest.MS if len(ts) else None

    async def _parsed(
        self, path: str, query: Mapping[str, str | int], weight: int, parse: Callable[[bytes], T]
    ) -> tuple[T, tuple[int, int]]:
        """`parse` of the body, and when that was sent for and had. A refused body is asked for again, then AF5005."""
        # A sign-in page at first contact stays; in the middle of a run it is a proxy's bad moment.
        for attempt in range(_ATTEMPTS if self._server_seen else 3):
            body, trip = await self._answer(path, query, weight)
            try:
                return parse(body), trip
            except ValueError as error:
                cause = str(error)
            await asyncio.sleep(backoff(attempt))
        raise rest.stranger(self._base + path, cause)

    async def get(self, path: str, query: Mapping[str, str | int], weight: int) -> bytes:
        """The body of a 200. Faults that pass are retried; anything else raises SourceError."""
        body, _ = await self._answer(path, query, weight)
        return body

    async def _answer(
        self, path: str, query: Mapping[str, str | int], weight: int
    ) -> tuple[bytes, tuple[int, int]]:
        """As `get`, with the instants of our clock at which the answer was asked for and was there."""
        url = self._base + path
        async with self._slots:
            failures, refusals, refused_since = 0, 0, self.now()
            while True:
                sent = await self._reserve(weight)
                cause: str
                asked = self._clock.now()
                try:
                    answer = await self._send(url, query)
                except _HeldBack:
                    continue
                except (httpx.TransportError, httpx.DecodingError, TimeoutError) as error:
                    if (tls := tls_failure(error)) is not None:
                        raise untrusted(url, tls) from None
                    cause = f"{type(error).__name__}: {error}".rstrip(": ")
                else:
                    self._observe(sent, answer)
                    if answer.status_code == 200:
                        return answer.content, (asked, self._clock.now())
                    if answer.status_code in (418, 429):
                        if not refusals:
                            refused_since = self.now()
                        refusals += 1
                        self._block(url, answer, refused_since, refusals)
                        continue
                    if not rest.passes(answer.status_code, answer.content):
                        raise rest.refused(url, answer.status_code, answer.content)
                    cause = f"HTTP {answer.status_code}"
                    if answer.status_code == 403 and failures + 1 >= _ATTEMPTS:
                        raise rest.refused(url, answer.status_code, answer.content)
                failures += 1
                if failures >= _ATTEMPTS:
                    raise unreachable(url, cause, failures)
                log.warning("%s: %s (attempt %d of %d)", url, cause, failures, _ATTEMPTS)
                await asyncio.sleep(backoff(failures))

    async def _send(self, url: str, query: Mapping[str, str | int]) -> httpx.Response:
        """One request. Raises `_HeldBack`, with nothing sent, if a ban has come since the weight was reserved."""

        async def look_again(event: str, _: object) -> None:
            # Between the reservation and the first byte lie a name look-up and two handshakes.
            if event.endswith("send_request_headers.started") and self.budget.blocked_until(self.now()):
                raise _HeldBack

        # The client's timeouts are for each read: a body that comes in drops never meets them.
        async with asyncio.timeout(self._longest):
            return await self._http.get(url, params=query, extensions={"trace": look_again})

    async def _reserve(self, weight: int) -> int:
        """Wait until the budget admits `weight`; returns the instant it was reserved at."""
        while True:
            now = self.now()
            at = self.budget.reserve(now, weight)
            if at <= now:
                return now
            if at - now > self._patience * 1e9:
                raise _refused_too_long(self._base, (at - now) / 1e9)
            await self._clock.sleep((at - now) / 1e9)

    def _observe(self, sent: int, answer: httpx.Response) -> None:
        used = answer.headers.get("X-MBX-USED-WEIGHT-1M", "")
        if used.isdigit():
            self.budget.observe(sent, int(used))

    def _block(self, url: str, answer: httpx.Response, since: int, refusals: int) -> None:
        """Hold all requests back until the exchange takes them again.

        This request was refused `refusals` times, first at `since`. What is asked a moment too early prolongs a ban,
        and the two clocks are never quite the same: each further refusal doubles what is waited on top.
        """
        _, message = rest.refusal(answer.content)
        now = self.now()
        until = rest.wait_until(now, answer.headers.get("Retry-After"), message)
        if self._server_seen:
            # The exchange's clock may be as far behind as its answers leave open; `now` is the middle of that.
            until += self._offset - self._bounds[0]
        # Jitter, so that the runners behind one address don't all come back in the same instant.
        until = max(until, now) + int(
            (random.uniform(0.1, 1.0) + min(2.0 ** (refusals - 1) - 1.0, 60.0)) * 1e9
        )
        log.warning("%s: HTTP %d, waiting %.1f s: %s", url, answer.status_code, (until - now) / 1e9, message)
        self.budget.block(until)
        if until - since > self._patience * 1e9:
            raise _refused_too_long(self._base, (until - now) / 1e9)


class _HeldBack(Exception):
    """A request that was not sent because of a ban."""


def tls_failure(error: BaseException | None) -> str | None:
    """Why no trust could be established, if that is what failed; None for faults that may pass."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message or str(error)
        if isinstance(error, ssl.SSLError) and error.reason in _NO_TLS:
            return f"{error.reason}: no TLS is spoken there"
        error = error.__cause__ or error.__context__
    return None


_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "UNSUPPORTED_PROTOCOL"})


def untrusted(url: str, cause: str) -> SourceError:
    """The error for a server whose certificate proves nothing, or that speaks no TLS; `cause` by `tls_failure`."""
    return SourceError(
        "AF5018",
        f"{url} can't be trusted: {cause}",
        "check the scheme and host in endpoints and the clock of this machine; behind a proxy that opens TLS, set "
        "SSL_CERT_FILE to its certificate",
    )


def unreachable(url: str, cause: str, attempts: int) -> SourceError:
    return SourceError(
        "AF5001",
        f"{url} can't be reached: {cause} ({attempts} attempts)",
        "check the network, the proxy settings and `endpoints`; a local exchange must be running already",
    )


def _refused_too_long(base: str, seconds: float) -> SourceError:
    return SourceError(
        "AF5002",
        f"{base} refuses requests from this address for {seconds:.0f} s more (rate limit or ban)",
        "wait that long; run fewer clients behind one address, ask for less history, or raise patience",
        after=seconds,
    )
