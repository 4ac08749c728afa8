"""HTTP/1.1 as far as an exchange needs it: GET requests in, whole responses out. Bytes to values, no I/O."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

#: A request head beyond this is refused: no client of a market data API sends so much.
MAX_HEAD: Final = 64 * 1024


class BadRequest(ValueError):
    """The bytes are no HTTP/1.1 request head that this server reads."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request without a body. `path` is percent-decoded; header names are in lower case; `head` the bytes
    it came as. `number` counts the requests for the same target."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    head: bytes
    number: int = 1

    @property
    def target(self) -> str:
        """What is asked for: path and query, the latter in a fixed order."""
        return f"{self.path}?{'&'.join(f'{name}={value}' for name, value in sorted(self.query.items()))}"

    @property
    def is_upgrade(self) -> bool:
        """Whether the client asks for a WebSocket."""
        return self.headers.get("upgrade", "").lower() == "websocket"

    @property
    def keeps_alive(self) -> bool:
        """Whether the connection may serve another request after this one."""
        return self.headers.get("connection", "").lower() != "close"

    @property
    def body_length(self) -> int:
        """Announced length of a body, which the server skips."""
        length = self.headers.get("content-length", "0")
        return int(length) if length.isdigit() else 0


@dataclass(frozen=True, slots=True)
class Response:
    """A whole response, and how it is spoilt on its way: cut after `cut_at` bytes of the body, its body spread over
    `span` real seconds, or, with `reset`, no response but the end of the connection."""

    status: int
    body: bytes = b""
    content_type: str = "application/json;charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)
    cut_at: int | None = None
    span: float = 0.0
    reset: bool = False

    def encode(self, *, keep_alive: bool, head_only: bool = False) -> bytes:
        """The response as bytes; without the body, but with its length, for HEAD."""
        try:
            phrase = HTTPStatus(self.status).phrase
        except ValueError:
            phrase = "I'm a teapot" if self.status == 418 else ""
        lines = [
            f"HTTP/1.1 {self.status} {phrase}",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
            f"Connection: {'keep-alive' if keep_alive else 'close'}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        return head if head_only else head + self.body


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A response with `value` as compact JSON."""
    body = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    return Response(status, body, headers=headers or {})


def parse_head(head: bytes) -> Request:
    """The request in `head`, which ends with the empty line. Raises BadRequest."""
    try:
        request_line, *header_lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        method, target, version = request_line.split(" ")
    except ValueError:
        raise BadRequest("the first line is not 'METHOD target HTTP/1.1'") from None
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise BadRequest(f"unknown protocol version {version!r}")
    headers: dict[str, str] = {}
    for line in header_lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadRequest(f"header line without a colon: {line!r}")
        headers[name.strip().lower()] = value.strip()
    if version == "HTTP/1.0":
        headers.setdefault("connection", "close")
    parts = urlsplit(target)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return Request(method, unquote(parts.path), query, headers, head)
