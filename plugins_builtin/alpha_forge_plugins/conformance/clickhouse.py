"""Cases of what talks to ClickHouse, against a real server: out of a wheel, or that of ``AF_CLICKHOUSE_URL``."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread, Timer
from typing import Any

from alpha_forge_sdk import Bar, Interval, Prediction, SystemClock
from alpha_forge_sdk.conformance import DataSourceConformance, Injection, NotApplicable, SinkConformance
from alpha_forge_sdk.testing.engines.clickhouse import ClickHouseError, connection_params, shared_clickhouse
from alpha_forge_sdk.testing.fault_proxy import FaultProxy, fault_proxy
from alpha_forge_sdk.testing.predictions import METADATA, START

UNKNOWN_TABLE = 60
SECOND = Interval.parse("1s")
PAST, FUTURE = 60, 600
"""Bars of each symbol, before the table is made and after."""
_WITHIN_ROWS = 1000
"""Bytes of an answer: beyond its head, before the end of the rows of the past."""


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
        self._table, self._over = table, Event()
        self._insert(self._bars)
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
                    "lateness": 1,
                    # Impatient: a server that fell silent, or stays away, is to be noticed before the kit is.
                    "timeout": 1,
                    "patience": 3,
                }
        finally:
            self._over.set()
            server.query(f"DROP TABLE IF EXISTS {table}")

    def truth(self, params: Mapping[str, Any]) -> Iterable[tuple[str, Bar]]:
        return self._bars

    def disconnect(self, params: Mapping[str, Any]) -> None:
        # The next look runs into it; the ones after it connect anew.
        self._proxy.reset(once=True)

    def inject(self, params: Mapping[str, Any], fault: str, *, times: int | None = 1) -> Injection:
        if fault in ("late_close", "duplicate_close"):
            return self._rewrite(fault == "late_close", times or 4)
        proxy = self._proxy
        connections, down = proxy.connections, proxy.bytes_down
        if fault == "truncated":
            proxy.cut(_WITHIN_ROWS, direction="down", once=times == 1)
            return Injection(lambda: int(proxy.bytes_down - down >= _WITHIN_ROWS), proxy.lift)
        if fault == "stall":
            # It is over once the client has connected anew: it noticed, for nobody told it.
            proxy.stall()
        elif fault in ("disconnect", "server_error"):
            # HTTP either way: the stream asks and so does history.
            proxy.reset()
        else:
            raise NotApplicable(f"{fault} can't happen to a table that is asked over HTTP")

        if times is not None:
            Thread(target=self._lift_after, args=[connections + times], daemon=True).start()
        return Injection(lambda: proxy.connections - connections, proxy.lift)

    def _lift_after(self, connections: int) -> None:
        over = self._over
        while not over.wait(0.005):
            if self._proxy.connections >= connections:
                self._proxy.lift()
                return

    def _rewrite(self, late: bool, times: int) -> Injection:
        """The next bars of one symbol: inserted half a second late, or once more."""
        symbol = self._bars[0][0]
        first = SECOND.floor(SystemClock().now()) + 2 * SECOND.ns
        chosen = [(s, b) for s, b in self._bars if s == symbol and first <= b.ts < first + times * SECOND.ns]
        if not late:
            self._insert(chosen)
            return Injection(lambda: sum(b.ts <= SystemClock().now() for _, b in chosen), lambda: None)
        opens = ", ".join(str((b.ts - SECOND.ns) // SECOND.ns) for _, b in chosen)
        shared_clickhouse().query(
            f"ALTER TABLE {self._table} DELETE WHERE symbol = '{symbol}' AND toUnixTimestamp(open_time) IN ({opens}) "
            "SETTINGS mutations_sync = 2"
        )
        inserted: list[Bar] = []

        over = self._over

        def insert(bar: Bar) -> None:
            if not over.is_set():
                self._insert([(symbol, bar)])
                inserted.append(bar)

        for _, bar in chosen:
            wait = (bar.ts - SystemClock().now()) / SECOND.ns + 0.5
            timer = Timer(wait, insert, [bar])
            timer.daemon = True
            timer.start()
        return Injection(lambda: len(inserted), lambda: None)

    def _insert(self, bars: Iterable[tuple[str, Bar]]) -> None:
        rows = (
            "\t".join((s, str((bar.ts - SECOND.ns) // SECOND.ns), *map(repr, bar[1:]))) for s, bar in bars
        )
        shared_clickhouse().query(
            f"INSERT INTO {self._table} FORMAT TabSeparated", data="\n".join(rows).encode()
        )

    _table: str
    _over: Event
    _proxy: FaultProxy
    _bars: list[tuple[str, Bar]]


def made_bar(symbol: str, ts: int) -> Bar:
    """A bar that is a function of its symbol and close alone; prices with many digits."""
    close = 100 + (ts // SECOND.ns * 7919 + ord(symbol[0])) % 10_007 / 7
    return Bar(ts, close - 0.3, close + 1 / 3, close - 0.7, close, float(ts // SECOND.ns % 97))
