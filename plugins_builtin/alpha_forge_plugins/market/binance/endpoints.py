"""Where the exchange is: the four hosts of a venue, or one URL of a local exchange that serves all.

Imports nothing but pydantic: parameter models are built whenever a pack is looked at.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


def _url(schemes: tuple[str, ...], example: str) -> AfterValidator:
    def check(value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in schemes or not parts.hostname:
            raise ValueError(f"{value!r} is not a URL of {' or '.join(schemes)}: for example {example}")
        return value.rstrip("/")

    return AfterValidator(check)


_Http = Annotated[str, _url(("http", "https"), "https://fapi.binance.com")]
_WebSocket = Annotated[str, _url(("ws", "wss"), "wss://fstream.binance.com/market")]


class Endpoints(BaseModel):
    """The exchange's four services."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    stream_path: ClassVar[str]
    """What stands between a local exchange's host and ``/stream``."""

    ws: _WebSocket
    rest: _Http
    archive: _Http = Field(
        "https://data.binance.vision", description="archive base; object keys are appended"
    )
    listing: _Http = Field(
        "https://s3-ap-northeast-1.amazonaws.com/data.binance.vision",
        description="S3 listing of the archive's bucket; ?prefix=… is appended",
    )

    @property
    def public(self) -> bool:
        """True if REST is Binance itself, which keeps the world's time."""
        host = urlsplit(self.rest).hostname or ""
        return host.endswith((".binance.com", ".binance.vision"))


def _under_market(value: str) -> str:
    parts = urlsplit(value)
    if (parts.hostname or "").endswith(".binance.com") and parts.path != "/market":
        raise ValueError(
            f"{value!r} acknowledges klines and never sends any: since 2026 they are under /market only, "
            "wss://fstream.binance.com/market"
        )
    return value


def _spot_host(value: str) -> str:
    if (urlsplit(value).hostname or "").startswith("fstream."):
        raise ValueError(f"{value!r} is the futures market; spot is at wss://stream.binance.com:9443")
    return value


class FuturesEndpoints(Endpoints):
    """The four services of USD-M futures.

    Klines are pushed under ``/market`` only; the older paths acknowledge a subscription and stay silent.
    """

    stream_path = "/market"

    ws: Annotated[_WebSocket, AfterValidator(_under_market)] = Field(
        "wss://fstream.binance.com/market", description="WebSocket base; /stream is appended"
    )
    rest: _Http = Field("https://fapi.binance.com", description="REST base; /fapi/v1/… is appended")


class SpotEndpoints(Endpoints):
    """The four services of the spot market."""

    stream_path = ""

    ws: Annotated[_WebSocket, AfterValidator(_spot_host)] = Field(
        "wss://stream.binance.com:9443", description="WebSocket base; /stream is appended"
    )
    rest: _Http = Field("https://api.binance.com", description="REST base; /api/v3/… is appended")


_E = TypeVar("_E", bound=Endpoints)


def one_host(url: str, venue: type[_E]) -> _E:
    """``http://127.0.0.1:8080`` → the endpoints of a local exchange that serves all four there."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is not a URL of http or https: for example http://127.0.0.1:8080")
    base = url.rstrip("/")
    socket = ("wss" if parts.scheme == "https" else "ws") + base[len(parts.scheme) :]
    return venue(ws=f"{socket}{venue.stream_path}", rest=base, archive=base, listing=base)


def _resolver(venue: type[Endpoints]) -> BeforeValidator:
    def resolved(value: Any) -> Any:
        return one_host(value, venue) if isinstance(value, str) else value

    return BeforeValidator(resolved, json_schema_input_type=venue | str)


FuturesEndpointsField = Annotated[FuturesEndpoints, _resolver(FuturesEndpoints)]
"""A parameter: the four URLs, or one that stands for all. Validated, it always is a `FuturesEndpoints`."""
SpotEndpointsField = Annotated[SpotEndpoints, _resolver(SpotEndpoints)]
"""The same for `SpotEndpoints`."""
