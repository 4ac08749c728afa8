"""How the conformance kit gets at the sink's destination: a server of its own, in a child process."""

from __future__ import annotations

import atexit
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

from alpha_forge_sdk import Prediction
from alpha_forge_sdk.conformance import SinkConformance


@cache
def server() -> str:
    """Address of the server. It ends with this process: it serves until its standard input is closed."""
    child = subprocess.Popen(
        [sys.executable, "-m", "{{ cookiecutter.package }}.server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(child.communicate)
    assert child.stdout is not None
    return child.stdout.readline().strip()


class SinkCase(SinkConformance):
    """Proves that the sink keeps what it declares, also behind a network that fails."""

    plugin = "sinks.{{ cookiecutter.name }}"

    def params(self, tmp_path: Path) -> Mapping[str, Any]:
        # Each check has a directory of its own, and so a table of its own.
        table = hashlib.sha256(str(tmp_path).encode()).hexdigest()[:16]
        return {"url": f"{server()}/{table}", "timeout": 1.0}

    def read_back(self, params: Mapping[str, Any]) -> Iterable[Prediction]:
        """Everything that the server has, read without the sink's own code."""
        with urlopen(params["url"], timeout=10) as answer:
            records = json.load(answer)
        return [Prediction(r["symbol"], datetime.fromisoformat(r["ts"]), r["value"], r["metadata"]) for r in records]

    def destination(self, params: Mapping[str, Any]) -> tuple[str, int]:
        parts = urlsplit(params["url"])
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    def through(self, params: Mapping[str, Any], host: str, port: int) -> Mapping[str, Any]:
        return {**params, "url": urlsplit(params["url"])._replace(netloc=f"{host}:{port}").geturl()}
