"""How the conformance kit gets at the sink's destination: a server of its own, in a child process."""

from __future__ import annotations

import atexit
import hashlib
import json
import math
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from alpha_forge_sdk import Prediction
from alpha_forge_sdk.conformance import SinkConformance


@cache
def server_port() -> int:
    """Port of a server that ends with this process: it serves until its standard input is closed."""
    child = subprocess.Popen(
        [sys.executable, "-m", "{{ cookiecutter.package }}.server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(child.communicate)
    assert child.stdout is not None
    return int(child.stdout.readline())


class SinkCase(SinkConformance):
    """Proves that the sink keeps what it declares, also behind a network that fails."""

    plugin = "sinks.{{ cookiecutter.name }}"

    def params(self, tmp_path: Path) -> Mapping[str, Any]:
        # Each check has a directory of its own, and so a table of its own.
        table = hashlib.sha256(str(tmp_path).encode()).hexdigest()[:16]
        return {"host": "127.0.0.1", "port": server_port(), "table": table, "timeout": 0.5}

    def read_back(self, params: Mapping[str, Any]) -> Iterable[Prediction]:
        """Everything that the server has, read without the sink's own code."""
        with (
            socket.create_connection((params["host"], params["port"]), 10) as connection,
            connection.makefile("rwb") as stream,
        ):
            stream.write(json.dumps({"table": params["table"]}).encode() + b"\n")
            stream.flush()
            records = json.loads(stream.readline())
        return [Prediction(r["symbol"], datetime.fromisoformat(r["ts"]), r["value"], r["metadata"]) for r in records]

    def culprit(self) -> Prediction:
        """A record that the destination can't hold: JSON has no NaN."""
        return Prediction("BTCUSDT", datetime(2026, 1, 5, tzinfo=UTC), math.nan, {})

    def destination(self, params: Mapping[str, Any]) -> tuple[str, int]:
        return params["host"], params["port"]

    def through(self, params: Mapping[str, Any], host: str, port: int) -> Mapping[str, Any]:
        return {**params, "host": host, "port": port}
