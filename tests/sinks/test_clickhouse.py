"""``sinks.clickhouse`` against a real server: the kit's checks, other people's tables, refusals, and a server that dies."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from alpha_forge_plugins.conformance.clickhouse import ClickHouseSinkConformance, table_of
from alpha_forge_plugins.sinks.clickhouse import ClickHouseSink
from alpha_forge_sdk import AlphaForgeError, MissingExtraError, Prediction, Rejected, RetryLater
from alpha_forge_sdk.conformance.runner import Session
from alpha_forge_sdk.testing.engines.clickhouse import (
    READER,
    ClickHouse,
    connection_params,
    running_clickhouse,
    shared_clickhouse,
)
from alpha_forge_sdk.testing.predictions import METADATA, made_predictions

HOUR = datetime(2026, 1, 5, 13, tzinfo=UTC)
GOOD = (
    "symbol String, ts DateTime64(6, 'UTC'), prediction Float64, frame String, column String, "
    "dag_name String, metadata String"
)
REPLACING = "ENGINE = ReplacingMergeTree ORDER BY (symbol, ts)"


class TestClickHouseSink(ClickHouseSinkConformance):
    """One test for each check of the kit."""

    crashes = 16


def test_nothing_is_waived_and_nothing_skipped_but_what_does_not_apply(tmp_path: Path) -> None:
    assert ClickHouseSinkConformance.waivers == {}
    skipped = {o.id for o in Session.of(TestClickHouseSink, tmp_path).all() if o.status == "skip"}
    # One form of emit; a sorted table keeps no order of arrival; no file of its own.
    assert {i for i in skipped if i.startswith("AF-S")} == {"AF-S06", "AF-S07", "AF-S20"}


@pytest.fixture
def server() -> ClickHouse:
    return shared_clickhouse()


@pytest.fixture
def table(tmp_path: Path) -> str:
    return table_of("sink", tmp_path)


@pytest.fixture
def params(server: ClickHouse, table: str) -> Mapping[str, Any]:
    return {**connection_params(server), "table_name": table, "timeout": 2}


def made(params: Mapping[str, Any], **others: Any) -> ClickHouseSink:
    return ClickHouseSink(ClickHouseSink.Params.model_validate({**params, **others}))


def stored(params: Mapping[str, Any], *batches: list[Prediction], **others: Any) -> None:
    """One life of the sink, all batches."""
    sink = made(params, **others)
    try:
        sink.open()
        for batch in batches:
            sink.emit_batch(batch)
    finally:
        sink.close()


def refusal(params: Mapping[str, Any], **others: Any) -> AlphaForgeError:
    """What open raises; that no secret is in it is the kit's to judge."""
    with pytest.raises(AlphaForgeError) as caught:
        stored(params, **others)
    return caught.value


def test_without_create_table_a_missing_table_is_not_made(params: Mapping[str, Any], table: str) -> None:
    error = refusal(params)
    assert (error.code, table in error.message, "create_table: true" in error.help) == ("AF6051", True, True)
    assert refusal(params, database="nobodys").code == "AF6051"
    assert shared_clickhouse().query(f"EXISTS TABLE {table}") == "0\n"


def test_who_may_not_write_is_told_at_open(params: Mapping[str, Any], server: ClickHouse, table: str) -> None:
    wrong = refusal(params, password="not-the-password")
    assert (wrong.code, "not-the-password" in str(wrong)) == ("AF6050", False)
    reader = {"user": READER.name, "password": READER.password}
    assert refusal(params, create_table=True, **reader).code == "AF6050"
    server.query(f"CREATE TABLE {table} ({GOOD}) {REPLACING}")
    error = refusal(params, **reader)
    assert (error.code, READER.name in error.message) == ("AF6050", True)
    assert "INSERT" in error.message


@pytest.mark.parametrize(
    ("columns", "engine", "seen"),
    [
        (GOOD.replace(", metadata String", ""), REPLACING, "lacks the column metadata"),
        (GOOD.replace("DateTime64(6, 'UTC')", "DateTime('UTC')"), REPLACING, "ts is DateTime"),
        (GOOD.replace("DateTime64(6, 'UTC')", "DateTime64(2, 'UTC')"), REPLACING, "ts is DateTime64(2"),
        (GOOD.replace("Float64", "Float32"), REPLACING, "prediction is Float32"),
        (GOOD.replace("Float64", "Decimal(18, 8)"), REPLACING, "prediction is Decimal(18, 8)"),
        (GOOD.replace("Float64", "Float64 MATERIALIZED 1"), REPLACING, "prediction is MATERIALIZED"),
        (GOOD, "ENGINE = MergeTree ORDER BY (symbol, ts)", "its engine is MergeTree"),
        (GOOD, "ENGINE = Memory", "its engine is Memory"),
        (GOOD, "ENGINE = ReplacingMergeTree ORDER BY symbol", "sorted by (symbol)"),
        (GOOD, "ENGINE = ReplacingMergeTree ORDER BY (symbol, ts, column)", "sorted by (symbol, ts, column)"),
        (GOOD, f"{REPLACING} PARTITION BY frame", "partitioned by frame"),
    ],
)
def test_a_table_that_would_not_keep_the_promises_is_refused(
    params: Mapping[str, Any], server: ClickHouse, table: str, columns: str, engine: str, seen: str
) -> None:
    server.query(f"CREATE TABLE {table} ({columns}) {engine}")
    error = refusal(params, create_table=True)
    assert (error.code, seen in error.message) == ("AF6052", True), error.message
    assert f"CREATE TABLE IF NOT EXISTS `{server.database}`.`{table}`" in error.help


def test_the_statement_of_the_refusal_makes_a_table_that_is_taken(
    params: Mapping[str, Any], server: ClickHouse, table: str
) -> None:
    server.query(f"CREATE TABLE {table} ({GOOD}) ENGINE = Memory")
    statement = refusal(params).help.partition("or by ")[2]
    server.query(f"DROP TABLE {table}")
    server.query(statement)
    stored(params, made_predictions(3))
    assert server.query(f"SELECT count() FROM {table} FINAL") == "3\n"


def test_the_table_of_the_how_to_is_the_one_that_the_sink_makes(
    params: Mapping[str, Any], server: ClickHouse, table: str
) -> None:
    page = (Path(__file__).parents[2] / "docs/howto/clickhouse.md").read_text(encoding="utf-8")
    (statement,) = (part for part in page.split("```text\n")[1:] if part.startswith("CREATE TABLE"))
    server.query(statement.partition("```")[0].replace("predictions", table, 1))
    shown = server.query(f"SHOW CREATE TABLE {table}")
    server.query(f"DROP TABLE {table} SYNC")
    stored(params, made_predictions(3), create_table=True)
    assert server.query(f"SHOW CREATE TABLE {table}") == shown


def test_further_columns_and_months_as_partitions_are_taken(
    params: Mapping[str, Any], server: ClickHouse, table: str
) -> None:
    server.query(
        f"CREATE TABLE {table} (came DateTime DEFAULT now(), {GOOD}) {REPLACING} PARTITION BY toYYYYMM(ts)"
    )
    # One batch over more partitions than an INSERT has by default.
    long_ago = [Prediction("BTCUSDT", HOUR - timedelta(days=31 * n), 0.5, METADATA) for n in range(150)]
    stored(params, long_ago, long_ago)
    assert server.query(f"SELECT count(), uniq(toYYYYMM(ts)) FROM {table} FINAL") == "150\t150\n"


def test_a_batch_that_comes_again_is_dropped_before_any_merge(
    params: Mapping[str, Any], server: ClickHouse, table: str
) -> None:
    batch = made_predictions(10)
    stored(params, batch, create_table=True)
    server.query(f"SYSTEM STOP MERGES {table}")
    stored(params, batch, batch)
    # Without FINAL: nothing was inserted a second time.
    assert server.query(f"SELECT count() FROM {table}") == "10\n"


def test_what_two_columns_share_is_told_apart_by_the_key(
    params: Mapping[str, Any], server: ClickHouse, table: str
) -> None:
    key = ["dag_name", "column", "symbol", "ts"]
    batch = [
        Prediction("BTCUSDT", HOUR, value, {**METADATA, "column": name})
        for name, value in (("a", 1), ("b", 2))
    ]
    stored(params, batch, batch, create_table=True, dedup_key=key)
    assert server.query(f"SELECT column, prediction FROM {table} FINAL ORDER BY column") == "a\t1\nb\t2\n"
    assert made(params, dedup_key=key).idempotent_by == tuple(key)


def test_microseconds_are_rejected_one_by_one_where_the_column_has_milliseconds(
    params: Mapping[str, Any], server: ClickHouse, table: str
) -> None:
    server.query(f"CREATE TABLE {table} ({GOOD.replace('DateTime64(6', 'DateTime64(3')}) {REPLACING}")
    times = [HOUR, HOUR + timedelta(microseconds=1), HOUR + timedelta(milliseconds=1)]
    with pytest.raises(Rejected) as caught:
        stored(params, [Prediction("BTCUSDT", ts, 0.5, METADATA) for ts in times])
    assert {i: "too coarse" in reason for i, reason in caught.value.reasons.items()} == {1: True}
    got = server.query(f"SELECT toUnixTimestamp64Milli(ts) FROM {table} ORDER BY ts").split()
    assert got == [str(int(ts.timestamp() * 1000)) for ts in (times[0], times[2])]


@pytest.mark.parametrize("digits", [6, 9])
def test_instants_beyond_the_column_are_rejected_and_the_last_within_is_exact(
    params: Mapping[str, Any], server: ClickHouse, table: str, digits: int
) -> None:
    server.query(f"CREATE TABLE {table} ({GOOD.replace('DateTime64(6', f'DateTime64({digits}')}) {REPLACING}")
    beyond = datetime(2262 if digits == 9 else 2300, 4, 12, tzinfo=UTC)
    times = [
        datetime(1899, 12, 31, tzinfo=UTC),
        datetime(1900, 1, 1, tzinfo=UTC),
        datetime(2262, 4, 10, tzinfo=UTC),
    ]
    with pytest.raises(Rejected) as caught:
        stored(params, [Prediction("BTCUSDT", ts, 0.5, METADATA) for ts in (*times, beyond)])
    assert set(caught.value.reasons) == {0, 3}
    assert server.query(f"SELECT ts FROM {table} ORDER BY ts").split("\n")[:2] == [
        ts.strftime("%Y-%m-%d %H:%M:%S.") + "0" * digits for ts in times[1:]
    ]


def test_too_many_parts_is_a_fault_that_passes(
    params: Mapping[str, Any], server: ClickHouse, table: str
) -> None:
    limits = "SETTINGS parts_to_delay_insert = 0, parts_to_throw_insert = 1"
    server.query(f"CREATE TABLE {table} ({GOOD}) {REPLACING} {limits}")
    server.query(f"SYSTEM STOP MERGES {table}")
    stored(params, made_predictions(2))
    with pytest.raises(RetryLater, match="TOO_MANY_PARTS"):
        stored(params, made_predictions(2, first=2))
    server.query(f"TRUNCATE TABLE {table}")
    stored(params, made_predictions(2, first=2))
    assert server.query(f"SELECT count() FROM {table}") == "2\n"


def test_a_table_dropped_under_it_is_told_and_made_again_by_the_next_instance(
    params: Mapping[str, Any], server: ClickHouse, table: str
) -> None:
    sink = made(params, create_table=True)
    sink.open()
    server.query(f"DROP TABLE {table} SYNC")
    with pytest.raises(AlphaForgeError) as caught:
        sink.emit_batch(made_predictions(2))
    sink.close()
    assert caught.value.code == "AF6051"
    stored(params, made_predictions(2), create_table=True)
    assert server.query(f"SELECT count() FROM {table}") == "2\n"


def test_a_server_that_is_killed_between_and_during_batches_loses_nothing(tmp_path: Path) -> None:
    with running_clickhouse(tmp_path / "server") as server:
        if not server.own:
            pytest.skip("the server of AF_CLICKHOUSE_URL can't be killed by a test")
        params = {
            **connection_params(server),
            "table_name": "predictions",
            "create_table": True,
            "timeout": 2,
        }
        batches = [made_predictions(20, first=20 * n) for n in range(4)]
        sink = made(params)
        sink.open()
        sink.emit_batch(batches[0])
        server.kill()
        with pytest.raises(RetryLater):
            sink.emit_batch(batches[1])
        server.restart()
        sink.emit_batch(batches[1])  # RetryLater promises that the same instance is of use again
        killer = threading.Timer(0.005, server.kill)
        killer.start()
        taken = 2
        try:
            for batch in batches[2:]:
                sink.emit_batch(batch)
                taken += 1
        except RetryLater:
            pass
        killer.join()
        sink.close()
        server.restart()
        count = int(server.query("SELECT count() FROM predictions FINAL"))
        assert count >= 20 * taken, "what it returned for is there"
        stored(params, *batches[taken:])
        assert server.query("SELECT count(), uniq(symbol, ts) FROM predictions FINAL") == "80\t80\n"


def test_a_missing_extra_is_named(params: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "clickhouse_connect", None)
    with pytest.raises(MissingExtraError, match=r"extra 'clickhouse'"):
        stored(params)


def test_what_needs_no_server_is_told_before_a_run(
    params: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made(params, port=1).preflight()
    with pytest.raises(AlphaForgeError, match=r"nowhere\.pem is no file"):
        made(params, ca_cert=str(tmp_path / "nowhere.pem")).preflight()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"extra 'clickhouse'"):
        made(params).preflight()


@pytest.fixture
def behind_tls(server: ClickHouse, tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """Port of a TLS listener before the server, and the file of its certificate, which nobody has signed."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl here to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    form = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    subprocess.run(
        [openssl, *form.split(), *names, "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with TLSListener(context, server.host, server.port) as listener:
        yield listener.port, certificate


class TLSListener:
    """Ends TLS and forwards, on an event loop of its own."""

    def __init__(self, context: ssl.SSLContext, host: str, port: int) -> None:
        self._context, self._target = context, (host, port)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> TLSListener:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    def _run(self) -> None:
        import asyncio

        async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while data := await reader.read(65536):
                    writer.write(data)
                    await writer.drain()
            except OSError:
                pass
            finally:
                writer.close()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_connection(*self._target)
            await asyncio.gather(copy(reader, back), copy(there, writer))

        async def main() -> None:
            self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
            listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=self._context)
            self.port = int(listener.sockets[0].getsockname()[1])
            self._ready.set()
            await self._end.wait()
            listener.close()

        asyncio.run(main())


def test_tls_takes_only_a_certificate_that_is_trusted(
    params: Mapping[str, Any], server: ClickHouse, table: str, behind_tls: tuple[int, Path]
) -> None:
    if server.secure:
        pytest.skip("the server of AF_CLICKHOUSE_URL speaks TLS itself")
    port, certificate = behind_tls
    secure = {"secure": True, "port": port, "create_table": True}
    error = refusal(params, **secure)
    assert (error.code, "CERTIFICATE" in error.message.upper()) == ("AF6054", True), error.message
    stored(params, made_predictions(3), **secure, ca_cert=str(certificate))
    stored(params, made_predictions(3, first=3), **secure, verify=False)
    assert server.query(f"SELECT count() FROM {table}") == "6\n"
    plain = refusal(params, secure=True)
    assert (plain.code, "no TLS" in plain.message) == ("AF6054", True)
