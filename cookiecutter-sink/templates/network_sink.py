{% set is_async = cookiecutter.style == "async" -%}
{% set batch = cookiecutter.form == "batch" -%}
{% set maybe_async = "async " if is_async else "" -%}
{% set maybe_await = "await " if is_async else "" -%}
"""The sink `sinks.{{ cookiecutter.name }}`: its parameters, what it promises, and how it keeps that."""

from __future__ import annotations

from collections.abc import {{ "Sequence" if batch else "Mapping" }}
{% if not batch %}from datetime import datetime
{% endif %}from typing import {% if not batch %}Any, {% endif %}ClassVar

from alpha_forge_sdk import Params as BaseParams
from alpha_forge_sdk import PluginError, {% if batch %}Prediction, {% endif %}Rejected, Sink
from pydantic import Field

from {{ cookiecutter.package }}.destination import Endpoint, record


class {{ cookiecutter.__class }}(Sink):
    """{{ cookiecutter.description }}

    Sends records (ts, symbol, value, metadata) as lines of JSON to a server that keeps each ts and symbol once; a
    later record replaces an earlier one. `{{ "emit_batch" if batch else "emit" }}` returns when the server has answered that it has them.
    """

    class Params(BaseParams):
        """Where the predictions go."""

        host: str = Field("localhost", min_length=1, description="the server's name or address")
        port: int = Field(7777, ge=1, le=65535, description="the server's port")
        table: str = Field("predictions", min_length=1, description="the table that records go to")
        timeout: float = Field(5.0, gt=0, le=20, description="seconds that the server may take")

    examples = ({"host": "localhost", "port": 7777, "table": "predictions"},)

    # What is declared here, the conformance kit proves.
    delivery = "effectively_once"
    idempotent_by: ClassVar[tuple[str, ...]] = ("ts", "symbol")
    on_conflict = "replace"
    non_finite = "reject"

    def __init__(self, params: Params) -> None:
        """Only remembers the parameters: I/O begins with `open`."""
        super().__init__(params)
        self._endpoint: Endpoint | None = None

    {{ maybe_async }}def open(self) -> None:
        """Make the client. It connects with the first records: a server that is down stops no start."""
        if self._endpoint is None:
            p = self.params
            self._endpoint = Endpoint(p.host, p.port, p.table, p.timeout)
{% if batch %}
    {{ maybe_async }}def emit_batch(self, predictions: Sequence[Prediction]) -> None:
        """Send the records, in one request. Any exception but Rejected means: send them again.

        Raises RetryLater while the server can't be reached, Rejected for records that can't be sent (a
        value that isn't finite), after all others are stored.
        """
        endpoint = self._opened()
        records, reasons = [], {}
        for index, p in enumerate(predictions):
            try:
                records.append(record(p.symbol, p.ts, p.value, p.metadata))
            except (TypeError, ValueError) as error:
                reasons[index] = str(error)
        {{ maybe_await }}endpoint.put(records)
        if reasons:
            raise Rejected(reasons)
{% else %}
    {{ maybe_async }}def emit(self, symbol: str, ts: datetime, prediction: float, metadata: Mapping[str, Any]) -> None:
        """Send one record.

        Raises RetryLater while the server can't be reached, Rejected if the record can't be sent (a value
        that isn't finite).
        """
        endpoint = self._opened()
        try:
            new = record(symbol, ts, prediction, metadata)
        except (TypeError, ValueError) as error:
            raise Rejected({0: str(error)}) from error
        {{ maybe_await }}endpoint.put([new])
{% endif %}
    {{ maybe_async }}def close(self) -> None:
        """Close the client. Idempotent."""
        endpoint, self._endpoint = self._endpoint, None
        if endpoint is not None:
            {{ maybe_await }}endpoint.close()

    def _opened(self) -> Endpoint:
        if self._endpoint is None:
            raise PluginError(
                "AF6011",
                "sinks.{{ cookiecutter.name }} got records outside open and close",
                "call open() first",
            )
        return self._endpoint
