"""POSTs over one kept connection, each within a time that holds for the whole request. Imported when a sink opens.

Timeouts of HTTP clients are for each read: a receiver that sends a byte now and then holds them off for ever. Here
every step, from connecting to the end of the answer, gets what is left of the request's time.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable, Mapping
from typing import Any

import httpcore

from alpha_forge_plugins.sinks.webhook_messages import Answer

_READ_AT_MOST = 65_536
"""Bytes of an answer; what it says beyond that is left unread, with its connection."""

_TEXT = 4096
_PIECE = 16_384


class RequestFailed(Exception):
    """No whole answer came: refused, cut off, too late, no HTTP. What became of the request is unknown."""


class Untrusted(Exception):
    """The receiver's certificate was not accepted. Nothing was sent."""


class Client:
    """One receiver. ``seconds`` are for each request as a whole. Not for several threads."""

    def __init__(self, seconds: float, context: ssl.SSLContext | None) -> None:
        self._seconds = seconds
        self._clock = _Clock()
        # None would make httpcore read the system's certificates, which plain HTTP has no use for.
        self._pool = httpcore.ConnectionPool(
            ssl_context=context or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            max_connections=1,
            network_backend=_Backend(self._clock),
        )

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send, and read the whole answer. Raises RequestFailed, Untrusted."""
        self._clock.start(self._seconds)
        try:
            with self._pool.stream("POST", url, headers=list(headers.items()), content=body) as response:
                text = bytearray()
                for piece in response.iter_stream():
                    text += piece
                    if len(text) > _READ_AT_MOST:
                        break
                said = {
                    name.decode("ascii").lower(): value.decode("latin-1") for name, value in response.headers
                }
                return Answer(response.status, said, text[:_TEXT].decode("utf-8", "replace"))
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
            # httpcore tells of a certificate that failed by its text and its cause.
            if _is_certificate(error):
                raise Untrusted(str(error)) from error
            raise RequestFailed(f"{type(error).__name__}: {error or 'no answer in time'}") from error

    def close(self) -> None:
        """Close the connection. Idempotent."""
        self._pool.close()


def _is_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


class _Clock:
    """What is left of the request under way."""

    def __init__(self) -> None:
        self._deadline = 0.0

    def start(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds

    def left(self, late: type[Exception]) -> float:
        """Seconds, more than none. Raises `late` where none are left."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise late("the request did not end in time")
        return left


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, clock: _Clock) -> None:
        self._inner = inner
        self._clock = clock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._clock.left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _PIECE):
            self._inner.write(buffer[start : start + _PIECE], self._clock.left(httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self._clock.left(httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left), self._clock)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, clock: _Clock) -> None:
        self._inner = httpcore.SyncBackend()
        self._clock = clock

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left = self._clock.left(httpcore.ConnectTimeout)
        return _Stream(self._inner.connect_tcp(host, port, left, local_address, socket_options), self._clock)
