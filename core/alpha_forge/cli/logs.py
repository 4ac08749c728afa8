"""Logging of the long-running commands: plain text or one JSON object a line, on standard error."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

CHATTY = ("urllib3", "clickhouse_connect")
"""Clients that warn at each try, with addresses and traces, of what the plugin that uses them tells in a line."""


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def set_up(
    log_format: str, *, quiet: bool = False, verbose: bool = False, least: int = logging.NOTSET
) -> None:
    """Send the logs of Alpha Forge to standard error, from `least` up; those of libraries from warnings up, of those in
    `CHATTY` from errors up."""
    handler = logging.StreamHandler(sys.stderr)
    if log_format == "json":
        handler.setFormatter(_Json())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    for name in ("alpha_forge", "alpha_forge_sdk", "alpha_forge_plugins"):
        logging.getLogger(name).setLevel(max(level, least))
