{% set is_async = cookiecutter.style == "async" -%}
{% set maybe_async = "async " if is_async else "" -%}
"""Where the predictions go: a server that takes lines of JSON over TCP, and answers each with a line."""

from __future__ import annotations

{% if is_async %}import asyncio
{% endif %}import json
import math
{% if not is_async %}import socket
{% endif %}from collections.abc import Mapping, Sequence
{% if not is_async %}from contextlib import suppress
{% endif %}from datetime import UTC, datetime
{% if not is_async %}from io import BufferedRWPair
{% endif %}from typing import Any

from alpha_forge_sdk import RetryLater

Record = dict[str, Any]


def record(symbol: str, ts: datetime, value: float, metadata: Mapping[str, Any]) -> Record:
    """One record as the server takes it. Raises TypeError or ValueError for what it can't take."""
    if not math.isfinite(value):
        raise ValueError(f"JSON has no {value}")
    moment = ts.astimezone(UTC).isoformat(timespec="microseconds")
    # JSON gets the shortest text that reads back to the same float64: nothing of the value is lost.
    made = {"ts": moment, "symbol": symbol, "value": value, "metadata": dict(metadata)}
    json.dumps(made)
    return made


class Endpoint:
    """A client of the server. Connects when it has something to send, and again after a fault."""

    def __init__(self, host: str, port: int, table: str, timeout: float) -> None:
        """`timeout` is in seconds."""
        self._address = (host, port)
        self._table = table
        self._timeout = timeout
{%- if is_async %}
        self._stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
{%- else %}
        self._stream: BufferedRWPair | None = None
{%- endif %}

    {{ maybe_async }}def put(self, records: Sequence[Record]) -> None:
        """Returns when the server has said that it has all of them.

        Raises RetryLater if it can't be reached, is silent, or breaks off. Whether it has the records is unknown then;
        sending them again does no harm, since it keeps each (ts, symbol) once.
        """
        if not records:
            return
        request = json.dumps({"table": self._table, "put": records}).encode() + b"\n"
        try:
            answer = {% if is_async %}await {% endif %}self._ask(request)
            if json.loads(answer) != {"stored": len(records)}:
                raise ConnectionError(f"it answered {answer[:200]!r}")
        except (OSError, ValueError) as error:
            host, port = self._address
            raise RetryLater(f"{host}:{port}: {type(error).__name__}: {error}") from error
{% if is_async %}
    async def _ask(self, request: bytes) -> bytes:
        stream, self._stream = self._stream, None
        try:
            async with asyncio.timeout(self._timeout):
                if stream is None:
                    stream = await asyncio.open_connection(*self._address)
                reader, writer = stream
                writer.write(request)
                await writer.drain()
                answer = await reader.readline()
            if not answer.endswith(b"\n"):
                raise ConnectionError("it broke off")
            # Kept only after a whole exchange: an answer that comes too late must not be taken for the next one.
            self._stream = stream
            return answer
        finally:
            if stream is not None and self._stream is None:
                stream[1].close()

    async def close(self) -> None:
        """Idempotent."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream[1].close()
            await stream[1].wait_closed()
{% else %}
    def _ask(self, request: bytes) -> bytes:
        stream, self._stream = self._stream, None
        try:
            if stream is None:
                with socket.create_connection(self._address, self._timeout) as connection:
                    stream = connection.makefile("rwb")
            stream.write(request)
            stream.flush()
            answer: bytes = stream.readline()
            if not answer.endswith(b"\n"):
                raise ConnectionError("it broke off")
            # Kept only after a whole exchange: an answer that comes too late must not be taken for the next one.
            self._stream = stream
            return answer
        finally:
            if stream is not None and self._stream is None:
                _close(stream)

    def close(self) -> None:
        """Idempotent."""
        stream, self._stream = self._stream, None
        if stream is not None:
            _close(stream)


def _close(stream: BufferedRWPair) -> None:
    with suppress(OSError):  # it flushes, which fails on a broken connection
        stream.close()
{% endif -%}
