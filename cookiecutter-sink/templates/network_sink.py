{% set is_async = cookiecutter.style == "async" -%}
{% set batch = cookiecutter.form == "batch" -%}
{% set maybe_async = "async " if is_async else "" -%}
{% set maybe_await = "await " if is_async else "" -%}
"""The sink `sinks.{{ cookiecutter.name }}`: its parameters, what it promises, and how it keeps that."""

from __future__ import annotations

from collections.abc import {{ "Sequence" if batch else "Mapping" }}
{% if not batch %}from datetime import datetime
{% endif %}from typing import TYPE_CHECKING, {% if not batch %}Any, {% endif %}ClassVar

from alpha_forge_sdk import Params as BaseParams
from alpha_forge_sdk import PluginError, {% if batch %}Prediction, {% endif %}Rejected, Sink
from pydantic import Field

if TYPE_CHECKING:
    from {{ cookiecutter.package }}.destination import Endpoint


class {{ cookiecutter.__class }}(Sink):
    """{{ cookiecutter.description }}

    Posts JSON arrays of records (ts, symbol, value, metadata) to a server that keeps each ts and symbol once; a
    later record replaces an earlier one. `{{ "emit_batch" if batch else "emit" }}` returns when the server has answered that it has them.
    """

    class Params(BaseParams):
        """Where the predictions go."""

        url: str = Field(
            pattern=r"^https?://[^\s/]+(/\S*)?$",
            description="where records are posted to, for example http://localhost:8080/predictions",
        )
        timeout: float = Field(5.0, gt=0, le=20, description="seconds to wait for the server at each step")

    examples = ({"url": "http://localhost:8080/predictions"},)

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
        """Make the client. The server is met with the first records."""
        # Imported here: the HTTP client is not needed to list or check plugins.
        from {{ cookiecutter.package }}.destination import Endpoint

        if self._endpoint is None:
            self._endpoint = Endpoint(self.params.url, self.params.timeout)
{% if batch %}
    {{ maybe_async }}def emit_batch(self, predictions: Sequence[Prediction]) -> None:
        """Send the records, in one request.

        Raises RetryLater while the server can't be reached or is busy, Rejected for records that can't be sent (a
        value that isn't finite), after all others are stored.
        """
        from {{ cookiecutter.package }}.destination import record

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

        Raises RetryLater while the server can't be reached or is busy, Rejected if the record can't be sent (a value
        that isn't finite).
        """
        from {{ cookiecutter.package }}.destination import record

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
