"""Stores predictions in a table of a DuckDB file.

Strings only: listing plugins imports this module, and should stay cheap.
"""

from __future__ import annotations

from alpha_forge_sdk import hookimpl


@hookimpl
def alpha_forge_sinks() -> dict[str, str]:
    return {
        "duckdb": f"{__name__}.sink:DuckDBSink",
    }


@hookimpl
def alpha_forge_conformance() -> dict[str, str]:
    return {
        "sinks.duckdb": f"{__name__}.conformance:SinkCase",
    }
