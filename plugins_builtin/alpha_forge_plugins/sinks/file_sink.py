"""What the sinks that store in files have in common: a path, a key, and what becomes of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Protocol

from pydantic import AfterValidator, Field

from alpha_forge_plugins.sinks.rows import KeyColumn
from alpha_forge_sdk import Params, PluginError, Prediction, Rejected, Sink

LOCK_WAIT = 20.0
"""Seconds to wait for another writer: less than ``timeout``, so that the wait ends by itself."""


def once_each(names: tuple[str, ...]) -> tuple[str, ...]:
    """Validates a key. Raises ValueError if a name stands twice."""
    if len(set(names)) != len(names):
        raise ValueError(f"a column is named twice in {list(names)}")
    return names


RowKey = Annotated[
    tuple[Literal["ts", "symbol", "frame", "column", "dag_name"], ...],
    Field(min_length=1),
    AfterValidator(once_each),
]
"""A key of texts: where rows are replaced, the value that may change can't be a part of it."""


class FileParams(Params):
    """Where to, and what makes a row the same row."""

    path: str = Field(min_length=1, description="the file; missing directories are made")
    dedup_key: Annotated[tuple[KeyColumn, ...], Field(min_length=1), AfterValidator(once_each)] = Field(
        ("ts", "symbol"), description="columns that together name a row: the same key is stored once"
    )


class Store(Protocol):
    """An opened destination."""

    def put(self, rows: Sequence[Any]) -> object:
        """Store the rows durably, each key once."""

    def close(self) -> None:
        """Release the destination. Idempotent."""


class FileSink(Sink):
    """Base of the file sinks: stores what is new of a batch and rejects, one by one, what can't be stored."""

    Params = FileParams
    delivery = "effectively_once"
    idempotent_by: ClassVar[tuple[str, ...]] = ("ts", "symbol")
    dsl_name: ClassVar[str]

    def __init__(self, params: FileParams) -> None:
        super().__init__(params)
        # The declaration of the class is that of the default key; another key declares itself.
        self.idempotent_by = params.dedup_key  # type: ignore[misc]
        self._store: Store | None = None

    def _opened(self) -> Store:
        """Open the destination, made where absent. Raises AlphaForgeError, or RetryLater."""
        raise NotImplementedError

    def _row(self, prediction: Prediction) -> Any:
        """The record as the store takes it. Raises ValueError or TypeError for what it can't hold."""
        raise NotImplementedError

    def open(self) -> None:
        """Make directories and destination where absent; check what is there."""
        if self._store is None:
            self._store = self._opened()

    def emit_batch(self, predictions: Sequence[Prediction]) -> None:
        """Store the batch, durably, before it returns; see the class.

        Raises Rejected for records that the destination can't hold, RetryLater while another process holds its
        lock, OSError if the disk refuses, AlphaForgeError AF6004, AF6010 or AF6012 if others changed it meanwhile.
        """
        if self._store is None:
            raise PluginError(
                "AF6011", f"{self.dsl_name} got records outside open and close", "call open() first"
            )
        rows, reasons = [], {}
        for index, prediction in enumerate(predictions):
            try:
                rows.append(self._row(prediction))
            except (TypeError, ValueError, RecursionError) as error:
                reasons[index] = f"{type(error).__name__}: {error}"
        if rows:
            self._store.put(rows)
        if reasons:
            raise Rejected(reasons)

    def close(self) -> None:
        """Release the destination. Idempotent."""
        store, self._store = self._store, None
        if store is not None:
            store.close()
