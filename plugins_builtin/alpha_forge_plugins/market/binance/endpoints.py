"""Where the exchange is: the four hosts of Binance USD-M, or one URL of a local exchange that serves all.

Imports nothing but pydantic: parameter models are built whenever a pack is looked at.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

PUBLIC_REST = "https://fapi.binance.com"


def _url(schemes: tuple[str, ...], example: str) -> AfterValidator:
    def check(value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in schemes or not parts.hostname:
            raise ValueError(f"{value!r} is not a URL of {' or '.join(schemes)}: for example {example}")
        return value.rstrip("/")

    return AfterValidator(check)


_Http = Annotated[str, _url(("http", "https"), PUBLIC_REST)]
_WebSocket = Annotated[str, _url(("ws", "wss"), "wss://fstream.binance.com/market")]


class Endpoints(BaseModel):
    """The exchange's four services.

    Klines are pushed under ``/market`` only; the older paths acknowledge a subscription and stay silent.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    ws: _WebSocket = Field(
        "wss://fstream.binance.com/market", description="WebSocket base; /stream is appended"
    )
    rest: _Http = Field(PUBLIC_REST, description="REST base; /fapi/v1/… is appended")
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
        return self.rest == PUBLIC_REST


def one_host(url: str) -> Endpoints:
    """``http://127.0.0.1:8080`` → the endpoints of a local exchange that serves all four there."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is not a URL of http or https: for example http://127.0.0.1:8080")
    base = url.rstrip("/")
    socket = ("wss" if parts.scheme == "https" else "ws") + base[len(parts.scheme) :]
    return Endpoints(ws=f"{socket}/market", rest=base, archive=base, listing=base)


def _resolved(value: Any) -> Any:
    return one_host(value) if isinstance(value, str) else value


EndpointsField = Annotated[Endpoints, BeforeValidator(_resolved, json_schema_input_type=Endpoints | str)]
"""A parameter: the four URLs, or one that stands for all. Validated, it always is an `Endpoints`."""
