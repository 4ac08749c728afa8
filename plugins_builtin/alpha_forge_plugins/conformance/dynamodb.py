"""How ``sinks.dynamodb`` is proved: against an engine that is started beside the checks."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from alpha_forge_sdk import Prediction
from alpha_forge_sdk.conformance import SinkConformance
from alpha_forge_sdk.testing.engines.dynamodb import shared_dynamodb
from alpha_forge_sdk.testing.predictions import METADATA, START

NAMED = ("frame", "column", "dag_name")


class DynamoDBConformance(SinkConformance):
    """Reads the table with boto3, ordered by key; an item of another form raises."""

    plugin = "sinks.dynamodb"

    def params(self, tmp_path: Path) -> Mapping[str, Any]:
        engine = shared_dynamodb()
        return {
            "table_name": engine.prefix + hashlib.sha256(str(tmp_path).encode()).hexdigest()[:16],
            "endpoint_url": engine.endpoint_url,
            "region": engine.region,
            "access_key_id": engine.access_key_id,
            "secret_access_key": engine.secret_access_key,
            "create_table": True,
            "request_timeout": 0.5,
        }

    def read_back(self, params: Mapping[str, Any]) -> Iterator[Prediction]:
        import boto3
        from botocore.exceptions import ClientError  # type: ignore[import-untyped]

        with contextlib.closing(boto3.client("dynamodb", **shared_dynamodb().connection())) as client:
            pages = client.get_paginator("scan").paginate(TableName=params["table_name"], ConsistentRead=True)
            try:
                items = [item for page in pages for item in page["Items"]]
            except ClientError as error:
                if error.response["Error"]["Code"] == "ResourceNotFoundException":
                    return  # never opened
                raise
        for item in items:
            yield self._prediction({name: next(iter(value.values())) for name, value in item.items()})

    @staticmethod
    def _prediction(item: dict[str, Any]) -> Prediction:
        metadata = {name: item[name] for name in NAMED if name in item}
        metadata |= json.loads(item.get("metadata", "{}"))
        value = -0.0 if item.get("negative_zero") else float(item["prediction"])
        return Prediction(item["symbol"], datetime.fromisoformat(item["ts"]), value, metadata)

    def culprit(self) -> Prediction:
        """An item may have 400 KB."""
        return Prediction("LARGE", START, 0.5, {**METADATA, "note": "x" * 410_000})

    def destination(self, params: Mapping[str, Any]) -> tuple[str, int]:
        parts = urlsplit(params["endpoint_url"])
        return str(parts.hostname), int(parts.port or (443 if parts.scheme == "https" else 80))

    def through(self, params: Mapping[str, Any], host: str, port: int) -> Mapping[str, Any]:
        return {**params, "endpoint_url": f"http://{host}:{port}"}
