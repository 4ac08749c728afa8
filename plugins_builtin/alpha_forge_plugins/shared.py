"""The pack ``shared``: market data, transforms and the file sink. Strings only: discovery stays cheap."""

from __future__ import annotations

from alpha_forge_sdk import hookimpl


@hookimpl
def alpha_forge_data_sources() -> dict[str, str]:
    return {
        "binance_futures": "alpha_forge_plugins.market.binance_futures:BinanceFutures",
        "files": "alpha_forge_plugins.market.files:Files",
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
        "csv_append": "alpha_forge_plugins.sinks.csv_append:CSVAppendSink",
        "jsonl": "alpha_forge_plugins.sinks.jsonl:JSONLinesSink",
        "sqlite": "alpha_forge_plugins.sinks.sqlite:SQLiteSink",
    }


@hookimpl
def alpha_forge_conformance() -> dict[str, str]:
    return {
        "data.binance_futures": "alpha_forge_plugins.conformance.sources:BinanceFuturesConformance",
        "data.files": "alpha_forge_plugins.conformance.sources:FilesConformance",
        "sinks.csv_append": "alpha_forge_plugins.conformance.sinks:CSVAppendConformance",
        "sinks.jsonl": "alpha_forge_plugins.conformance.sinks:JSONLinesConformance",
        "sinks.sqlite": "alpha_forge_plugins.conformance.sinks:SQLiteConformance",
    }
