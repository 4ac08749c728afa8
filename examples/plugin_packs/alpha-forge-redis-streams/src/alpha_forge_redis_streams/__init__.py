"""Adds predictions to a Redis stream, each bar close and symbol once.

Strings only: listing plugins imports this module, and should stay cheap.
"""

from __future__ import annotations

from alpha_forge_sdk import hookimpl


@hookimpl
def alpha_forge_sinks() -> dict[str, str]:
    return {
        "redis_streams": f"{__name__}.sink:RedisStreamsSink",
    }


@hookimpl
def alpha_forge_conformance() -> dict[str, str]:
    return {
        "sinks.redis_streams": f"{__name__}.conformance:SinkCase",
    }
