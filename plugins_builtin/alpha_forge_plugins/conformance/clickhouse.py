"""Cases of what talks to ClickHouse, against a real server: out of a wheel, or that of ``AF_CLICKHOUSE_URL``."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from alpha_forge_sdk import Prediction
from alpha_forge_sdk.conformance import SinkConformance
from alpha_forge_sdk.testing.engines.clickhouse import ClickHouseError, connection_params, shared_clickhouse
from alpha_forge_sdk.testing.predictions import METADATA, START

UNKNOWN_TABLE = 60


def table_of(prefix: str, folder: Path) -> str:
    """A table's name that belongs to `folder` alone."""
    return f"{prefix}_{hashlib.blake2b(str(folder).encode(), digest_size=8).hexdigest()}"


class ClickHouseSinkConformance(SinkConformance):
    """Reads the table over plain HTTP, ``FINAL``: what a reader sees who does not wait for merges."""

    plugin = "sinks.clickhouse"
    # Opening asks a handful of things, and each may take the client's timeout; one that hangs ends it.
    timeout = 3.0

    def params(self, tmp_path: Path) -> Mapping[str, Any]:
        table = table_of("predictions", tmp_path)
        return {
            **connection_params(shared_clickhouse()),
            "table_name": table,
            "create_table": True,
            "timeout": 1,
        }

    def read_back(self, params: Mapping[str, Any]) -> Iterator[Prediction]:
        columns = "symbol, toUnixTimestamp64Micro(ts), reinterpretAsUInt64(prediction)"
        query = (
            f"SELECT {columns}, frame, column, dag_name, metadata FROM {params['table_name']} FINAL "
            "FORMAT JSONCompactEachRow"
        )
        try:
            answer = shared_clickhouse().query(query)
        except ClickHouseError as error:
            if error.code == UNKNOWN_TABLE:
                return
            raise
        for line in answer.splitlines():
            symbol, micros, bits, *named, rest = json.loads(line)
            (value,) = struct.unpack("<d", struct.pack("<Q", int(bits)))
            kept = {
                name: text for name, text in zip(("frame", "column", "dag_name"), named, strict=True) if text
            }
            ts = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(micros))
            yield Prediction(symbol, ts, value, {**kept, **json.loads(rest)})

    def culprit(self) -> Prediction:
        """Half of a surrogate pair: no UTF-8 text can hold it."""
        return Prediction("\ud83d", START, 0.5, METADATA)

    def destination(self, params: Mapping[str, Any]) -> tuple[str, int]:
        return params["host"], params["port"]

    def through(self, params: Mapping[str, Any], host: str, port: int) -> Mapping[str, Any]:
        return {**params, "host": host, "port": port}
