{% set is_async = cookiecutter.style == "async" -%}
{% set maybe_async = "async " if is_async else "" -%}
{% set maybe_await = "await " if is_async else "" -%}
{% set client = "AsyncClient" if is_async else "Client" -%}
"""Where the predictions go: a server that takes JSON arrays of records by HTTP."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx
from alpha_forge_sdk import RetryLater

Record = dict[str, Any]

_BUSY = (429, 503)


def record(symbol: str, ts: datetime, value: float, metadata: Mapping[str, Any]) -> Record:
    """One record as the server takes it. Raises TypeError or ValueError for what it can't take."""
    if not math.isfinite(value):
        raise ValueError(f"JSON has no {value}")
    moment = ts.astimezone(UTC).isoformat(timespec="microseconds")
    # The shortest text that reads back to the same float64: nothing of the value is lost.
    made = {"ts": moment, "symbol": symbol, "value": value, "metadata": dict(metadata)}
    json.dumps(made)
    return made


class Endpoint:
    """An open client of the server."""

    def __init__(self, url: str, timeout: float) -> None:
        """`timeout` is in seconds. Connects with the first records."""
        self._url = url
        self._client = httpx.{{ client }}(timeout=timeout)

    {{ maybe_async }}def put(self, records: Sequence[Record]) -> None:
        """Returns when the server has said that it has all of them.

        Raises RetryLater for what passes (unreachable, silent, busy), httpx.HTTPStatusError for another refusal.
        The server keeps each (ts, symbol) once, so that sending a record again does no harm.
        """
        if not records:
            return
        try:
            response = {{ maybe_await }}self._client.post(self._url, json=records)
        except httpx.TransportError as error:
            raise RetryLater(f"{self._url}: {type(error).__name__}: {error}") from error
        if response.status_code in _BUSY:
            after = response.headers.get("Retry-After", "")
            raise RetryLater(f"{self._url} is busy", after=float(after) if after.isdigit() else None)
        response.raise_for_status()

    {{ maybe_async }}def close(self) -> None:
        {{ maybe_await }}self._client.{{ "aclose" if is_async else "close" }}()
