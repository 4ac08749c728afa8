"""``sinks.clickhouse``: predictions as rows of one ClickHouse table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from alpha_forge_plugins.clickhouse_server import Name, ServerParams
from alpha_forge_plugins.sinks.file_sink import FileSink, once_each
from alpha_forge_sdk import AlphaForgeError, MissingExtraError, Prediction

if TYPE_CHECKING:
    from alpha_forge_plugins.sinks.clickhouse_table import PredictionTable

KeyColumn = Literal["ts", "symbol", "frame", "column", "dag_name"]


class ClickHouseSink(FileSink):
    """Inserts predictions into a ClickHouse table: the same symbol and ts is one row, the newest value stands.

    The table has ``symbol`` (String), ``ts`` (DateTime64(3, 'UTC') or finer), ``prediction`` (Float64), ``frame``,
    ``column``, ``dag_name`` and ``metadata`` (String; the last a JSON object of everything else). Further columns are
    left to their defaults. Its engine is ReplacingMergeTree, or a replicated or shared one, sorted by ``dedup_key``:
    that is what makes a record that comes again no second one. ClickHouse replaces when it merges; until then a
    reader says ``FROM predictions FINAL``. ``create_table: true`` makes such a table if there is none.

    A batch is one INSERT, with a token made of what is in it: sent again, it is dropped by the server, as long as the
    table remembers the token (``non_replicated_deduplication_window``, or the replicated one). So a value that comes
    again, unchanged, after another one has replaced it, does not replace that.

    Raises AlphaForgeError AF6050 if the server refuses the user, AF6051 for a missing database or table, AF6052 for
    another table than it needs, AF6053 for any other refusal, AF6054 for a certificate that isn't trusted,
    MissingExtraError AF3008, PluginError AF6011 outside open and close; RetryLater while the server can't be reached,
    is silent for ``timeout``, or too busy.
    """

    class Params(ServerParams):
        """Which server, which table, and what makes a row the same row."""

        table_name: Name = Field("predictions", description="the table in the database")
        compression: Literal["lz4", "zstd", "none"] = Field("lz4", description="how batches are packed")
        create_table: bool = Field(False, description="make the table if there is none")
        dedup_key: Annotated[tuple[KeyColumn, ...], Field(min_length=1), AfterValidator(once_each)] = Field(
            ("symbol", "ts"), description="columns that together name a row: the same key is one row"
        )
        timeout: int = Field(5, ge=1, le=10, description="seconds to connect, and to wait for an answer")

    examples = (
        {"host": "localhost", "table_name": "predictions", "create_table": True},
        {
            "host": "clickhouse.internal",
            "secure": True,
            "database": "signals",
            "table_name": "predictions",
            "user": "alpha_forge",
            "compression": "zstd",
            "dedup_key": ["dag_name", "column", "symbol", "ts"],
        },
    )

    idempotent_by: ClassVar[tuple[str, ...]] = ("symbol", "ts")
    on_conflict = "replace"
    ordered = False
    max_batch = 10_000
    dsl_name = "sinks.clickhouse"

    params: Params
    _store: PredictionTable | None

    def preflight(self) -> None:
        """Raise MissingExtraError, or AF6054 for a ``ca_cert`` that is no file: neither needs the server."""
        from importlib.util import find_spec
        from pathlib import Path

        if find_spec("clickhouse_connect") is None:
            raise MissingExtraError(self.dsl_name, "clickhouse")
        if self.params.ca_cert is not None and not Path(self.params.ca_cert).is_file():
            raise AlphaForgeError(
                "AF6054",
                f"ca_cert: {self.params.ca_cert} is no file",
                "name the authority's certificate, a PEM file",
            )

    def _opened(self) -> PredictionTable:
        from alpha_forge_plugins.sinks.clickhouse_table import PredictionTable

        return PredictionTable(self.params)

    def _row(self, prediction: Prediction) -> list[Any]:
        assert self._store is not None
        return self._store.row(prediction)
