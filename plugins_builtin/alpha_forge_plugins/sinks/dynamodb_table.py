"""A DynamoDB table that predictions go to: found or made, checked, and written to in batches."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from alpha_forge_plugins.sinks.dynamodb_errors import code_of, missing, nowhere, text_of, translated, unfit
from alpha_forge_plugins.sinks.dynamodb_items import EXPIRES, RANGE, Item, Key, key_of
from alpha_forge_sdk import MissingExtraError, RetryLater

_LOG = logging.getLogger(__name__)

WRITES = 25
"""Writes that one BatchWriteItem takes."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
_FIRST_LOOK, _LONGEST_LOOK = 0.02, 1.0


@cache
def _models() -> Any:
    """botocore's descriptions of services: read once a process, they are the cost of making a client."""
    from botocore.loaders import create_loader  # type: ignore[import-untyped]

    return create_loader()


def _faults() -> tuple[type[Exception], ...]:
    """What a client raises: without an answer, and for an answer that is an error."""
    from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

    return BotoCoreError, ClientError


def connect(
    *,
    region: str | None,
    endpoint_url: str | None,
    credentials: tuple[str | None, str | None, str | None],
    timeout: float,
    connections: int,
) -> Any:
    """A client. Connects to nothing yet; may ask where AWS's tools look for credentials.

    `credentials` are key id, secret key and session token; without them the usual chain is asked. `timeout` (seconds)
    is for connecting, and for each answer. Raises MissingExtraError, AlphaForgeError AF6063.
    """
    try:
        from botocore.config import Config  # type: ignore[import-untyped]
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session  # type: ignore[import-untyped]
    except ImportError:
        raise MissingExtraError("sinks.dynamodb", "dynamodb") from None
    session = Session()
    session.register_component("data_loader", _models())
    config = Config(
        connect_timeout=timeout,
        read_timeout=timeout,
        # Trying again is the runtime's business: it knows how long, and tells of it.
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=connections,
        # Requests are made by this module alone; checking each item against the model costs more than sending it.
        parameter_validation=False,
    )
    key_id, secret, token = credentials
    try:
        region = region or session.get_config_variable("region")
        if region is None and endpoint_url is None:
            raise nowhere(
                "sinks.dynamodb does not know which region the table is in", "set region: eu-west-1"
            )
        return session.create_client(
            "dynamodb",
            region_name=region or "us-east-1",  # an engine of one's own signs with some region
            endpoint_url=endpoint_url,
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
            aws_session_token=token,
            config=config,
        )
    except (BotoCoreError, ValueError) as error:
        raise nowhere(f"sinks.dynamodb can't connect: {error}", "correct region or endpoint_url") from error


class Table:
    """One table behind a client. Methods may be called from several threads; deadlines are of `time.monotonic`."""

    def __init__(self, client: Any, name: str, hash_name: str) -> None:
        self._client = client
        self._name = name
        self._hash = hash_name
        meta = client.meta
        self._where = f"{meta.endpoint_url} (region {meta.region_name})"

    def open(self, *, create: bool, ttl: bool, deadline: float) -> None:
        """Find the table, or make it where `create`; wait until it is of use.

        Raises AlphaForgeError AF6060 to AF6064, RetryLater for a fault or where it isn't of use by `deadline`.
        """
        pause = _FIRST_LOOK
        while (state := self._described(create)) != "ACTIVE":
            if state == "UPDATING":  # takes writes all the while
                break
            if time.monotonic() + pause > deadline:
                raise RetryLater(f"table '{self._name}', {self._where}: still {state}")
            time.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_LOOK)
        if ttl:
            self._let_expire(create)

    def check(self) -> None:
        """Raise AlphaForgeError if the table is gone, or has other keys than this sink writes."""
        self._described(create=False)

    def put(self, items: Sequence[Item], deadline: float, stored: Callable[[Item], None]) -> dict[Key, str]:
        """Store at most `WRITES` items of different keys; `stored` is told each one that DynamoDB has acknowledged.

        → why some never will be stored, by key. Raises what `translated` makes of faults, RetryLater also if DynamoDB
        leaves items unprocessed until `deadline`.
        """
        try:
            self._put_all(items, deadline, stored)
        except _faults() as error:
            if code_of(error) != "ValidationException":
                raise translated(error, self._name, self._where) from error
            # One item that is too large, say, and DynamoDB refuses its whole batch: look for it by halves.
            if len(items) > 1:
                half = len(items) // 2
                reasons = self.put(items[:half], deadline, stored)
                return reasons | self.put(items[half:], deadline, stored)
            # Is it the item, or has the table become another one meanwhile?
            self.check()
            return {key_of(items[0], self._hash): text_of(error)}
        return {}

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _put_all(self, items: Sequence[Item], deadline: float, stored: Callable[[Item], None]) -> None:
        pending = {key_of(item, self._hash): item for item in items}
        pause = _FIRST_PAUSE
        while True:
            if time.monotonic() > deadline:
                raise RetryLater(f"table '{self._name}', {self._where}: {len(pending)} item(s) unprocessed")
            writes = [{"PutRequest": {"Item": item}} for item in pending.values()]
            answer = self._client.batch_write_item(RequestItems={self._name: writes})
            left = [w for ws in (answer.get("UnprocessedItems") or {}).values() for w in ws]
            held = {key_of(write["PutRequest"]["Item"], self._hash) for write in left}
            for key in [key for key in pending if key not in held]:
                stored(pending.pop(key))
            if not pending:
                return
            # Full jitter: writers that were refused together don't come back together.
            time.sleep(min(random.uniform(0, pause), max(0.0, deadline - time.monotonic())))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _described(self, create: bool) -> str:
        """The table's state; made where it isn't there and `create`. Raises AF6061 for a table of other keys."""
        try:
            table = self._client.describe_table(TableName=self._name)["Table"]
        except _faults() as error:
            if code_of(error) != "ResourceNotFoundException":
                raise translated(error, self._name, self._where) from error
            if not create:
                raise missing(self._name, self._where) from error
            return self._create()
        self._judge(table)
        return str(table["TableStatus"])

    def _create(self) -> str:
        keys = (self._hash, "HASH"), (RANGE, "RANGE")
        try:
            self._client.create_table(
                TableName=self._name,
                AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name, _ in keys],
                KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in keys],
                BillingMode="PAY_PER_REQUEST",
            )
        except _faults() as error:
            if code_of(error) != "ResourceInUseException":  # another writer was first
                raise translated(error, self._name, self._where) from error
        else:
            _LOG.info("made the table '%s', %s", self._name, self._where)
        return "CREATING"

    def _judge(self, table: dict[str, Any]) -> None:
        types = {a["AttributeName"]: a["AttributeType"] for a in table["AttributeDefinitions"]}
        found = {k["KeyType"]: k["AttributeName"] for k in table["KeySchema"]}
        has = {kind: f"{name} ({types.get(name, '?')})" for kind, name in found.items()}
        wanted = {"HASH": f"{self._hash} (S)", "RANGE": f"{RANGE} (S)"}
        if has != wanted:
            raise unfit(
                self._name,
                f"its key is {', '.join(has[k] for k in ('HASH', 'RANGE') if k in has)}, "
                f"this sink writes {wanted['HASH']}, {wanted['RANGE']}",
                "give the sink a table of its own; `series` says what the partition key is made of",
            )

    def _let_expire(self, enable: bool) -> None:
        """See that DynamoDB deletes what has expired; where it can't be known or done, say so and go on."""
        try:
            answer = self._client.describe_time_to_live(TableName=self._name)["TimeToLiveDescription"]
            enabled = answer.get("TimeToLiveStatus") in ("ENABLED", "ENABLING")
            if enabled and answer.get("AttributeName") != EXPIRES:
                raise unfit(
                    self._name,
                    f"its TTL goes by '{answer.get('AttributeName')}', this sink writes '{EXPIRES}'",
                    "leave ttl_days out, or change the TTL attribute of the table",
                )
            if enabled:
                return
            if not enable:
                _LOG.warning(
                    "table '%s': TTL is off, nothing will expire; enable it on '%s'", self._name, EXPIRES
                )
                return
            specification = {"Enabled": True, "AttributeName": EXPIRES}
            self._client.update_time_to_live(TableName=self._name, TimeToLiveSpecification=specification)
        except _faults() as error:
            # An engine without it, no permission, or just switched by another writer: records are stored all the same.
            what = text_of(error) if code_of(error) else error
            _LOG.warning("table '%s': TTL could not be enabled on '%s': %s", self._name, EXPIRES, what)
