"""One WebSocket session of a client, without I/O: messages in, replies and changes out.

Paths, control messages, errors and limits are those of the venue. On USD-M, after the path split of 2026, klines
flow on `/market` only; every other path acknowledges a kline subscription and stays silent.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

from alpha_forge_sdk.sandbox.payloads import StreamSpec
from alpha_forge_sdk.sandbox.venue import USDM, Venue

MAX_STREAMS: Final = 1024

METHODS: Final = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")

_KLINE = re.compile(r"([a-z0-9]+)@kline_(\w+)")
_CONTINUOUS = re.compile(
    r"([a-z0-9]+)_(perpetual|current_quarter|next_quarter|tradifi_perpetual)@continuousKline_(\w+)"
)


@dataclass(frozen=True, slots=True)
class Route:
    """Where a WebSocket path leads. `live` says whether klines flow there."""

    combined: bool
    live: bool
    streams: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """A text message to the client."""

    text: str


@dataclass(frozen=True, slots=True)
class Close:
    """End of the connection by the exchange."""

    code: int
    reason: str


def route(path: str, query: dict[str, str], venue: Venue = USDM) -> Route | None:
    """The route of a decoded path such as `/market/stream`; None where the venue has no WebSocket.

    An empty stream list has no trailing slash: `/market/ws/` is no path.
    """
    parts = path.split("/")[1:]
    live = True
    if venue.root:
        live = parts[0] == venue.root
        if parts[0] in (venue.root, "public", "private"):
            parts = parts[1:]
    if not parts or parts[0] not in ("ws", "stream"):
        return None
    if parts[0] == "stream":
        if len(parts) > 1:
            return None
        return Route(True, live, tuple(name for name in query.get("streams", "").split("/") if name))
    if any(not part for part in parts):
        return None
    return Route(False, live, tuple(parts[1:]))


def parse_stream(name: str, venue: Venue = USDM) -> StreamSpec | None:
    """What a stream name shows; None for names that exist not, or not in this sandbox: they stay silent."""
    match = _KLINE.fullmatch(name)
    if match and match[2] in venue.intervals:
        return StreamSpec(name, match[1].upper(), match[2])
    match = _CONTINUOUS.fullmatch(name) if venue.has_continuous else None
    if match and match[2] == "perpetual" and match[3] in venue.intervals:
        return StreamSpec(name, match[1].upper(), match[3], contract="PERPETUAL")
    return None


@dataclass(slots=True)
class Allowance:
    """A bucket of the venue's burst of messages, refilled at its rate; `seconds` are real ones."""

    seconds: float
    venue: Venue
    left: float

    def take(self, seconds: float) -> bool:
        """Count one message at the real time `seconds`; False if it is one too many."""
        earned = (seconds - self.seconds) * self.venue.messages_per_second
        self.left = min(float(self.venue.message_burst), self.left + earned)
        self.seconds = seconds
        self.left -= 1.0
        return self.left > -1e-9


@dataclass(slots=True)
class Session:
    """The state of one connection: its subscriptions in their order, its property, its allowance.

    `asked` collects the names of every subscription, new or repeated, for whoever empties it.
    """

    live: bool
    combined: bool
    allowance: Allowance
    venue: Venue = USDM
    streams: dict[str, None] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, where: Route, seconds: float, venue: Venue = USDM) -> tuple[Session, list[Reply | Close]]:
        """The session of a new connection, and what it says at once (only if the path names too many
        streams)."""
        allowance = Allowance(seconds, venue, float(venue.message_burst))
        session = cls(where.live, where.combined, allowance, venue)
        return session, session._subscribe(list(where.streams))

    def control_frame(self, seconds: float) -> list[Reply | Close]:
        """A ping or pong of the client: it counts as a message."""
        return [] if self.allowance.take(seconds) else [Close(1008, "Too many requests")]

    def receive(self, text: str, seconds: float) -> list[Reply | Close]:
        """Handle one text message that came at the real time `seconds`."""
        if not self.allowance.take(seconds):
            return [Close(1008, "Too many requests")]
        try:
            message = json.loads(text)
        except ValueError as error:
            where = f"line {getattr(error, 'lineno', 1)} column {getattr(error, 'colno', 1)}"
            return [self._error(3, f"Invalid JSON: expected value at {where}"), Close(1008, "Invalid JSON")]
        if not isinstance(message, dict):
            return [self._error(2, "Invalid request: expected a JSON object")]
        identifier = message.get("id")
        method = message.get("method")
        if method is None:
            return [
                self._error(
                    2, f"Invalid request: missing field `method` at line 1 column {len(text)}", identifier
                )
            ]
        if method not in METHODS:
            known = ", ".join(f"`{name}`" for name in METHODS)
            return [
                self._error(
                    2, f"Invalid request: unknown variant `{method}`, expected one of {known}", identifier
                )
            ]
        if method == "LIST_SUBSCRIPTIONS":
            return [_result(list(self.streams), identifier)]
        params = message.get("params")
        if params is None:
            return [
                self._error(
                    2, f"Invalid request: missing field `params` at line 1 column {len(text)}", identifier
                )
            ]
        if not isinstance(params, list):
            return [self._error(2, "Invalid request: params must be an array", identifier)]
        if method in ("SET_PROPERTY", "GET_PROPERTY"):
            return [self._property(method, params, identifier)]
        if not all(isinstance(name, str) for name in params):
            return [self._error(2, "Invalid request: stream names must be strings", identifier)]
        if method == "SUBSCRIBE":
            return self._subscribe(params) or [_result(None, identifier)]
        for name in params:
            self.streams.pop(name, None)
        return [_result(None, identifier)]

    def _subscribe(self, names: list[str]) -> list[Reply | Close]:
        for name in names:
            if name not in self.streams and len(self.streams) == MAX_STREAMS:
                self.streams.clear()
                return [self._error(4, "Too many subscriptions"), Close(1008, "Invalid request")]
            self.streams[name] = None
            self.asked.append(name)
        return []

    def _property(self, method: str, params: list[Any], identifier: Any) -> Reply:
        if not params or params[0] != "combined":
            return self._error(0, "Unknown property", identifier)
        if method == "GET_PROPERTY":
            return _result(self.combined, identifier)
        if len(params) < 2 or not isinstance(params[1], bool):
            return self._error(1, "Invalid value type: expected Boolean", identifier)
        self.combined = params[1]
        return _result(None, identifier)

    def _error(self, code: int, text: str, identifier: Any = None) -> Reply:
        """An error as the venue writes it: wrapped, as USD-M was seen to do, or bare, as the documents have it."""
        error = {"code": code, "msg": text}
        message: dict[str, Any] = {"error": error} if self.venue.wraps_errors else dict(error)
        if identifier is not None:
            message["id"] = identifier
        return Reply(_compact(message))


def _result(result: Any, identifier: Any) -> Reply:
    return Reply(_compact({"result": result, "id": identifier}))


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
