"""``sinks.dynamodb``: predictions as items of a DynamoDB table."""

from __future__ import annotations

import importlib.util
import re
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, ClassVar, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from alpha_forge_plugins.sinks.dynamodb_errors import nowhere
from alpha_forge_plugins.sinks.dynamodb_items import Item, Key, SeriesPart, hash_attribute, item_of, key_of
from alpha_forge_plugins.sinks.dynamodb_table import WRITES, Table, connect
from alpha_forge_plugins.sinks.file_sink import once_each
from alpha_forge_sdk import MissingExtraError, PluginError, Prediction, Rejected, RetryLater, Sink
from alpha_forge_sdk import Params as BaseParams

_CALL = 28.0
"""Seconds after which no call goes on: less than ``timeout``, so that it ends by itself."""

_AWS_HOST = re.compile(
    r"(?:[\w-]+\.ddb|dynamodb(?:-fips)?)\.([a-z]{2}(?:-[a-z]+)+-\d)\.(?:amazonaws\.com|api\.aws)"
)


def _with_symbol(series: tuple[SeriesPart, ...]) -> tuple[SeriesPart, ...]:
    if "symbol" not in series:
        raise ValueError("a series is named by its symbol, at least")
    return once_each(series)  # type: ignore[return-value]


class DynamoDBSink(Sink):
    """Puts predictions into a DynamoDB table, each (symbol, ts) one item; a later value replaces an earlier one.

    The table's keys are texts: ``symbol`` (partition) and ``ts`` (sort; ISO 8601 in UTC, six decimals: texts sort as
    the instants do). ``prediction`` is a Number with all digits of the float64; ``frame``, ``column`` and ``dag_name``
    are texts, ``metadata`` a JSON object of everything else, left out when empty. A negative zero, whose sign DynamoDB
    drops, carries ``negative_zero``. NaN, infinities and sizes beyond 1E-130 … 9.99E+125, which no Number can be, are
    rejected, as are items over 400 KB.

    One table takes one column: a second one would overwrite the first, unless ``series`` has ``column`` in it. The
    partition key is then the attribute ``series``, its parts joined by ``#``.

    Up to ``parallel`` BatchWriteItem requests of 25 are under way at a time. Writes that DynamoDB leaves unprocessed
    are sent again with back-off; throttling and faults raise RetryLater, and the next try goes on with what was not
    acknowledged. Needs dynamodb:DescribeTable and dynamodb:BatchWriteItem; with ``create_table`` CreateTable too, with
    ``ttl_days`` DescribeTimeToLive and UpdateTimeToLive.

    Raises MissingExtraError without boto3; AlphaForgeError: AF6060 no such table, AF6061 one of other keys, AF6062
    credentials, AF6063 region or endpoint, AF6064 anything else that DynamoDB refuses; PluginError AF6011 outside open
    and close.
    """

    class Params(BaseParams):
        """Which table, where it is, and who writes."""

        table_name: str = Field(
            min_length=3, max_length=255, pattern=r"^[a-zA-Z0-9_.-]+$", description="the table's name"
        )
        region: str | None = Field(
            None, min_length=1, description="AWS region; default: that of the environment or profile"
        )
        endpoint_url: str | None = Field(
            None,
            pattern=r"^https?://[^/@\s]+/?$",
            description="http(s)://HOST:PORT of another engine, as DynamoDB Local",
        )
        access_key_id: str | None = Field(
            None, min_length=1, description="access key id; default: where AWS's own tools look"
        )
        secret_access_key: SecretStr | None = Field(None, description="secret access key, as ${env:NAME}")
        session_token: SecretStr | None = Field(
            None, description="token of temporary credentials, as ${env:NAME}"
        )
        create_table: bool = Field(
            False, description="make the table where there is none: on-demand billing, TTL if ttl_days is set"
        )
        series: Annotated[tuple[SeriesPart, ...], Field(min_length=1), AfterValidator(_with_symbol)] = Field(
            ("symbol",), description="what names a series of values in this table: the partition key"
        )
        ttl_days: float | None = Field(
            None,
            gt=0,
            le=36_500,
            description="days after its ts at which DynamoDB deletes a record; default: never",
        )
        parallel: int = Field(4, ge=1, le=32, description="requests under way at a time")
        request_timeout: float = Field(
            5.0, gt=0, le=10, description="seconds to connect, and to wait for the answer to a request"
        )

        @model_validator(mode="after")
        def _whole_credentials(self) -> Self:
            if (self.access_key_id is None) != (self.secret_access_key is None):
                raise ValueError("access_key_id and secret_access_key come together")
            if self.session_token is not None and self.access_key_id is None:
                raise ValueError("session_token comes with access_key_id and secret_access_key")
            return self

    examples = (
        {"table_name": "predictions", "region": "eu-west-1"},
        {
            "table_name": "signals",
            "endpoint_url": "http://localhost:8000",
            "region": "us-east-1",
            "create_table": True,
            "series": ["symbol", "column"],
            "ttl_days": 90,
        },
    )

    delivery = "effectively_once"
    idempotent_by: ClassVar[tuple[str, ...]] = ("ts", "symbol")
    on_conflict = "replace"
    ordered = False  # a table has no order of arrival
    non_finite = "reject"

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        # The declaration of the class is that of the default key; another key declares itself.
        self.idempotent_by = ("ts", *params.series)  # type: ignore[misc]
        self._table: Table | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._acknowledged: dict[Key, Item] = {}

    def preflight(self) -> None:
        """Raise if boto3 isn't installed, or the endpoint is one of another region than the one named."""
        if importlib.util.find_spec("boto3") is None:
            raise MissingExtraError("sinks.dynamodb", "dynamodb")
        host = urlsplit(self.params.endpoint_url or "").hostname or ""
        found = _AWS_HOST.fullmatch(host)
        if found and self.params.region not in (None, found[1]):
            raise nowhere(
                f"endpoint_url is in {found[1]}, but region is {self.params.region}",
                "leave endpoint_url out: region alone leads to the right one",
            )

    def open(self) -> None:
        """Find the table and check its keys; make it where there is none and ``create_table`` is set."""
        if self._table is not None:
            return
        self.preflight()
        p = self.params
        secret, token = (s.get_secret_value() if s else None for s in (p.secret_access_key, p.session_token))
        client = connect(
            region=p.region,
            endpoint_url=p.endpoint_url,
            credentials=(p.access_key_id, secret, token),
            timeout=p.request_timeout,
            connections=p.parallel,
        )
        table = Table(client, p.table_name, hash_attribute(p.series))
        try:
            table.open(create=p.create_table, ttl=p.ttl_days is not None, deadline=self._deadline())
        except BaseException:
            table.close()
            raise
        self._table = table

    def emit_batch(self, predictions: Sequence[Prediction]) -> None:
        """Store the records; of two with one key the later one stands. See the class.

        Raises Rejected for records that no item can hold, RetryLater for faults that pass.
        """
        table = self._table
        if table is None:
            raise PluginError(
                "AF6011", "sinks.dynamodb got records outside open and close", "call open() first"
            )
        items: dict[Key, Item] = {}
        places: dict[Key, list[int]] = {}
        reasons: dict[int, str] = {}
        name = hash_attribute(self.params.series)
        for index, prediction in enumerate(predictions):
            try:
                item = item_of(prediction, self.params.series, self.params.ttl_days)
            except (TypeError, ValueError, RecursionError) as error:
                reasons[index] = f"{type(error).__name__}: {error}"
            else:
                # BatchWriteItem refuses a batch that has a key twice: the later value stands, as it would anyway.
                items[key_of(item, name)] = item
                places.setdefault(key_of(item, name), []).append(index)
        refused = self._store(table, items)
        reasons |= {index: reason for key, reason in refused.items() for index in places[key]}
        if reasons:
            raise Rejected(reasons)

    def close(self) -> None:
        """Close the connections and end the threads. Idempotent."""
        pool, self._pool = self._pool, None
        table, self._table = self._table, None
        self._acknowledged = {}
        if pool is not None:
            pool.shutdown()
        if table is not None:
            table.close()

    def _store(self, table: Table, items: dict[Key, Item]) -> dict[Key, str]:
        """Put all items. → why some never will be stored. Raises the first fault, after every request has ended."""
        # A table that throttles takes a batch in several tries: each goes on from where the last one came to.
        done = {key: item for key, item in items.items() if self._acknowledged.get(key) == item}
        left = [item for key, item in items.items() if key not in done]
        chunks = [left[start : start + WRITES] for start in range(0, len(left), WRITES)]
        name = hash_attribute(self.params.series)
        deadline, failed = self._deadline(), threading.Event()

        def put(chunk: list[Item]) -> dict[Key, str] | Exception:
            if failed.is_set():
                return {}
            try:
                return table.put(chunk, deadline, lambda item: done.update({key_of(item, name): item}))
            except Exception as error:  # noqa: BLE001 - raised below, when nothing is under way any more
                failed.set()
                return error

        outcomes = list(map(put, chunks) if len(chunks) < 2 else self._threads().map(put, chunks))
        faults = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        self._acknowledged = done if faults else {}
        if faults:
            # A mistake that has to be mended says more than that something should be tried again.
            raise next((fault for fault in faults if not isinstance(fault, RetryLater)), faults[0])
        return {key: why for outcome in outcomes if isinstance(outcome, dict) for key, why in outcome.items()}

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.params.parallel, thread_name_prefix="sinks.dynamodb")
        return self._pool

    def _deadline(self) -> float:
        """No request begins after it, so that the last one, however slow, ends in time."""
        longest: float = 2 * self.params.request_timeout
        return time.monotonic() + _CALL - longest
