"""The sinks of servers beside bare loops over the same clients, against the engines of the tests."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

from alpha_forge_plugins.sinks.clickhouse import ClickHouseSink
from alpha_forge_plugins.sinks.dynamodb import DynamoDBSink
from alpha_forge_plugins.sinks.webhook import WebhookSink
from alpha_forge_sdk import Prediction, Sink
from alpha_forge_sdk.testing.engines import EngineMissing
from alpha_forge_sdk.testing.engines.clickhouse import connection_params, running_clickhouse
from alpha_forge_sdk.testing.engines.dynamodb import running_dynamodb
from benchmarks.results import CaseResult, Disagreement, Goal
from benchmarks.timing import in_turn, per_unit

OURS = "ours"
BARE = "the client in a loop"
SYMBOLS = 500
START = datetime(2026, 1, 5, tzinfo=UTC)
METADATA = {"frame": "ohlcv", "column": "model.prediction", "dag_name": "bench"}
COLUMNS = ("ts", "symbol", "prediction", *METADATA, "metadata")
MICRO = 1e6

Batch = Sequence[Prediction]
Take = Callable[[Batch], object]

_RECEIVER = """
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    records = 0
    def do_POST(self):
        found = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Handler.records += len(found)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def do_GET(self):
        text = str(Handler.records).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


def run(*, quick: bool) -> CaseResult:
    """µs a record, in batches of a bar of 500 symbols; connections are open, tables there."""
    result = CaseResult("server_sinks", "a record stored by its server, 500 a batch", "µs a record", BARE)
    rounds = 2 if quick else 12
    for kind, (contenders, batches) in CASES.items():
        try:
            with tempfile.TemporaryDirectory() as folder, contenders(Path(folder)) as (ours, bare, stored):
                _case(result, kind, ours, bare, 2 if quick else batches, rounds)
                sent = (rounds + 1) * (2 if quick else batches) * SYMBOLS
                if stored() != (sent, sent):
                    raise Disagreement(f"{kind}: {stored()} records are stored, {sent} were sent to each")
        except EngineMissing as missing:
            result.notes.append(f"{kind} is left out: {missing}")
    return result


def _case(result: CaseResult, kind: str, ours: Take, bare: Take, batches: int, rounds: int) -> None:
    def writing(take: Take) -> Callable[[], None]:
        closes = count()

        def work() -> None:
            for _ in range(batches):
                take(made[next(closes)])

        return work

    made = [_batch(number) for number in range((rounds + 1) * batches)]
    turns = {
        BARE: per_unit(writing(bare), batches * SYMBOLS),
        OURS: per_unit(writing(ours), batches * SYMBOLS),
    }
    for title, samples in in_turn(turns, rounds).items():
        result.add(title, kind, samples, MICRO)
    mine, loop = result.of(OURS, kind), result.of(BARE, kind)
    result.goals.append(
        Goal(f"{kind}: ≤ 1.25 × the loop", mine.median / loop.median, 1.25, mine.best / loop.best)
    )


def _batch(number: int) -> list[Prediction]:
    ts = START + timedelta(minutes=number)
    return [Prediction(f"S{s}USDT", ts, (number * 1000 + s) / 7.0, METADATA) for s in range(SYMBOLS)]


@contextlib.contextmanager
def _opened(sink: type[Sink], params: Mapping[str, Any]) -> Iterator[Take]:
    made = sink(sink.Params.model_validate(params))
    made.open()
    try:
        yield made.emit_batch
    finally:
        made.close()


Contenders = tuple[Take, Take, Callable[[], tuple[int, int]]]
"""Ours, the bare loop, and how many records each has stored."""


@contextlib.contextmanager
def _clickhouse(folder: Path) -> Iterator[Contenders]:
    import clickhouse_connect

    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running_clickhouse(folder))
        params = {**connection_params(server), "create_table": True}
        ours = stack.enter_context(_opened(ClickHouseSink, {**params, "table_name": "ours"}))
        with _opened(ClickHouseSink, {**params, "table_name": "bare"}):
            pass  # makes the same table
        client = clickhouse_connect.get_client(
            host=server.host,
            port=server.port,
            username=server.user,
            password=server.password,
            database=server.database,
            settings={"async_insert": 0},
        )
        stack.callback(client.close)

        def bare(batch: Batch) -> None:
            rows = [(p.ts, p.symbol, p.value, *METADATA.values(), "{}") for p in batch]
            client.insert("bare", rows, column_names=COLUMNS)

        def stored() -> tuple[int, int]:
            one, other = (int(server.query(f"SELECT count() FROM {t} FINAL")) for t in ("ours", "bare"))
            return one, other

        yield ours, bare, stored


@contextlib.contextmanager
def _dynamodb(folder: Path) -> Iterator[Contenders]:
    import boto3

    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(running_dynamodb(folder))
        params = {
            "endpoint_url": engine.endpoint_url,
            "region": engine.region,
            "access_key_id": engine.access_key_id,
            "secret_access_key": engine.secret_access_key,
            "create_table": True,
        }
        names = [f"{engine.prefix}{name}" for name in ("ours", "bare")]
        ours = stack.enter_context(_opened(DynamoDBSink, {**params, "table_name": names[0]}))
        with _opened(DynamoDBSink, {**params, "table_name": names[1]}):
            pass  # makes the same table
        resource = boto3.resource("dynamodb", **engine.connection())
        table = resource.Table(names[1])

        def bare(batch: Batch) -> None:
            with table.batch_writer() as writer:
                for p in batch:
                    writer.put_item(
                        Item={
                            "symbol": p.symbol,
                            "ts": p.ts.isoformat(),
                            "prediction": Decimal(repr(p.value)),
                            **METADATA,
                        }
                    )

        def stored() -> tuple[int, int]:
            pages = resource.meta.client.get_paginator("scan")
            one, other = (
                sum(page["Count"] for page in pages.paginate(TableName=name, Select="COUNT"))
                for name in names
            )
            return one, other

        yield ours, bare, stored


@contextlib.contextmanager
def _webhook(folder: Path) -> Iterator[Contenders]:
    def receiver() -> int:
        process = subprocess.Popen((sys.executable, "-c", _RECEIVER), stdout=subprocess.PIPE, text=True)
        stack.callback(process.communicate)
        stack.callback(process.kill)
        assert process.stdout is not None
        return int(process.stdout.readline())

    def received(port: int) -> int:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
            connection.request("GET", "/")
            return int(connection.getresponse().read())

    with contextlib.ExitStack() as stack:
        mine, other = receiver(), receiver()
        ours = stack.enter_context(_opened(WebhookSink, {"url": f"http://127.0.0.1:{mine}/"}))
        client = stack.enter_context(contextlib.closing(http.client.HTTPConnection("127.0.0.1", other)))

        def bare(batch: Batch) -> None:
            for at in range(0, len(batch), 100):
                records = [
                    {"symbol": p.symbol, "ts": p.ts.isoformat(), "prediction": p.value, "metadata": METADATA}
                    for p in batch[at : at + 100]
                ]
                client.request("POST", "/", json.dumps(records), {"Content-Type": "application/json"})
                client.getresponse().read()

        yield ours, bare, lambda: (received(mine), received(other))


CASES: dict[str, tuple[Callable[[Path], contextlib.AbstractContextManager[Contenders]], int]] = {
    "ClickHouse": (_clickhouse, 8),
    "DynamoDB (dynalite)": (_dynamodb, 2),
    "webhook": (_webhook, 20),
}
"""What is compared, and batches in a turn."""
