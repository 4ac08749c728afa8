"""DynamoDB beside a test: dynalite, a Node.js server with its data on the disk, or your own by ``AF_DYNAMODB_URL``.

>>> with running_dynamodb(folder) as engine:        # doctest: +SKIP
...     client = boto3.client("dynamodb", **engine.connection())
...     engine.kill()                               # SIGKILL; what was written is on the disk
...     engine.restart()

dynalite knows no TTL and no transactions, checks no signature and never throttles: put `http_fault_proxy` in front.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from alpha_forge_sdk.testing.engines import EngineMissing
from alpha_forge_sdk.testing.engines.loopback import HOST, free_port, wait_until

URL_VARIABLE = "AF_DYNAMODB_URL"
"""``http://HOST:PORT``: an engine of your own, such as DynamoDB Local. Tests make tables there, and delete them."""

DYNALITE_VARIABLE = "AF_DYNALITE"
"""Path of dynalite's ``cli.js``, where it is not on PATH."""

CURE = (
    "no DynamoDB here: npm install --global dynalite@4.0.0 (needs Node.js), "
    f"or name an engine of your own: {URL_VARIABLE}=http://HOST:8000"
)

_START_SECONDS = 20.0
_ATTEMPTS = 3
_STOP_SECONDS = 1.0
_TABLE_MS = 20
"""How long a table stays CREATING or DELETING: long enough to be seen."""

_SERVE = """
process.stdin.on('end', () => process.exit()).resume()
process.on('uncaughtException', (error) => {
  if (error.code !== 'ECONNRESET') { console.error(error); process.exit(1) }
})
require(process.argv[1])
"""
"""dynalite throws when a client hangs up in the middle of a request, which is no reason for a server to end."""


class DynamoDB:
    """An engine that runs. Make tables whose names begin with ``prefix``: `stop` deletes them where it must."""

    def __init__(self, endpoint_url: str, access_key_id: str, secret_access_key: str) -> None:
        self.endpoint_url = endpoint_url
        self.region = os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        self.access_key_id = access_key_id
        self.secret_access_key = secret_access_key
        self.prefix = f"af_test_{secrets.token_hex(4)}_"

    @property
    def own(self) -> bool:
        """True if it was started here, so that it can be killed and restarted."""
        return False

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.endpoint_url)
        return parts.hostname or HOST, parts.port or (443 if parts.scheme == "https" else 80)

    def connection(self) -> dict[str, str]:
        """Keyword arguments of ``boto3.client("dynamodb", …)``."""
        return {
            "endpoint_url": self.endpoint_url,
            "region_name": self.region,
            "aws_access_key_id": self.access_key_id,
            "aws_secret_access_key": self.secret_access_key,
        }

    def kill(self) -> None:
        """SIGKILL. Returns when the process is gone. Raises EngineMissing for one that wasn't started here."""
        raise EngineMissing(f"the engine of {URL_VARIABLE} can't be killed by a test")

    def restart(self) -> None:
        """Start it again on the same port with the same data, killing it first if it runs."""
        raise EngineMissing(f"the engine of {URL_VARIABLE} can't be restarted by a test")

    def stop(self) -> None:
        """End it for good; of an engine that wasn't started here, delete the tables of this run. Idempotent."""


class OwnDynamoDB(DynamoDB):
    """dynalite in a child process that ends with this one; its files are in `folder`. Made by `running_dynamodb`."""

    def __init__(self, folder: Path, command: tuple[str, ...]) -> None:
        super().__init__("", "local", "local")
        self._folder = folder
        self._command = command
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()

    @property
    def own(self) -> bool:
        return True

    @property
    def pid(self) -> int:
        """The engine's process. Raises EngineMissing while it does not run."""
        if self._child is None:
            raise EngineMissing("the engine does not run: restart() it")
        return self._child.pid

    def start(self) -> None:
        """Start it on a free port; returns when it answers. Raises RuntimeError, with its last words, if it can't."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for _ in range(_ATTEMPTS):  # a free port may be taken by the time that the engine listens
            self.endpoint_url = f"http://{HOST}:{free_port()}"
            if self._started():
                return
        raise RuntimeError(f"dynalite does not start: {self._last_words()}")

    def kill(self) -> None:
        child, self._child = self._child, None
        if child is not None and self._owner == os.getpid():
            child.kill()
            child.communicate()

    def restart(self) -> None:
        self.kill()
        if not any(self._started() for _ in range(_ATTEMPTS)):
            raise RuntimeError(f"dynalite does not start again: {self._last_words()}")

    def stop(self) -> None:
        if self._child is not None and self._owner == os.getpid():
            self._child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(_STOP_SECONDS)
        self.kill()

    def _started(self) -> bool:
        times = [f"--{what}TableMs={_TABLE_MS}" for what in ("create", "delete")]
        port = str(self.address[1])
        data = str(self._folder / "data")
        with open(self._folder / "dynalite.log", "ab") as log:
            self._child = subprocess.Popen(
                (*self._command, "--host", HOST, "--port", port, "--path", data, *times),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        try:
            if wait_until(self._answers, self._child, _START_SECONDS):
                return True
        except BaseException:
            self.kill()
            raise
        self.kill()
        return False

    def _answers(self) -> bool:
        # Past any proxy that the environment names: it is on this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(self.endpoint_url, timeout=5) as answer:
                return b"healthy" in answer.read()
        except OSError:
            return False

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = (self._folder / "dynalite.log").read_text("utf-8", "replace").strip().splitlines()
            # Node ends its traces with its version; what happened stands in the line that names an Error.
            said = [line.strip() for line in lines if "Error" in line]
            return said[-1] if said else "it said nothing"
        return "it said nothing"


class _OthersDynamoDB(DynamoDB):
    """The engine that ``AF_DYNAMODB_URL`` names, with tables of this test run."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EngineMissing(f"{URL_VARIABLE} is no http(s)://HOST:PORT")
        environ = os.environ
        super().__init__(
            url.rstrip("/"),
            environ.get("AWS_ACCESS_KEY_ID", "local"),
            environ.get("AWS_SECRET_ACCESS_KEY", "local"),
        )

    def stop(self) -> None:
        import boto3

        with contextlib.closing(boto3.client("dynamodb", **self.connection())) as client:
            pages = client.get_paginator("list_tables").paginate()
            for name in [name for page in pages for name in page["TableNames"]]:
                if name.startswith(self.prefix):
                    client.delete_table(TableName=name)


def _dynalite() -> tuple[str, ...]:
    """The command that runs dynalite until its standard input ends. Raises EngineMissing."""
    found = os.environ.get(DYNALITE_VARIABLE) or shutil.which("dynalite")
    node = shutil.which("node")
    if not found or not node:
        raise EngineMissing(CURE)
    script = Path(found).resolve()
    if not script.is_file():
        raise EngineMissing(f"{DYNALITE_VARIABLE} names {found}, which is no file; {CURE}")
    return node, "--eval", _SERVE, str(script)


def start_dynamodb(folder: Path) -> DynamoDB:
    """An engine with its files under `folder` (or that of ``AF_DYNAMODB_URL``); ``stop`` it.

    Raises EngineMissing where there is neither dynalite nor the variable.
    """
    url = os.environ.get(URL_VARIABLE)
    if url:
        return _OthersDynamoDB(url)
    own = OwnDynamoDB(folder, _dynalite())
    own.start()
    return own


@contextlib.contextmanager
def running_dynamodb(folder: Path) -> Iterator[DynamoDB]:
    """`start_dynamodb`, stopped at the end of the block."""
    engine = start_dynamodb(folder)
    try:
        yield engine
    finally:
        engine.stop()


@cache
def shared_dynamodb() -> DynamoDB:
    """One engine for all checks and tests of this process, stopped when it ends. Don't kill it: start your own.

    Raises EngineMissing as `start_dynamodb` does.
    """
    folder = Path(tempfile.mkdtemp(prefix="af-dynamodb-"))
    owner = os.getpid()

    def end() -> None:
        if os.getpid() == owner:
            engine.stop()
            shutil.rmtree(folder, ignore_errors=True)

    try:
        engine = start_dynamodb(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    atexit.register(end)
    return engine
