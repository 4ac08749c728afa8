"""The table of ``sinks.clickhouse``: how it is made, what is checked of it, and how a batch gets into it."""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from alpha_forge_plugins.sinks.clickhouse_client import connect, in_our_words, missing, told
from alpha_forge_plugins.sinks.rows import holds_utf8, metadata_texts
from alpha_forge_sdk import AlphaForgeError, Prediction

if TYPE_CHECKING:
    from alpha_forge_plugins.sinks.clickhouse import ClickHouseSink

COLUMNS = {
    "ts": "DateTime64(6, 'UTC')",
    "symbol": "String",
    "prediction": "Float64",
    "frame": "LowCardinality(String)",
    "column": "LowCardinality(String)",
    "dag_name": "LowCardinality(String)",
    "metadata": "String",
}
"""Columns, in the order of `rows.COLUMNS`, with the types of a table that the sink makes."""

REMEMBERED = 1000
"""Batches whose tokens a table that the sink makes remembers: hours of an ordinary run, and any redelivery."""

_TEXT = frozenset({"String", "LowCardinality(String)"})
_DATETIME64 = re.compile(r"DateTime64\((\d)(?:, '[^']*')?\)")
_COARSEST = 3

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
_LATEST = datetime(2300, 1, 1, tzinfo=UTC)
_LATEST_NS = datetime(2262, 4, 11, tzinfo=UTC)
"""What DateTime64 holds; with nanoseconds, 64 bits end earlier."""

_TABLE = "SELECT engine, sorting_key FROM system.tables WHERE database = {d:String} AND name = {t:String}"
_COLUMNS = (
    "SELECT name, type, is_in_partition_key, default_kind FROM system.columns "
    "WHERE database = {d:String} AND table = {t:String}"
)

_SETTINGS: Mapping[str, Any] = {
    # An answer means that the rows are in the table, not in a buffer: the server's default is the buffer.
    "async_insert": 0,
    "insert_deduplicate": 1,
    # A backlog may reach over many months, whatever the table is partitioned by.
    "max_partitions_per_insert_block": 0,
}


class PredictionTable:
    """An open connection to one table, made where that is wanted, and checked. `put` and `close` it."""

    def __init__(self, params: ClickHouseSink.Params) -> None:
        """Raises AlphaForgeError or RetryLater, as the sink's class says; nothing stays open then."""
        self._params = params
        self._client = connect(params)
        try:
            with told(params):
                types = self._checked()
        except BaseException:
            self.close()
            raise
        self._types = [types[name] for name in COLUMNS]
        self._digits = precision(types["ts"]) or 0

    def row(self, prediction: Prediction) -> list[Any]:
        """The values of one row in the order of `COLUMNS`. Raises ValueError or TypeError for what it can't hold."""
        symbol, texts = prediction.symbol, metadata_texts(prediction)
        holds_utf8(symbol, *texts)
        return [ticks(prediction.ts, self._digits), symbol, float(prediction.value), *texts]

    def put(self, rows: Sequence[Sequence[Any]]) -> None:
        """One INSERT; returns when the table has the rows. Raises AlphaForgeError or RetryLater."""
        columns = [list(column) for column in zip(*rows, strict=True)]
        with told(self._params):
            self._client.insert(
                self._params.table_name,
                columns,
                database=self._params.database,
                column_names=list(COLUMNS),
                column_type_names=self._types,
                column_oriented=True,
                settings={**_SETTINGS, "insert_deduplication_token": token_of(columns)},
            )

    def close(self) -> None:
        """Close the connections. Idempotent."""
        self._client.close()

    def _checked(self) -> dict[str, str]:
        """Make the table where that is wanted; → the types of its columns.

        Raises AlphaForgeError AF6050 to AF6052 for a table that can't be used.
        """
        p = self._params
        where = {"d": p.database, "t": p.table_name}
        if not (tables := self._rows(_TABLE, where)):
            if not p.create_table:
                raise missing(p)
            self._client.command(creation(p))
            tables = self._rows(_TABLE, where)
        self._may_insert()
        columns = self._rows(_COLUMNS, where)
        ((engine, sorting_key),) = tables
        problems = [*column_problems(columns), *key_problems(engine, sorting_key, columns, p.dedup_key)]
        if problems:
            raise AlphaForgeError(
                "AF6052",
                f"{p.database}.{p.table_name} is not the table that sinks.clickhouse needs: {'; '.join(problems)}",
                f"make one with create_table: true under another table_name, or by {creation(p)}",
            )
        return {name: type_ for name, type_, _, _ in columns}

    def _may_insert(self) -> None:
        """Raises AlphaForgeError AF6050 for a user that may only read. Servers too old to be asked tell later."""
        from clickhouse_connect.driver.exceptions import DatabaseError

        p = self._params
        try:
            granted = self._client.command(f"CHECK GRANT INSERT ON `{p.database}`.`{p.table_name}`")
        except DatabaseError as error:
            if error.code is None:
                raise
            return
        if granted != 1:
            denied = DatabaseError("it may not INSERT", code=497)
            raise in_our_words(denied, p)

    def _rows(self, query: str, values: Mapping[str, str]) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self._client.query(query, parameters=dict(values)).result_rows
        return found


def creation(params: ClickHouseSink.Params) -> str:
    """The statement that makes the table if there is none."""
    columns = ", ".join(f"`{name}` {type_}" for name, type_ in COLUMNS.items())
    key = ", ".join(f"`{name}`" for name in params.dedup_key)
    return (
        f"CREATE TABLE IF NOT EXISTS `{params.database}`.`{params.table_name}` ({columns}) "
        f"ENGINE = ReplacingMergeTree ORDER BY ({key}) "
        # Synced, so that what the sink was told is stored outlives a power cut, too.
        f"SETTINGS non_replicated_deduplication_window = {REMEMBERED}, "
        "fsync_after_insert = 1, fsync_part_directory = 1"
    )


def token_of(columns: Sequence[Sequence[Any]]) -> str:
    """The same for the same rows in any process, so that a batch that comes again is dropped; else another one."""
    digest = hashlib.blake2b(digest_size=16)
    for column in columns:
        if isinstance(column[0], str):
            # With the lengths, no two columns of texts make the same bytes.
            digest.update(array("Q", map(len, column)).tobytes())
            digest.update("".join(column).encode())
        else:
            digest.update(array("d" if isinstance(column[0], float) else "q", column).tobytes())
    return digest.hexdigest()


def column_problems(columns: Sequence[tuple[Any, ...]]) -> list[str]:
    """What is wrong with the columns of a table: (name, type, …, default kind) each."""
    found = {name: (type_, default) for name, type_, _, default in columns}
    problems = []
    for name in COLUMNS:
        type_, default = found.get(name, ("", ""))
        if name == "ts":
            digits, wanted = precision(type_), "DateTime64(3, 'UTC') or finer"
            fits = digits is not None and digits >= _COARSEST
        elif name == "prediction":
            fits, wanted = type_ == "Float64", "Float64"
        else:
            fits, wanted = type_ in _TEXT, "String"
        if not type_:
            problems.append(f"it lacks the column {name} ({wanted})")
        elif not fits:
            problems.append(f"{name} is {type_} instead of {wanted}")
        elif default in ("MATERIALIZED", "ALIAS"):
            problems.append(f"{name} is {default} and can't be inserted")
    return problems


def key_problems(
    engine: str, sorting_key: str, columns: Sequence[tuple[Any, ...]], wanted: Sequence[str]
) -> list[str]:
    """Why the table would not replace a row by one with the same key."""
    if not engine.endswith("ReplacingMergeTree"):
        return [f"its engine is {engine} instead of ReplacingMergeTree"]
    problems = []
    key = {part.strip().strip("`") for part in sorting_key.split(",")}
    if key != set(wanted):
        problems.append(f"it is sorted by ({sorting_key}) instead of ({', '.join(wanted)}), the dedup_key")
    # Rows are replaced within a partition only: it has to follow from the key.
    if others := [name for name, _, partitions, _ in columns if partitions and name not in wanted]:
        problems.append(f"it is partitioned by {', '.join(others)}, which is not in the key")
    return problems


def precision(type_: str) -> int | None:
    """Digits of the second that a DateTime64 has; None for another type."""
    match = _DATETIME64.fullmatch(type_)
    return int(match[1]) if match else None


def ticks(ts: datetime, digits: int) -> int:
    """`ts` in units of ``10 ** -digits`` s since 1970. Raises ValueError where the column can't hold it exactly."""
    latest = _LATEST if digits < 9 else _LATEST_NS
    if not _EARLIEST <= ts < latest:
        raise ValueError(f"DateTime64({digits}) holds no {ts.isoformat()}")
    micros = (ts - _EPOCH) // _MICROSECOND
    if digits >= 6:
        return int(micros * 10 ** (digits - 6))
    whole, rest = divmod(micros, 10 ** (6 - digits))
    if rest:
        raise ValueError(f"DateTime64({digits}) is too coarse for {ts.isoformat()}")
    return int(whole)
