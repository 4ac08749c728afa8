{% set is_async = cookiecutter.style == "async" -%}
{% set batch = cookiecutter.form == "batch" -%}
{% set maybe_async = "async " if is_async else "" -%}
"""The sink `sinks.{{ cookiecutter.name }}`: its parameters, what it promises, and how it keeps that."""

from __future__ import annotations

{% if is_async %}import asyncio
{% endif %}from collections.abc import {% if is_async %}Callable, {% endif %}{{ "Sequence" if batch else "Mapping" }}
{% if is_async %}from concurrent.futures import ThreadPoolExecutor
{% endif %}{% if not batch %}from datetime import datetime
{% endif %}from typing import {% if not batch %}Any, {% endif %}ClassVar{% if is_async %}, TypeVar{% endif %}

from alpha_forge_sdk import Params as BaseParams
from alpha_forge_sdk import PluginError, {% if batch %}Prediction, {% endif %}Rejected, Sink
from pydantic import Field

from {{ cookiecutter.package }}.destination import Table, row
{% if is_async %}
T = TypeVar("T")
{% endif %}

class {{ cookiecutter.__class }}(Sink):
    """{{ cookiecutter.description }}

    Rows of the table `predictions` in a SQLite file: ts, symbol, value, metadata. A record whose ts and symbol
    are there already replaces what is there. `{{ "emit_batch" if batch else "emit" }}` returns when SQLite has committed and synced.
    """

    class Params(BaseParams):
        """Where the predictions go."""

        path: str = Field(min_length=1, description="the SQLite file; made if it is absent, its directory is not")

    examples = ({"path": "predictions.sqlite"},)

    # What is declared here, the conformance kit proves.
    delivery = "effectively_once"
    idempotent_by: ClassVar[tuple[str, ...]] = ("ts", "symbol")
    on_conflict = "replace"

    def __init__(self, params: Params) -> None:
        """Only remembers the parameters: I/O begins with `open`."""
        super().__init__(params)
        self._table: Table | None = None
{%- if is_async %}
        self._worker: ThreadPoolExecutor | None = None
{%- endif %}

    {{ maybe_async }}def open(self) -> None:
        """Open the file. Raises sqlite3.Error if it can't be; the runtime tries again later."""
{%- if is_async %}
        # SQLite blocks, and wants one thread: it gets one of its own.
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, "sinks.{{ cookiecutter.name }}")
        if self._table is None:
            self._table = await self._in_worker(lambda: Table(self.params.path))
{%- else %}
        if self._table is None:
            self._table = Table(self.params.path)
{%- endif %}
{% if batch %}
    {{ maybe_async }}def emit_batch(self, predictions: Sequence[Prediction]) -> None:
        """Store the records, in one transaction. Any exception but Rejected means: none is stored.

        Raises Rejected for records that no row can hold, after all others are stored.
        """
        table = self._opened()
        rows, reasons = [], {}
        for index, p in enumerate(predictions):
            try:
                rows.append(row(p.symbol, p.ts, p.value, p.metadata))
            except (TypeError, ValueError) as error:
                reasons[index] = f"{type(error).__name__}: {error}"
        {% if is_async %}await self._in_worker(lambda: table.put(rows)){% else %}table.put(rows){% endif %}
        if reasons:
            raise Rejected(reasons)
{% else %}
    {{ maybe_async }}def emit(self, symbol: str, ts: datetime, prediction: float, metadata: Mapping[str, Any]) -> None:
        """Store one record. Raises Rejected if no row can hold it; any other exception means: not stored."""
        table = self._opened()
        try:
            new = row(symbol, ts, prediction, metadata)
        except (TypeError, ValueError) as error:
            raise Rejected({0: f"{type(error).__name__}: {error}"}) from error
        {% if is_async %}await self._in_worker(lambda: table.put([new])){% else %}table.put([new]){% endif %}
{% endif %}
    {{ maybe_async }}def close(self) -> None:
        """Release the file{% if is_async %} and the thread{% endif %}. Idempotent."""
        table, self._table = self._table, None
{%- if is_async %}
        worker = self._worker
        try:
            if table is not None:
                await self._in_worker(table.close)
        finally:
            self._worker = None
            if worker is not None:
                worker.shutdown()
{%- else %}
        if table is not None:
            table.close()
{%- endif %}

    def _opened(self) -> Table:
        if self._table is None:
            raise PluginError(
                "AF6011",
                "sinks.{{ cookiecutter.name }} got records outside open and close",
                "call open() first",
            )
        return self._table
{% if is_async %}
    async def _in_worker(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, function)
{% endif -%}
