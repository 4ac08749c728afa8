"""The sink `sinks.duckdb`: its parameters, what it promises, and how it keeps that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from alpha_forge_sdk import AlphaForgeError, PluginError, Prediction, Rejected, RetryLater, Sink
from alpha_forge_sdk import Params as BaseParams
from pydantic import Field

from alpha_forge_duckdb.destination import Locked, Table, row

_SOON = 0.2
"""Seconds after which a file that was locked is tried again."""


class DuckDBSink(Sink):
    """Stores predictions in a table of a DuckDB file.

    Columns: ts (TIMESTAMP, UTC), symbol, value (DOUBLE), metadata (a JSON object), id (rising, in the order in which
    records came). A record whose ts and symbol are there already replaces value and metadata. The file is open only
    while a batch is written: others may write to it too, and read it in between.
    """

    class Params(BaseParams):
        """Where the predictions go."""

        path: str = Field(min_length=1, description="the DuckDB file; made if it is absent, its directory is not")
        table: str = Field(
            "predictions",
            pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$",
            description="the table; made if it is absent",
        )

    examples = (
        {"path": "predictions.duckdb"},
        {"path": "outputs/signals.duckdb", "table": "momentum"},
    )

    # What is declared here, the conformance kit proves.
    delivery = "effectively_once"
    idempotent_by: ClassVar[tuple[str, ...]] = ("ts", "symbol")
    on_conflict = "replace"

    def __init__(self, params: Params) -> None:
        """Only remembers the parameters: I/O begins with `open`."""
        super().__init__(params)
        self._table: Table | None = None

    def preflight(self) -> None:
        """Raises AlphaForgeError AF6003 if the directory does not exist: `open` would fail."""
        parent = Path(self.params.path).parent
        if not parent.is_dir():
            raise AlphaForgeError("AF6003", f"the directory {parent} does not exist", "make it, or mend `path`")

    def open(self) -> None:
        """Make file and table if they are absent. Raises RetryLater while another process writes, or duckdb.Error."""
        table = Table(self.params.path, self.params.table)
        _unlocked(table.create)
        self._table = table

    def emit_batch(self, predictions: Sequence[Prediction]) -> None:
        """Store the records, in one transaction. Any exception but Rejected means: none is stored.

        Raises RetryLater while another process writes, Rejected for records that no row can hold, after all others are
        stored.
        """
        if self._table is None:
            raise PluginError("AF6011", "sinks.duckdb got records outside open and close", "call open() first")
        table, rows, reasons = self._table, [], {}
        for index, p in enumerate(predictions):
            try:
                rows.append(row(p.symbol, p.ts, p.value, p.metadata))
            except (TypeError, ValueError) as error:
                reasons[index] = f"{type(error).__name__}: {error}"
        _unlocked(lambda: table.put(rows))
        if reasons:
            raise Rejected(reasons)

    def close(self) -> None:
        """Nothing is held open between batches. Idempotent."""
        self._table = None


def _unlocked(work: Callable[[], None]) -> None:
    try:
        work()
    except Locked as error:
        raise RetryLater(str(error), after=_SOON) from error
