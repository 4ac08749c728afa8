"""Faults of HTTP: REST, and what carries the archive's objects."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from typing import Final

from alpha_forge_sdk.sandbox.exchange_info import FUTURES_WEIGHT, SPOT_WEIGHT
from alpha_forge_sdk.sandbox.faults import Stage
from alpha_forge_sdk.sandbox.hostile.dice import Armed, Arsenal
from alpha_forge_sdk.sandbox.http import Request, Response, json_response
from alpha_forge_sdk.sandbox.intervals import floor_ms, next_ms
from alpha_forge_sdk.sandbox.rest import refusal_text
from alpha_forge_sdk.sandbox.venue import SPOT

_REST: Final = ("/fapi/", "/api/")
_PAGE: Final = "<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n"
_INTERCEPTING: Final = ("http_429", "http_5xx", "http_451", "http_403", "html_200", "reset")
_RESTRICTED: Final = (
    "Service unavailable from a restricted location according to 'b. Eligibility' in "
    "https://www.binance.com/en/terms. Please contact customer service if you believe you received this message "
    "in error."
)


class HttpFaults:
    """Plays the rules that concern HTTP. One event loop only, but for `listed_until`."""

    def __init__(self, arsenal: Arsenal, stage: Stage, violations: Counter[str]) -> None:
        self._arsenal = arsenal
        self._stage = stage
        self._violations = violations
        self._banned: dict[str, tuple[float, Armed]] = {}

    def intercept(self, request: Request, address: str, now_ms: float, budget_ms: float) -> Response | None:
        """An answer in place of the exchange's, or None."""
        if request.path.startswith(_REST):
            ban = self._ban(request, address, now_ms, budget_ms)
            if ban is not None:
                return ban
        for kind in _INTERCEPTING:
            armed = self._struck(kind, request, now_ms)
            if armed is not None:
                return self._refusal(kind, armed, address)
        return None

    def answered(self, request: Request, response: Response, now_ms: float) -> Response:
        """The exchange's own answer, spoilt on its way."""
        if not request.path.startswith("/sandbox/"):
            response = self._misdated(request, response, now_ms)
            armed = self._struck("truncated_body", request, now_ms)
            if armed is not None and len(response.body) > 1:
                share = armed.rule.option("share")
                share = armed.draw("share", *_thing(request)) if share is None else share
                self._arsenal.count("truncated_body")
                sent = min(int(share * len(response.body)), len(response.body) - 1)
                response = dataclasses.replace(response, cut_at=sent)
            armed = self._struck("slow_body", request, now_ms)
            if armed is not None:
                self._arsenal.count("slow_body")
                response = dataclasses.replace(response, span=armed.rule.option("span") / 1000)
        return response

    def unpublished(self, symbol: str, interval: str, now_ms: float) -> int | None:
        """Open time of the first bar that REST lacks, of those that ended; None if it lacks none."""
        found: int | None = None
        for armed in self._arsenal.of("rest_lag"):
            if not armed.concerns(symbol, interval):
                continue
            opened = floor_ms(int(now_ms - armed.rule.option("lag")), interval)
            while next_ms(opened, interval) <= now_ms and (found is None or opened < found):
                if armed.strikes(now_ms, symbol, interval, opened):
                    found = opened
                    break
                opened = next_ms(opened, interval)
        if found is not None:
            self._arsenal.count_once("rest_lag", symbol, interval, found)
        return found

    def listed_until(self, now_ms: float) -> float:
        """The instant up to which listings are complete."""
        until = now_ms
        for armed in self._arsenal.of("stale_listing"):
            if armed.strikes(now_ms, "listing"):
                self._arsenal.count("stale_listing")
                until = min(until, now_ms - armed.rule.option("lag"))
        return until

    def _ban(self, request: Request, address: str, now_ms: float, budget_ms: float) -> Response | None:
        banned = self._banned.get(address)
        if banned is not None and budget_ms < banned[0]:
            until, armed = banned
            # By a clock that stands nobody can tell when a ban ends: until it runs, coming early is no offence.
            if now_ms > self._stage.start_ms:
                self._violations["banned"] += 1
                until = budget_ms + armed.rule.option("ban")
        else:
            struck = self._struck("http_418", request, now_ms)
            if struck is None:
                return None
            armed = struck
            self._arsenal.count("http_418")
            until = budget_ms + armed.rule.option("ban")
        self._banned[address] = (until, armed)
        headers = {}
        if armed.rule.option("retry_after"):
            headers["Retry-After"] = str(max(1, math.ceil((until - budget_ms) / 1000 / self._stage.speed)))
        text = refusal_text(self._stage.venue, 418, address, 0, math.ceil(now_ms + until - budget_ms))
        return json_response({"code": -1003, "msg": text}, 418, headers)

    def _refusal(self, kind: str, armed: Armed, address: str) -> Response:
        self._arsenal.count(kind)
        if kind == "http_429":
            wait = armed.rule.option("retry_after")
            spot = self._stage.venue is SPOT
            text = refusal_text(self._stage.venue, 429, address, SPOT_WEIGHT if spot else FUTURES_WEIGHT, 0)
            return json_response(
                {"code": -1003, "msg": text}, 429, {"Retry-After": str(wait)} if wait else {}
            )
        if kind == "http_5xx":
            status = armed.rule.option("status")
            return json_response(
                {"code": -1001, "msg": "Internal error; unable to process your request."}, status
            )
        if kind == "http_451":
            return json_response({"code": 0, "msg": _RESTRICTED}, 451)
        if kind == "http_403":
            return _page(403, "403 Forbidden")
        if kind == "html_200":
            return _page(200, "Sign in to the network")
        return Response(0, reset=True)

    def _misdated(self, request: Request, response: Response, now_ms: float) -> Response:
        """The answer with a server time that is off, where it tells one."""
        if response.status != 200 or not request.path.endswith(("/time", "/exchangeInfo")):
            return response
        armed = self._struck("wrong_clock", request, now_ms)
        if armed is None:
            return response
        self._arsenal.count("wrong_clock")
        value = json.loads(response.body)
        value["serverTime"] += armed.rule.option("offset")
        return json_response(value, headers=response.headers)

    def _struck(self, kind: str, request: Request, now_ms: float) -> Armed | None:
        for armed in self._arsenal.of(kind):
            if not armed.rule.paths and not request.path.startswith(_REST):
                continue
            symbol = request.query.get("symbol") or request.query.get("pair")
            if armed.concerns(symbol, request.query.get("interval"), request.path) and armed.strikes(
                now_ms, *_thing(request)
            ):
                return armed
        return None


def _thing(request: Request) -> tuple[object, ...]:
    """What a draw about a request depends on: what was asked, and how often."""
    return (request.target, request.number)


def _page(status: int, title: str) -> Response:
    return Response(status, _PAGE.format(title=title).encode(), "text/html")
