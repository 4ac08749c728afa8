"""Instants on the command line."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click


class InstantType(click.ParamType[int]):
    """An instant: a date, or a time in ISO 8601; UTC unless it says otherwise. Becomes ns since the epoch."""

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            found = datetime.fromisoformat(str(value).strip())
        except ValueError:
            self.fail(f"{value!r} is no instant: write 2026-01-05, or 2026-01-05T13:00:00Z", param, ctx)
        if found.tzinfo is None:
            found = found.replace(tzinfo=UTC)
        seconds = int(found.replace(microsecond=0).timestamp())
        return seconds * 1_000_000_000 + found.microsecond * 1000

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        return "INSTANT"
