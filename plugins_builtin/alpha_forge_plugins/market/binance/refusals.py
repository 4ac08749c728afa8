"""What the end of a WebSocket connection means: whether, when and how often to try again."""

from __future__ import annotations

from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidStatus,
    InvalidURI,
    WebSocketException,
)

from alpha_forge_plugins.market.binance.rest import stranger
from alpha_forge_plugins.market.binance.rest_client import tls_failure, unreachable, untrusted
from alpha_forge_plugins.market.binance.shard import Failure
from alpha_forge_plugins.market.binance.venue import Venue
from alpha_forge_sdk import SourceError

_TOO_MANY = 60.0  # seconds without a connection after a 429 that names none
_BANNED = 120.0  # after a 418: the shortest ban
_FIREWALL = 60.0
_PASSING = (408, 425)
_CAUSES = 200  # characters of a cause


def failure_of(error: BaseException, url: str, venue: Venue, patience: float) -> Failure | None:
    """What `error` means for the connection to `url`; None if it is no fault of the network but a defect here.

    ``patience`` is the longest wait, in seconds, that is no error for a first connection.
    """
    cause = f"{type(error).__name__}: {error}".rstrip(": ")[:_CAUSES]
    if isinstance(error, InvalidStatus):
        return _refused(error, url, venue, patience)
    if isinstance(error, InvalidURI):
        return Failure(cause, fatal=_wrong_url(url, cause, venue))
    if (untold := tls_failure(error)) is not None:
        return Failure(cause, fatal=untrusted(url, untold))
    if isinstance(error, ConnectionClosed):
        # 1008 comes with "Too many requests": who returns at once is banned.
        return Failure(cause, wait=5.0 if error.rcvd is not None and error.rcvd.code == 1008 else 0.0)
    if isinstance(error, InvalidHandshake):
        return Failure(cause, unreachable=stranger(url, cause))
    if isinstance(error, (OSError, EOFError, WebSocketException)):
        return Failure(cause, unreachable=unreachable(url, cause, 1))
    return None


def _refused(error: InvalidStatus, url: str, venue: Venue, patience: float) -> Failure:
    """A handshake that was answered with something else than 101."""
    status = error.response.status_code
    cause = f"HTTP {status}"
    said = bytes(error.response.body or b"")[:_CAUSES].decode("utf-8", "replace").strip()
    if status in (418, 429):
        told = error.response.headers.get("Retry-After", "").strip()
        wait = float(told) if told.isdigit() else (_BANNED if status == 418 else _TOO_MANY)
        return Failure(cause, wait, fatal=_banned(url, wait) if wait > patience else None)
    if status >= 500 or status in _PASSING:
        return Failure(cause, unreachable=unreachable(url, cause, 1))
    if status == 451:
        return Failure(
            cause,
            _FIREWALL,
            SourceError(
                "AF5004",
                f"{url} refuses to serve this location (HTTP 451): {said}".rstrip(": "),
                "run from a location that the exchange serves, or set endpoints to one that you may use",
            ),
        )
    if status == 403:
        return Failure(
            cause,
            _FIREWALL,
            SourceError(
                "AF5007",
                f"{url} is shut to this address by a firewall (HTTP 403)",
                "too many requests, or a proxy in between that forbids them: wait some minutes, then try again",
            ),
        )
    if status < 400:
        return Failure(cause, fatal=stranger(url, f"HTTP {status} instead of a WebSocket, {said[:80]!r}"))
    return Failure(cause, fatal=_wrong_url(url, cause, venue))


def _wrong_url(url: str, cause: str, venue: Venue) -> SourceError:
    return SourceError(
        "AF5007",
        f"{url} refuses WebSocket connections ({cause})",
        f"correct endpoints.ws: klines of {venue.name} are at {venue.stream_base}",
    )


def _banned(url: str, seconds: float) -> SourceError:
    return SourceError(
        "AF5002",
        f"{url} refuses connections from this address for {seconds:.0f} s more (rate limit or ban)",
        "wait that long; run fewer clients behind one address, or raise patience",
    )
