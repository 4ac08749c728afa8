"""Cases of what talks to ClickHouse, against a real server: out of a wheel, or that of ``AF_CLICKHOUSE_URL``."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from alpha_forge_sdk import Bar, Interval, Prediction, SystemClock
from alpha_forge_sdk.conformance import DataSourceConformance, SinkConformance
from alpha_forge_sdk.testing.engines.clickhouse import ClickHouseError, connection_params, shared_clickhouse
from alpha_forge_sdk.testing.fault_proxy import FaultProxy, fault_proxy
from alpha_forge_sdk.testing.predictions import METADATA, START

UNKNOWN_TABLE = 60
SECOND = Interval.parse("1s")
PAST, FUTURE = 60, 600
"""Bars of each symbol, before the table is made and after."""


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


class ClickHousePollConformance(DataSourceConformance):
    """A table that holds its future already: only the clock keeps bars from being seen before they have closed."""

    plugin = "data.clickhouse_poll"
    stream_bars = 2

    @contextmanager
    def running(self, tmp_path: Path) -> Iterator[Mapping[str, Any]]:
        server = shared_clickhouse()
        table = table_of("bars", tmp_path)
        now = SECOND.floor(SystemClock().now())
        closes = range(now - PAST * SECOND.ns, now + FUTURE * SECOND.ns, SECOND.ns)
        self._bars = [(symbol, made_bar(symbol, ts)) for symbol in ("AAAUSDT", "BBBUSDT") for ts in closes]
        server.query(
            f"CREATE TABLE {table} (symbol String, open_time DateTime('UTC'), "
            "open Float64, high Float64, low Float64, close Float64, volume Float64) "
            "ENGINE = MergeTree ORDER BY (symbol, open_time)"
        )
        rows = (
            "\t".join((s, str((bar.ts - SECOND.ns) // SECOND.ns), *map(repr, bar[1:])))
            for s, bar in self._bars
        )
        server.query(f"INSERT INTO {table} FORMAT TabSeparated", data="\n".join(rows).encode())
        try:
            with fault_proxy(server.host, server.port) as self._proxy:
                host, port = self._proxy.address
                yield {
                    **connection_params(server),
                    "host": host,
                    "port": port,
                    "table_name": table,
                    "universe": ["AAAUSDT", "BBBUSDT"],
                    "interval": "1s",
                    "poll_seconds": 0.05,
                }
        finally:
            server.query(f"DROP TABLE IF EXISTS {table}")

    def truth(self, params: Mapping[str, Any]) -> Iterable[tuple[str, Bar]]:
        return self._bars

    def disconnect(self, params: Mapping[str, Any]) -> None:
        # The next look runs into it; the ones after it connect anew.
        self._proxy.reset(once=True)

    _proxy: FaultProxy
    _bars: list[tuple[str, Bar]]


def made_bar(symbol: str, ts: int) -> Bar:
    """A bar that is a function of its symbol and close alone; prices with many digits."""
    close = 100 + (ts // SECOND.ns * 7919 + ord(symbol[0])) % 10_007 / 7
    return Bar(ts, close - 0.3, close + 1 / 3, close - 0.7, close, float(ts // SECOND.ns % 97))
