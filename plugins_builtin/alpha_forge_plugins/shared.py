"""The pack ``shared``: market data, transforms and the file sink. Strings only: discovery stays cheap."""

from __future__ import annotations

from alpha_forge_sdk import hookimpl


@hookimpl
def alpha_forge_data_sources() -> dict[str, str]:
    return {
        "binance_futures": "alpha_forge_plugins.market.binance_futures:BinanceFutures",
        "binance_spot": "alpha_forge_plugins.market.binance_spot:BinanceSpot",
        "clickhouse_poll": "alpha_forge_plugins.market.clickhouse_poll:ClickHousePoll",
        "files": "alpha_forge_plugins.market.files:Files",
        "timer": "alpha_forge_plugins.market.timer:Timer",
    }


@hookimpl
def alpha_forge_transforms() -> dict[str, str]:
    return {
        "resample": "alpha_forge_plugins.transforms.resample:Resample",
        "align": "alpha_forge_plugins.transforms.align:Align",
    }


@hookimpl
def alpha_forge_sinks() -> dict[str, str]:
    return {
        "clickhouse": "alpha_forge_plugins.sinks.clickhouse:ClickHouseSink",
        "csv_append": "alpha_forge_plugins.sinks.csv_append:CSVAppendSink",
        "dynamodb": "alpha_forge_plugins.sinks.dynamodb:DynamoDBSink",
        "jsonl": "alpha_forge_plugins.sinks.jsonl:JSONLinesSink",
        "parquet": "alpha_forge_plugins.sinks.parquet:ParquetSink",
        "sqlite": "alpha_forge_plugins.sinks.sqlite:SQLiteSink",
        "webhook": "alpha_forge_plugins.sinks.webhook:WebhookSink",
    }


@hookimpl
def alpha_forge_conformance() -> dict[str, str]:
    return {
        "data.binance_futures": "alpha_forge_plugins.conformance.sources:BinanceFuturesConformance",
        "data.binance_spot": "alpha_forge_plugins.conformance.sources:BinanceSpotConformance",
        "data.clickhouse_poll": "alpha_forge_plugins.conformance.clickhouse:ClickHousePollConformance",
        "data.files": "alpha_forge_plugins.conformance.sources:FilesConformance",
        "data.timer": "alpha_forge_plugins.conformance.timer:TimerConformance",
        "sinks.clickhouse": "alpha_forge_plugins.conformance.clickhouse:ClickHouseSinkConformance",
        "sinks.csv_append": "alpha_forge_plugins.conformance.sinks:CSVAppendConformance",
        "sinks.dynamodb": "alpha_forge_plugins.conformance.dynamodb:DynamoDBConformance",
        "sinks.jsonl": "alpha_forge_plugins.conformance.sinks:JSONLinesConformance",
        "sinks.parquet": "alpha_forge_plugins.conformance.sinks:ParquetConformance",
        "sinks.sqlite": "alpha_forge_plugins.conformance.sinks:SQLiteConformance",
        "sinks.webhook": "alpha_forge_plugins.conformance.webhook:WebhookConformance",
    }
