"""``sinks.dynamodb`` against an engine: the kit's checks, its items, faults in between, other people's tables, refusals.

What the table holds is read with boto3 alone.
"""

from __future__ import annotations

import json
import logging
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from alpha_forge.cli import main
from alpha_forge_plugins.conformance.dynamodb import DynamoDBConformance
from alpha_forge_plugins.sinks import dynamodb_items
from alpha_forge_plugins.sinks.dynamodb import DynamoDBSink
from alpha_forge_sdk import AlphaForgeError, Prediction, Rejected, RetryLater
from alpha_forge_sdk.conformance.runner import Session
from alpha_forge_sdk.testing.engines.dynamodb import DynamoDB, running_dynamodb, shared_dynamodb
from alpha_forge_sdk.testing.http_fault_proxy import (
    HttpFault,
    HttpFaultProxy,
    error,
    hang,
    http_fault_proxy,
    lost,
    passed,
    reset,
    throttle,
    unprocessed,
)
from alpha_forge_sdk.testing.leaks import no_leaks
from alpha_forge_sdk.testing.predictions import METADATA, START, made_predictions

BATCH = "BatchWriteItem"
SECRET = "s3cret-of-the-tests"


class TestDynamoDBSink(DynamoDBConformance):
    """One test for each check of the kit."""

    crashes = 10


def test_nothing_is_waived_and_nothing_skipped_but_what_does_not_apply(tmp_path: Path) -> None:
    assert DynamoDBConformance.waivers == {}
    skipped = {o.id for o in Session.of(TestDynamoDBSink, tmp_path).all() if o.status == "skip"}
    # One form of emit; a table keeps no order of arrival; no file of its own.
    assert {i for i in skipped if i.startswith("AF-S")} == {"AF-S06", "AF-S07", "AF-S20"}


@pytest.fixture
def engine() -> DynamoDB:
    return shared_dynamodb()


@pytest.fixture
def proxy(engine: DynamoDB) -> Iterator[HttpFaultProxy]:
    with http_fault_proxy(engine.endpoint_url) as made:
        yield made


@pytest.fixture
def params(engine: DynamoDB, proxy: HttpFaultProxy, tmp_path: Path) -> dict[str, Any]:
    """Through the proxy, into a table of the test's own."""
    return {
        "table_name": f"{engine.prefix}{tmp_path.name[-40:]}",
        "endpoint_url": proxy.url,
        "region": engine.region,
        "access_key_id": "tests",
        "secret_access_key": SECRET,
        "create_table": True,
        "request_timeout": 2,
    }


@pytest.fixture
def client(engine: DynamoDB) -> Any:
    return boto3.client("dynamodb", **engine.connection())


def made(params: Mapping[str, Any], **others: Any) -> DynamoDBSink:
    return DynamoDBSink(DynamoDBSink.Params.model_validate({**params, **others}))


@pytest.fixture
def sink(params: dict[str, Any]) -> Iterator[DynamoDBSink]:
    opened = made(params)
    opened.open()
    yield opened
    opened.close()


def items(client: Any, params: Mapping[str, Any]) -> list[dict[str, dict[str, Any]]]:
    pages = client.get_paginator("scan").paginate(TableName=params["table_name"], ConsistentRead=True)
    return [item for page in pages for item in page["Items"]]


def values(client: Any, params: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """(symbol, ts) → value; a key that is there twice fails."""
    found = [((i["symbol"]["S"], i["ts"]["S"]), float(i["prediction"]["N"])) for i in items(client, params)]
    assert len(dict(found)) == len(found)
    return dict(found)


def wanted(predictions: Sequence[Prediction]) -> dict[tuple[str, str], float]:
    """What a table must hold: the last value of each key."""
    return {(p.symbol, p.ts.strftime("%Y-%m-%dT%H:%M:%S.%fZ")): p.value for p in predictions}


def written(proxy: HttpFaultProxy, first: int = 0) -> list[list[tuple[str, str]]]:
    """The keys of each BatchWriteItem that came to the proxy, from number `first` on."""
    bodies = [json.loads(r.body) for r in proxy.requests if r.operation == BATCH][first:]
    return [
        [(w["PutRequest"]["Item"]["symbol"]["S"], w["PutRequest"]["Item"]["ts"]["S"]) for w in writes]
        for body in bodies
        for writes in body["RequestItems"].values()
    ]


def refusal(code: str, message: str = "as the test wants it", status: int = 400) -> HttpFault:
    body = json.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": message})
    return error(status, body.encode(), {"Content-Type": "application/x-amz-json-1.0"})


class TestItems:
    def test_every_part_of_a_record_has_its_attribute(
        self, sink: DynamoDBSink, client: Any, params: dict[str, Any]
    ) -> None:
        ts = datetime(2026, 1, 5, 13, 0, 0, 7, tzinfo=UTC)
        sink.emit_batch([Prediction("BTCUSDT", ts, 0.1 + 0.2, {**METADATA, "bars": [1, 2.5], "note": "ü"})])
        (item,) = items(client, params)
        metadata = json.loads(item.pop("metadata")["S"])
        assert metadata == {"bars": [1, 2.5], "note": "ü"}
        assert item == {
            "symbol": {"S": "BTCUSDT"},
            "ts": {"S": "2026-01-05T13:00:00.000007Z"},
            "prediction": {"N": "0.30000000000000004"},
            "frame": {"S": "ohlcv"},
            "column": {"S": "model.prediction"},
            "dag_name": {"S": "conformance"},
        }

    def test_ts_sorts_as_text_also_where_fractions_differ(
        self, sink: DynamoDBSink, client: Any, params: dict[str, Any]
    ) -> None:
        times = [START + timedelta(microseconds=n) for n in (0, 1, 10, 999_999, 1_000_000)]
        shuffled = random.Random(3).sample(times, len(times))
        sink.emit_batch([Prediction("A", ts, 1.0, METADATA) for ts in shuffled])
        answer = client.query(
            TableName=params["table_name"],
            KeyConditionExpression="symbol = :s",
            ExpressionAttributeValues={":s": {"S": "A"}},
        )
        assert [datetime.fromisoformat(item["ts"]["S"]) for item in answer["Items"]] == times

    def test_numbers_beyond_dynamodbs_are_rejected_and_those_at_its_edges_stored(
        self, sink: DynamoDBSink, client: Any, params: dict[str, Any]
    ) -> None:
        largest = math.nextafter(1e126, 0)
        fine = [1e-130, largest, -largest, -1e-130, 0.0, -0.0]
        beyond = [
            1e126,
            math.nextafter(1e-130, 0),
            5e-324,
            -1.7976931348623157e308,
            float("nan"),
            float("inf"),
        ]
        batch = [Prediction(f"S{i}", START, v, METADATA) for i, v in enumerate([*fine, *beyond])]
        with pytest.raises(Rejected) as caught:
            sink.emit_batch(batch)
        assert set(caught.value.reasons) == set(range(len(fine), len(batch)))
        assert "beyond DynamoDB's numbers" in caught.value.reasons[len(fine)]
        assert "nan is no number" in caught.value.reasons[len(batch) - 2]
        found = {item["symbol"]["S"]: item for item in items(client, params)}
        assert {name: float(item["prediction"]["N"]) for name, item in found.items()} == {
            f"S{i}": v for i, v in enumerate(fine)
        }
        # DynamoDB itself drops the sign of zero.
        assert found["S5"]["negative_zero"] == {"BOOL": True}
        assert "negative_zero" not in found["S4"]

    def test_a_series_of_several_parts_keeps_columns_apart(self, client: Any, params: dict[str, Any]) -> None:
        sink = made(params, series=["symbol", "column"])
        assert sink.idempotent_by == ("ts", "symbol", "column")
        names = [("A#B", "c"), ("A", "B#c"), ("A", "B%23c"), ("A", "c"), ("A", "c")]
        sink.open()
        sink.emit_batch(
            [Prediction(s, START, float(i), {**METADATA, "column": c}) for i, (s, c) in enumerate(names)]
        )
        with pytest.raises(Rejected, match="no 'column'"):
            sink.emit_batch([Prediction("A", START, 1.0, {})])
        sink.close()
        found = {item["series"]["S"]: float(item["prediction"]["N"]) for item in items(client, params)}
        assert found == {"A%23B#c": 0.0, "A#B%23c": 1.0, "A#B%2523c": 2.0, "A#c": 4.0}

    def test_what_has_no_room_is_rejected_and_nothing_else(
        self, sink: DynamoDBSink, client: Any, params: dict[str, Any]
    ) -> None:
        good = made_predictions(40)
        large = replace(good[3], metadata={**METADATA, "note": "ü" * 205_000})  # the same key as a good one
        bad = [large, Prediction("x" * 2049, START, 1.0, METADATA), Prediction("", START, 1.0, METADATA)]
        with pytest.raises(Rejected) as caught:
            sink.emit_batch([*good[:10], *bad, *good[10:]])
        assert set(caught.value.reasons) == {10, 11, 12}
        assert "400" not in caught.value.reasons[11]
        assert values(client, params) == wanted(good)

    def test_what_the_engine_alone_finds_too_large_is_looked_for_by_halves(
        self, sink: DynamoDBSink, client: Any, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(dynamodb_items, "_LARGEST_ITEM", 1 << 30)
        good = made_predictions(60)
        bad = [Prediction(f"L{i}", START, 1.0, {**METADATA, "note": "x" * 410_000}) for i in range(2)]
        with pytest.raises(Rejected) as caught:
            sink.emit_batch([*good[:7], bad[0], *good[7:50], bad[1], *good[50:]])
        assert set(caught.value.reasons) == {7, 51}
        assert "ValidationException" in caught.value.reasons[7]
        assert values(client, params) == wanted(good)

    def test_sizes_are_counted_as_the_engine_counts_them(
        self, sink: DynamoDBSink, client: Any, params: dict[str, Any]
    ) -> None:
        def of(length: int) -> Prediction:
            return Prediction("A", START, 0.5, {**METADATA, "note": "x" * length})

        low, high = 400_000, 410_000  # fits, does not: the last that fits here must fit there
        while high - low > 1:
            middle = (low + high) // 2
            try:
                dynamodb_items.item_of(of(middle), ("symbol",), None)
                low = middle
            except ValueError:
                high = middle
        sink.emit_batch([of(low)])
        assert len(items(client, params)) == 1

    def test_of_one_key_in_a_batch_the_last_value_stands_and_is_sent_once(
        self, sink: DynamoDBSink, client: Any, params: dict[str, Any], proxy: HttpFaultProxy
    ) -> None:
        first = made_predictions(60)
        second = [replace(p, value=p.value + 1000) for p in first[::2]]
        sink.emit_batch([*first, *second])
        assert values(client, params) == wanted([*first, *second])
        requests = written(proxy)
        assert sorted(len(keys) for keys in requests) == [10, 25, 25]  # side by side: in any order
        assert len({key for keys in requests for key in keys}) == 60

    def test_expiry_follows_from_ts(
        self, client: Any, params: dict[str, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        sink = made(params, ttl_days=1.5)
        with caplog.at_level(logging.WARNING):
            sink.open()
        # This engine knows no TTL: said, and no reason not to store.
        assert "TTL could not be enabled on 'expires_at': UnknownOperationException" in caplog.text
        sink.emit_batch([Prediction("A", datetime(1970, 1, 2, 0, 0, 0, 1, tzinfo=UTC), 1.0, METADATA)])
        sink.close()
        assert items(client, params)[0]["expires_at"] == {"N": str(86_400 + 129_600 + 1)}


class TestFaults:
    def test_what_is_left_unprocessed_is_sent_again_and_nothing_else(
        self, sink: DynamoDBSink, client: Any, params: dict[str, Any], proxy: HttpFaultProxy
    ) -> None:
        proxy.script(unprocessed(5), unprocessed(25), unprocessed(2), only=BATCH)
        batch = made_predictions(25)
        sink.emit_batch(batch)
        assert values(client, params) == wanted(batch)
        assert [len(keys) for keys in written(proxy)] == [25, 5, 5, 2]

    def test_a_table_that_throttles_is_filled_by_tries_that_go_on_where_the_last_one_came_to(
        self, client: Any, params: dict[str, Any], proxy: HttpFaultProxy
    ) -> None:
        sink = made(params, parallel=1)
        sink.open()
        batch = made_predictions(200)
        tries = 0
        while True:
            proxy.script(passed(), throttle(), only=BATCH)  # one request at a time gets through
            tries += 1
            try:
                sink.emit_batch(list(batch))
                break
            except RetryLater as caught:
                assert "ProvisionedThroughputExceededException" in str(caught)  # noqa: PT017
                assert tries < 10
        sink.close()
        assert tries == 8
        assert values(client, params) == wanted(batch)
        # 8 requests that were taken, 7 that were not: nothing that was acknowledged is sent again.
        assert len(written(proxy)) == 15

    def test_a_value_that_has_changed_since_the_last_try_is_sent(
        self, sink: DynamoDBSink, client: Any, params: dict[str, Any], proxy: HttpFaultProxy
    ) -> None:
        batch = made_predictions(30)
        proxy.script(passed(), throttle(), only=BATCH)
        with pytest.raises(RetryLater):
            sink.emit_batch(batch)
        changed = [replace(p, value=p.value + 1) for p in batch]
        sink.emit_batch(changed)
        assert values(client, params) == wanted(changed)
        sink.emit_batch(batch)  # what was acknowledged once is forgotten with the batch that it belonged to
        assert values(client, params) == wanted(batch)

    @pytest.mark.parametrize(
        "fault", [error(500), error(503), reset(), lost(), refusal("ThrottlingException")]
    )
    def test_a_fault_that_passes_asks_for_another_try(
        self,
        sink: DynamoDBSink,
        client: Any,
        params: dict[str, Any],
        proxy: HttpFaultProxy,
        fault: HttpFault,
    ) -> None:
        batch = made_predictions(90)
        proxy.script(passed(), fault, only=BATCH)
        with pytest.raises(RetryLater, match=params["table_name"]):
            sink.emit_batch(batch)
        sink.emit_batch(batch)
        assert values(client, params) == wanted(batch)

    def test_nothing_is_under_way_when_a_fault_is_told(
        self, params: dict[str, Any], proxy: HttpFaultProxy
    ) -> None:
        sink = made(params, parallel=4)
        sink.open()
        proxy.script(*[passed()] * 3, throttle(), only=BATCH)
        with pytest.raises(RetryLater):
            sink.emit_batch(made_predictions(1000))
        seen = len(proxy.requests)
        with no_leaks():  # and close() is not waited for by anybody
            sink.close()
        assert len(proxy.requests) == seen
        assert seen < 30  # most of the 40 requests were not begun any more

    def test_a_silent_engine_is_a_fault_in_time(self, params: dict[str, Any], proxy: HttpFaultProxy) -> None:
        sink = made(params, request_timeout=0.3)
        sink.open()
        proxy.always(hang(), only=BATCH)
        begun = time.monotonic()
        with pytest.raises(RetryLater, match="ReadTimeoutError"):
            sink.emit_batch(made_predictions(200))
        assert time.monotonic() - begun < 3
        sink.close()

    def test_what_stays_unprocessed_is_a_fault_in_time(
        self, params: dict[str, Any], proxy: HttpFaultProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("alpha_forge_plugins.sinks.dynamodb._CALL", 5.0)
        sink = made(params)  # leaves one second after twice the request's two
        sink.open()
        proxy.always(unprocessed(25), only=BATCH)
        begun = time.monotonic()
        with pytest.raises(RetryLater, match=r"7 item\(s\) unprocessed"):
            sink.emit_batch(made_predictions(7))
        assert time.monotonic() - begun < 4
        # With back-off: not as fast as the engine answers.
        assert 3 <= len(written(proxy)) < 40
        sink.close()

    def test_everything_arrives_once_whatever_happens(
        self, client: Any, params: dict[str, Any], proxy: HttpFaultProxy
    ) -> None:
        """500 symbols, shuffled; one comes late, one has a hole; some values are corrected later."""
        source = random.Random(11)
        records = [
            Prediction(f"S{s}USDT", START + timedelta(hours=bar), source.gauss(0, 1), METADATA)
            for bar in range(3)
            for s in range(500)
            if (s, bar) != (7, 1)
        ]
        late = [p for p in records if p.symbol == "S3USDT"]
        stream = source.sample([p for p in records if p.symbol != "S3USDT"], len(records) - len(late)) + late
        stream += [replace(p, value=p.value / 3) for p in stream[:100]]
        rates = {throttle(): 0.06, error(500): 0.03, reset(): 0.03, lost(): 0.06, unprocessed(9): 0.15}
        proxy.seeded(5, rates, only=BATCH)
        sink = made(params)
        sink.open()
        for start in range(0, len(stream), 250):
            batch = stream[start : start + 250]
            for _ in range(60):
                try:
                    sink.emit_batch(batch)
                    break
                except RetryLater:
                    continue
            else:
                pytest.fail("60 tries did not do")
        sink.close()
        assert set(proxy.struck) == {"throttle", "error", "reset", "lost", "unprocessed"}
        assert values(client, params) == wanted(stream)

    def test_an_engine_that_is_killed_has_what_was_acknowledged_and_is_used_again(
        self, tmp_path: Path
    ) -> None:
        with running_dynamodb(tmp_path / "engine") as own:
            if not own.own:
                pytest.skip("an engine of one's own is not killed")
            params = {
                "table_name": "killed",
                "endpoint_url": own.endpoint_url,
                "region": own.region,
                "access_key_id": "tests",
                "secret_access_key": SECRET,
                "create_table": True,
                "request_timeout": 2,
            }
            batch = made_predictions(80)
            sink = made(params)
            sink.open()
            sink.emit_batch(batch[:50])
            own.kill()
            with pytest.raises(RetryLater):
                sink.emit_batch(batch[50:])
            own.restart()
            client = boto3.client("dynamodb", **own.connection())
            assert values(client, params) == wanted(batch[:50])
            sink.emit_batch(batch[50:])
            sink.close()
            assert values(client, params) == wanted(batch)


class TestTables:
    def test_a_missing_table_is_told_and_not_made(self, client: Any, params: dict[str, Any]) -> None:
        sink = made(params, create_table=False)
        with pytest.raises(AlphaForgeError, match="there is no table") as caught:
            sink.open()
        sink.close()
        assert caught.value.code == "AF6060"
        assert params["region"] in caught.value.message
        assert params["table_name"] not in client.list_tables()["TableNames"]

    def test_a_table_is_made_with_on_demand_billing_by_several_at_once(
        self, client: Any, params: dict[str, Any]
    ) -> None:
        sinks = [made(params) for _ in range(4)]
        problems: list[Exception] = []

        def open_it(sink: DynamoDBSink) -> None:
            try:
                sink.open()
            except Exception as problem:  # noqa: BLE001 - judged below
                problems.append(problem)

        threads = [threading.Thread(target=open_it, args=(sink,)) for sink in sinks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for sink in sinks:
            sink.emit_batch(made_predictions(2))
            sink.close()
        assert problems == []
        table = client.describe_table(TableName=params["table_name"])["Table"]
        assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
        assert {k["AttributeName"]: k["KeyType"] for k in table["KeySchema"]} == {
            "symbol": "HASH",
            "ts": "RANGE",
        }

    @pytest.mark.parametrize(
        ("keys", "told"),
        [
            ((("symbol", "S", "HASH"),), "its key is symbol (S), this sink"),
            ((("symbol", "S", "HASH"), ("ts", "N", "RANGE")), "its key is symbol (S), ts (N), this sink"),
            ((("id", "S", "HASH"), ("ts", "S", "RANGE")), "its key is id (S), ts (S), this sink"),
        ],
    )
    def test_a_table_of_other_keys_is_told_before_anything_is_written(
        self, client: Any, params: dict[str, Any], proxy: HttpFaultProxy, keys: Any, told: str
    ) -> None:
        make_table(client, params["table_name"], keys)
        sink = made(params)
        with pytest.raises(AlphaForgeError) as caught:
            sink.open()
        sink.close()
        assert caught.value.code == "AF6061"
        assert told in caught.value.message
        assert written(proxy) == []

    def test_a_table_that_became_another_one_is_a_fault_and_no_rejection(
        self, sink: DynamoDBSink, client: Any, params: dict[str, Any]
    ) -> None:
        sink.emit_batch(made_predictions(3))
        client.delete_table(TableName=params["table_name"])
        until(lambda: params["table_name"] not in client.list_tables()["TableNames"])
        with pytest.raises(AlphaForgeError) as caught:
            sink.emit_batch(made_predictions(3))
        assert caught.value.code == "AF6060"

        def remade() -> bool:
            # The engine lists a table no more while it is still deleting it.
            try:
                make_table(client, params["table_name"], (("id", "S", "HASH"),))
            except client.exceptions.ResourceInUseException:
                return False
            return True

        until(remade)
        with pytest.raises(AlphaForgeError) as caught:
            sink.emit_batch(made_predictions(3))
        assert caught.value.code == "AF6061"

    @pytest.mark.parametrize(
        ("answer", "create", "code", "warned"),
        [
            ({"TimeToLiveStatus": "ENABLED", "AttributeName": "expires_at"}, True, None, False),
            ({"TimeToLiveStatus": "ENABLING", "AttributeName": "expires_at"}, False, None, False),
            ({"TimeToLiveStatus": "ENABLED", "AttributeName": "other"}, True, "AF6061", False),
            ({"TimeToLiveStatus": "DISABLED"}, False, None, True),
        ],
    )
    def test_ttl_of_a_table_that_is_there(
        self,
        sink: DynamoDBSink,
        params: dict[str, Any],
        proxy: HttpFaultProxy,
        caplog: pytest.LogCaptureFixture,
        answer: dict[str, str],
        create: bool,
        code: str | None,
        warned: bool,
    ) -> None:
        body = json.dumps({"TimeToLiveDescription": answer}).encode()
        proxy.script(error(200, body), only="DescribeTimeToLive")
        second = made(params, create_table=create, ttl_days=30)
        with caplog.at_level(logging.WARNING):
            if code is None:
                second.open()
            else:
                with pytest.raises(AlphaForgeError, match="TTL goes by 'other'") as caught:
                    second.open()
                assert caught.value.code == code
        second.close()
        assert ("TTL is off" in caplog.text) == warned


def make_table(client: Any, name: str, keys: Sequence[tuple[str, str, str]]) -> None:
    client.create_table(
        TableName=name,
        AttributeDefinitions=[{"AttributeName": n, "AttributeType": t} for n, t, _ in keys],
        KeySchema=[{"AttributeName": n, "KeyType": k} for n, _, k in keys],
        BillingMode="PAY_PER_REQUEST",
    )
    until(lambda: client.describe_table(TableName=name)["Table"]["TableStatus"] == "ACTIVE")


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


class TestRefusals:
    @pytest.mark.parametrize(
        ("code", "ours"),
        [
            ("AccessDeniedException", "AF6062"),
            ("UnrecognizedClientException", "AF6062"),
            ("InvalidSignatureException", "AF6062"),
            ("ExpiredTokenException", "AF6062"),
            ("ItemCollectionSizeLimitExceededException", "AF6064"),
        ],
    )
    def test_what_somebody_has_to_mend_is_told_with_its_code(
        self, params: dict[str, Any], proxy: HttpFaultProxy, sink: DynamoDBSink, code: str, ours: str
    ) -> None:
        proxy.always(refusal(code))
        second = made(params)
        for call in (lambda: sink.emit_batch(made_predictions(60)), second.open):
            with pytest.raises(AlphaForgeError, match=f"{code}: as the test wants it") as caught:
                call()
            assert caught.value.code == ours
            assert caught.value.help
            assert SECRET not in str(caught.value)
        second.close()

    def test_a_mistake_outranks_what_should_be_tried_again(
        self, params: dict[str, Any], proxy: HttpFaultProxy
    ) -> None:
        sink = made(params, parallel=2)
        sink.open()
        refused = refusal("AccessDeniedException")
        proxy.script(throttle(seconds=0.2), replace(refused, seconds=0.4), only=BATCH)
        with pytest.raises(AlphaForgeError) as caught:
            sink.emit_batch(made_predictions(50))
        assert len(written(proxy)) == 2
        assert caught.value.code == "AF6062"
        sink.close()

    def test_without_credentials_it_says_where_they_may_be(
        self, params: dict[str, Any], no_aws: None
    ) -> None:
        sink = made({k: v for k, v in params.items() if "access_key" not in k})
        with pytest.raises(AlphaForgeError, match="no credentials") as caught:
            sink.open()
        assert caught.value.code == "AF6062"
        assert "${env:" in caught.value.help

    def test_without_a_region_it_asks_for_one(self, no_aws: None) -> None:
        with pytest.raises(AlphaForgeError, match="which region") as caught:
            made({"table_name": "predictions"}).open()
        assert caught.value.code == "AF6063"

    @pytest.mark.parametrize(
        ("endpoint", "region", "fits"),
        [
            ("https://dynamodb.eu-west-1.amazonaws.com", "us-east-1", False),
            ("https://dynamodb-fips.us-gov-west-1.amazonaws.com/", "us-east-1", False),
            ("https://123456789012.ddb.eu-west-1.amazonaws.com", "us-east-1", False),
            ("https://dynamodb.eu-west-1.amazonaws.com", "eu-west-1", True),
            ("https://dynamodb.eu-west-1.amazonaws.com", None, True),
            ("http://localhost:8000", "us-east-1", True),
        ],
    )
    def test_an_endpoint_of_another_region_is_told_without_connecting(
        self, endpoint: str, region: str | None, fits: bool
    ) -> None:
        sink = made({"table_name": "predictions", "endpoint_url": endpoint, "region": region})
        if fits:
            sink.preflight()
            return
        with pytest.raises(AlphaForgeError, match="but region is us-east-1") as caught:
            sink.preflight()
        assert caught.value.code == "AF6063"

    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            ({"access_key_id": "a", "secret_access_key": None}, "come together"),
            (
                {"access_key_id": None, "secret_access_key": None, "session_token": SECRET},
                "session_token comes",
            ),
            ({"series": ["column"]}, "named by its symbol"),
            ({"series": ["symbol", "symbol"]}, "named twice"),
            ({"table_name": "no spaces"}, "table_name"),
            ({"endpoint_url": f"http://user:{SECRET}@localhost:8000"}, "endpoint_url"),
        ],
    )
    def test_wrong_parameters_are_refused_and_show_no_secret(
        self, params: dict[str, Any], wrong: dict[str, Any], told: str
    ) -> None:
        with pytest.raises(ValidationError, match=told) as caught:
            made(params, **wrong)
        assert SECRET not in str(caught.value)


@pytest.fixture
def no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on a machine that nobody has set up for AWS."""
    import os

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def test_check_tells_of_an_endpoint_of_another_region_with_its_place(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("""
name: regions
using: {capabilities: [shared, middlefreq]}
signal_generation:
  mode: stream
  warmup: {lookback_days: auto}
  on_prediction:
    - using: sinks.dynamodb
      column: ohlcv.mom_20
      params:
        table_name: predictions
        region: us-east-1
        endpoint_url: https://dynamodb.eu-west-1.amazonaws.com
pipeline:
  - data: {using: data.binance_futures, outputs: {frame: ohlcv}, params: {universe: [BTCUSDT], interval: 1h}}
  - features:
      using: features.momentum
      inputs: {column: ohlcv.close}
      outputs: {columns: [mom_20]}
      params: {window: 20}
""")
    result = CliRunner().invoke(main, ["check", str(config)])
    assert result.exit_code == 2
    assert "config.yaml:11:9: error[AF6063]: endpoint_url is in eu-west-1, but region is us-east-1" in (
        result.stdout + result.stderr
    )
