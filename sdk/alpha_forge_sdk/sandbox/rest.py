"""The REST endpoints of USD-M futures and of spot. Values in, responses out.

The futures venue serves the spot paths too: clients of futures call them to start up.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from alpha_forge_sdk.sandbox import bars as tables
from alpha_forge_sdk.sandbox.bars import BarTable
from alpha_forge_sdk.sandbox.exchange_info import FUTURES_WEIGHT, SPOT_WEIGHT, futures_info, spot_info
from alpha_forge_sdk.sandbox.faults import Faults
from alpha_forge_sdk.sandbox.http import Request, Response, json_response
from alpha_forge_sdk.sandbox.intervals import FIXED, ceil_ms, floor_ms
from alpha_forge_sdk.sandbox.market import Market
from alpha_forge_sdk.sandbox.payloads import rest_text
from alpha_forge_sdk.sandbox.venue import SPOT, USDM, Venue
from alpha_forge_sdk.sandbox.weight import Verdict, WeightLedger

#: Spot times may come in microseconds: anything from here on is no millisecond before the year 33658.
_MICROSECONDS_FROM: Final = 10**15


class ApiError(Exception):
    """A request that the exchange refuses with status 400 and a code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class _Api:
    """What differs between the futures and the spot API."""

    venue: Venue
    maximum: int
    clamps: bool
    ledger: WeightLedger


class RestApi:
    """Answers REST requests from the market, as of an instant of the exchange clock.

    `speed` turns the exchange seconds that a client has to wait into the real seconds of `Retry-After`.
    """

    def __init__(
        self, market: Market, speed: float = 1.0, venue: Venue = USDM, faults: Faults | None = None
    ) -> None:
        self._faults = faults or Faults()
        self._market = market
        self._speed = speed
        self._futures = _Api(USDM, 1500, False, WeightLedger(FUTURES_WEIGHT))
        self._spot = _Api(SPOT, 1000, True, WeightLedger(SPOT_WEIGHT))
        self._routes: dict[
            str, tuple[_Api, Callable[[Request], int], Callable[[Request, float], Response]]
        ] = {
            "/fapi/v1/ping": (self._futures, _constant(1), self._ping),
            "/fapi/v1/time": (self._futures, _constant(1), self._time),
            "/fapi/v1/exchangeInfo": (self._futures, _constant(1), self._futures_info),
            "/fapi/v1/klines": (self._futures, futures_kline_weight, self._futures_klines),
            "/fapi/v1/continuousKlines": (self._futures, futures_kline_weight, self._continuous_klines),
            "/api/v3/ping": (self._spot, _constant(1), self._ping),
            "/api/v3/time": (self._spot, _constant(1), self._time),
            "/api/v3/exchangeInfo": (self._spot, _constant(20), self._spot_info),
            "/api/v3/klines": (self._spot, _constant(2), self._spot_klines),
        }
        if venue is SPOT:
            self._routes = {path: route for path, route in self._routes.items() if path.startswith("/api/")}

    def serves(self, path: str) -> bool:
        """Whether the path belongs to the REST API, known endpoint or not."""
        return path.startswith(("/fapi/", "/api/"))

    def answer(self, request: Request, address: str, now_ms: float, budget_ms: float) -> Response:
        """The response to `request` from the client at `address`, at the exchange instant `now_ms`.

        `budget_ms` is the time by which budgets are renewed; it differs from `now_ms` after the clock was
        held.
        """
        found = self._routes.get(request.path)
        if found is None:
            return json_response(
                {"code": -5000, "msg": f"Path {request.path}, Method {request.method} is invalid"}, 404
            )
        api, weigh, handle = found
        verdict = api.ledger.charge(address, weigh(request), int(budget_ms))
        headers = {"X-MBX-USED-WEIGHT-1M": str(verdict.used)}
        if verdict.status != 200:
            self._faults.violations["banned" if verdict.status == 418 else "weight"] += 1
            return self._refusal(api, verdict, address, now_ms, budget_ms, headers)
        try:
            response = handle(request, now_ms)
        except ApiError as error:
            return json_response({"code": error.code, "msg": error.message}, 400, headers)
        response.headers.update(headers)
        return response

    def _refusal(
        self,
        api: _Api,
        verdict: Verdict,
        address: str,
        now_ms: float,
        budget_ms: float,
        headers: dict[str, str],
    ) -> Response:
        left = verdict.until_ms - budget_ms
        headers["Retry-After"] = str(max(1, math.ceil(left / 1000.0 / self._speed)))
        # By the clock that clients are told: budgets are renewed by another while that one is held.
        until = math.ceil(now_ms + left)
        text = refusal_text(api.venue, verdict.status, address, api.ledger.limit, until)
        return json_response({"code": -1003, "msg": text}, verdict.status, headers)

    def _ping(self, request: Request, now_ms: float) -> Response:
        return json_response({})

    def _time(self, request: Request, now_ms: float) -> Response:
        return json_response({"serverTime": int(now_ms)})

    def _futures_info(self, request: Request, now_ms: float) -> Response:
        return json_response(futures_info(self._market, int(now_ms)))

    def _spot_info(self, request: Request, now_ms: float) -> Response:
        wanted = _wanted_symbols(request.query)
        if wanted is not None and not set(wanted) <= set(self._market.symbols):
            raise ApiError(-1121, "Invalid symbol.")
        return json_response(spot_info(self._market, int(now_ms), wanted))

    def _futures_klines(self, request: Request, now_ms: float) -> Response:
        return self._klines(request.query, "symbol", self._futures, now_ms)

    def _spot_klines(self, request: Request, now_ms: float) -> Response:
        query = dict(request.query)
        if query.get("timeZone", "0") not in ("0", "00:00", "+00:00", "+0"):
            raise ApiError(-1130, "Data sent for parameter 'timeZone' is not valid.")
        for name in ("startTime", "endTime"):
            value = query.get(name, "")
            if value.isdigit() and int(value) >= _MICROSECONDS_FROM:
                query[name] = str(int(value) // 1000)
        return self._klines(query, "symbol", self._spot, now_ms)

    def _continuous_klines(self, request: Request, now_ms: float) -> Response:
        contract = _mandatory(request.query, "contractType")
        pair = _mandatory(request.query, "pair")
        if contract not in ("PERPETUAL", "CURRENT_QUARTER", "NEXT_QUARTER", "TRADIFI_PERPETUAL"):
            raise ApiError(-1130, "Data sent for parameter 'contractType' is not valid.")
        if contract != "PERPETUAL" and pair in self._market.symbols:
            return Response(200, b"[]")
        return self._klines(request.query, "pair", self._futures, now_ms)

    def _klines(self, query: dict[str, str], name: str, api: _Api, now_ms: float) -> Response:
        symbol = _mandatory(query, name)
        interval = _mandatory(query, "interval")
        if symbol not in self._market.symbols:
            raise ApiError(-1121, "Invalid symbol.")
        if interval not in api.venue.intervals:
            raise ApiError(-1120, "Invalid interval.")
        limit = _number(query, "limit")
        start, end = _number(query, "startTime"), _number(query, "endTime")
        if limit is None:
            limit = 500
        elif limit > api.maximum and api.clamps:
            limit = api.maximum
        if not 1 <= limit <= api.maximum:
            raise ApiError(-1130, "Data sent for parameter 'limit' is not valid.")
        if start is not None and end is not None and start > end:
            raise ApiError(-1023, "Start time is greater than end time.")
        lacking = self._faults.unpublished(symbol, interval, now_ms)
        if lacking is not None:
            end = lacking - 1 if end is None else min(end, lacking - 1)
        bars = window(self._market, symbol, interval, start, end, limit, now_ms)
        text = rest_text(self._market.instrument(symbol), interval, bars, api.venue.places)
        return Response(200, text.encode())


def window(
    market: Market,
    symbol: str,
    interval: str,
    start_ms: int | None,
    end_ms: int | None,
    limit: int,
    now_ms: float,
) -> BarTable:
    """At most `limit` bars as known at `now_ms` that open in `[start_ms, end_ms]`, ascending.

    With a start the oldest of them, without one the latest. The last may be the bar in progress.
    """
    open_bar = floor_ms(int(now_ms), interval)
    listed = market.instrument(symbol).onboard_ms
    first = ceil_ms(max(start_ms or 0, floor_ms(listed, interval)), interval)
    last = open_bar if end_ms is None else min(floor_ms(end_ms, interval), open_bar)
    if last < first:
        return tables.empty()
    span = FIXED.get(interval, 31 * 86_400_000) * limit
    if start_ms is not None:
        bars = _oldest(market, symbol, interval, first, min(last, open_bar - 1) + 1, limit, span)
    else:
        bars = _latest(market, symbol, interval, first, min(last, open_bar - 1) + 1, limit, span)
    if last < open_bar or (start_ms is not None and bars.shape[1] >= limit):
        return bars
    running = market.progress(symbol, interval, now_ms)
    if running is not None:
        bars = np.concatenate((bars, running), axis=1)
    return bars[:, -limit:]


def _oldest(
    market: Market, symbol: str, interval: str, first: int, stop: int, limit: int, span: int
) -> BarTable:
    """The first `limit` closed bars from `first`, looking over holes in ever wider steps."""
    parts, found = [tables.empty()], 0
    while first < stop and found < limit:
        upto = min(first + span, stop)
        part = market.bars(symbol, interval, first, upto)
        parts.append(part)
        found += part.shape[1]
        first, span = upto, span * 2
    return np.concatenate(parts, axis=1)[:, :limit]


def _latest(
    market: Market, symbol: str, interval: str, first: int, stop: int, limit: int, span: int
) -> BarTable:
    """The last `limit` closed bars before `stop`, looking over holes in ever wider steps."""
    parts, found = [tables.empty()], 0
    while first < stop and found < limit:
        since = max(stop - span, first)
        part = market.bars(symbol, interval, since, stop)
        parts.insert(0, part)
        found += part.shape[1]
        stop, span = since, span * 2
    return np.concatenate(parts, axis=1)[:, -limit:]


def futures_kline_weight(request: Request) -> int:
    """Weight of a klines request by its limit, as measured; 5 without one."""
    text = request.query.get("limit", "")
    if not text.isdigit():
        return 5
    limit = int(text)
    return 1 if limit <= 100 else 2 if limit <= 500 else 5 if limit <= 1000 else 10


def refusal_text(venue: Venue, status: int, address: str, limit: int, until_ms: int) -> str:
    """What the venue says to a client that overdrew its budget of `limit` a minute (429), or is banned (418)."""
    if status == 418:
        banned = (
            f"Way too much request weight used; IP banned until {until_ms}. Please use WebSocket Streams"
            if venue is SPOT
            else f"Way too many requests; IP({address}) banned until {until_ms}. Please use the websocket"
        )
        return f"{banned} for live updates to avoid bans."
    over = (
        f"Too much request weight used; current limit is {limit} request weight per 1 MINUTE. "
        "Please use WebSocket Streams"
        if venue is SPOT
        else f"Too many requests; current limit of IP({address}) is {limit} requests per minute. "
        "Please use the websocket"
    )
    return f"{over} for live updates to avoid polling the API."


def _constant(weight: int) -> Callable[[Request], int]:
    return lambda request: weight


def _mandatory(query: dict[str, str], name: str) -> str:
    value = query.get(name, "")
    if not value:
        raise _malformed(name)
    return value


def _number(query: dict[str, str], name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not text.removeprefix("-").isdigit() or len(text) > 18:
        raise _malformed(name)
    return int(text)


def _malformed(name: str) -> ApiError:
    return ApiError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def _wanted_symbols(query: dict[str, str]) -> list[str] | None:
    """Symbols named by `symbol=BTCUSDT` or `symbols=["BTCUSDT","ETHUSDT"]`; None for all."""
    if "symbol" in query:
        return [query["symbol"]]
    if "symbols" in query:
        return [name.strip(' "') for name in query["symbols"].strip("[] ").split(",")]
    return None
