"""A ClickHouse server beside a test: out of the wheel ``chdb-core``, or your own by ``AF_CLICKHOUSE_URL``.

>>> with running_clickhouse(folder) as server:      # doctest: +SKIP
...     server.query("CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a")
...     server.kill()                               # SIGKILL; what was inserted is on the disk
...     server.restart()
"""

from __future__ import annotations

import atexit
import contextlib
import http.client
import os
import secrets
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlencode, urlsplit
from xml.sax.saxutils import escape

from alpha_forge_sdk.testing.engines import EngineMissing
from alpha_forge_sdk.testing.engines.loopback import HOST, free_port, wait_until

URL_VARIABLE = "AF_CLICKHOUSE_URL"
"""``http://USER:PASSWORD@HOST:PORT``: a server of your own. Tests make a scratch database there, and drop it."""

CURE = (
    "no ClickHouse here: pip install 'alpha-forge[engines]' for one out of a wheel (Linux, macOS), "
    f"or name a server of your own: {URL_VARIABLE}=http://USER:PASSWORD@HOST:8123"
)

_START_SECONDS = 30.0
_ATTEMPTS = 3
_STOP_SECONDS = 1.0
"""A clean stop waits for clients that are connected; nothing is lost without it."""

_CHILD = "alpha_forge_sdk.testing.engines.clickhouse_child"

_CONFIG = """<clickhouse>
  <http_port>{port}</http_port>
  <listen_host>{host}</listen_host>
  <users_config>users.xml</users_config>
  <logger><level>none</level></logger>
</clickhouse>
"""

_USERS = """<clickhouse>
  <profiles><default/><readonly><readonly>1</readonly></readonly></profiles>
  <quotas><default/></quotas>
  <users>
    <default>{networks}<password/><profile>default</profile><quota>default</quota></default>
{users}  </users>
</clickhouse>
"""

_USER = """    <{name}>
      {networks}<password>{password}</password><profile>{profile}</profile><quota>default</quota>
    </{name}>
"""

_NETWORKS = f"<networks><ip>{HOST}</ip></networks>"


class ClickHouseError(Exception):
    """The server refused a query. ``code`` is ClickHouse's own (60: no such table); 0 if it gave none."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class User:
    """A user to be made: name (letters and digits), password, and whether it may only read."""

    name: str
    password: str
    readonly: bool = False


class ClickHouse:
    """A server that runs. ``own`` says that it was started here, so that it can be killed and restarted.

    `query` speaks HTTP by the standard library alone: what a test reads, no client of the product has touched.
    """

    def __init__(
        self, host: str, port: int, user: str, password: str, database: str, *, secure: bool = False
    ) -> None:
        self.host = host
        self.port = port
        self.user = user
        self.password = password
        self.database = database
        """A database for tests to make tables in, there already."""
        self.secure = secure

    @property
    def own(self) -> bool:
        return False

    @property
    def url(self) -> str:
        """``http://HOST:PORT``, without user and password."""
        return f"{'https' if self.secure else 'http'}://{self.host}:{self.port}"

    def query(
        self, sql: str, *, data: bytes = b"", database: str | None = None, user: User | None = None
    ) -> str:
        """Send `sql` (and rows, for an INSERT), → the answer. Raises ClickHouseError, or OSError if unreachable."""
        path = "/?" + urlencode({"database": self.database if database is None else database, "query": sql})
        return self._post(path, data, user or User(self.user, self.password))

    def kill(self) -> None:
        """SIGKILL. Returns when the process is gone. Raises EngineMissing for a server that wasn't started here."""
        raise EngineMissing(f"the server of {URL_VARIABLE} can't be killed by a test")

    def restart(self) -> None:
        """Start it again on the same port with the same data, killing it first if it runs."""
        raise EngineMissing(f"the server of {URL_VARIABLE} can't be restarted by a test")

    def stop(self) -> None:
        """End it for good. Idempotent; harmless for a server that wasn't started here."""

    def _post(self, path: str, data: bytes, user: User) -> str:
        connection: http.client.HTTPConnection
        if self.secure:
            connection = http.client.HTTPSConnection(
                self.host, self.port, timeout=30, context=ssl.create_default_context()
            )
        else:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        with contextlib.closing(connection):
            headers = {"X-ClickHouse-User": user.name, "X-ClickHouse-Key": user.password}
            connection.request("POST", path, data, headers)
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
            if answer.status != 200:
                raise ClickHouseError(int(answer.headers.get("X-ClickHouse-Exception-Code", 0)), text.strip())
            return text


class OwnClickHouse(ClickHouse):
    """A server out of the wheel, in a child process; its files are in `folder`. Made by `running_clickhouse`."""

    def __init__(self, folder: Path, users: tuple[User, ...]) -> None:
        super().__init__(HOST, 0, "tester", secrets.token_hex(8), "alpha_forge_test")
        self._folder = folder
        self._users = (User(self.user, self.password), *users)
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()

    @property
    def own(self) -> bool:
        return True

    @property
    def pid(self) -> int:
        """The server's process. Raises EngineMissing while it does not run."""
        if self._child is None:
            raise EngineMissing("the server does not run: restart() it")
        return self._child.pid

    def start(self) -> None:
        """Start it on a free port; returns when it answers. Raises RuntimeError, with its last words, if it can't."""
        self._folder.mkdir(parents=True, exist_ok=True)
        users = "".join(
            _USER.format(
                name=user.name,
                password=escape(user.password),
                profile="readonly" if user.readonly else "default",
                networks=_NETWORKS,
            )
            for user in self._users
        )
        (self._folder / "users.xml").write_text(_USERS.format(networks=_NETWORKS, users=users), "utf-8")
        for _ in range(_ATTEMPTS):  # a free port may be taken by the time that the server listens
            self.port = free_port()
            if self._started():
                return
        raise RuntimeError(f"ClickHouse does not start: {self._last_words()}")

    def kill(self) -> None:
        child, self._child = self._child, None
        if child is not None and self._owner == os.getpid():
            child.kill()
            child.communicate()

    def restart(self) -> None:
        self.kill()
        if not any(self._started() for _ in range(_ATTEMPTS)):
            raise RuntimeError(f"ClickHouse does not start again: {self._last_words()}")

    def stop(self) -> None:
        child = self._child
        if child is not None and self._owner == os.getpid():
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_STOP_SECONDS)
        self.kill()

    def _started(self) -> bool:
        (self._folder / "config.xml").write_text(_CONFIG.format(port=self.port, host=HOST), "utf-8")
        with open(self._folder / "server.log", "ab") as log:
            command = (sys.executable, "-P", "-m", _CHILD)
            child = subprocess.Popen(
                command,
                cwd=self._folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
                process_group=0,  # Ctrl-C is for the tests, which then stop it
            )
        self._child = child
        try:
            if wait_until(self._answers, child, _START_SECONDS):
                return True
        except BaseException:
            self.kill()
            raise
        self.kill()
        return False

    def _answers(self) -> bool:
        """Whether it is this server that answers: nobody else knows the password."""
        try:
            self.query(f"CREATE DATABASE IF NOT EXISTS {self.database}", database="default")
        except (OSError, http.client.HTTPException, ClickHouseError):
            return False
        return True

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = (self._folder / "server.log").read_text("utf-8", "replace").strip().splitlines()
            return lines[-1] if lines else "it said nothing"
        return "it said nothing"


class _OthersClickHouse(ClickHouse):
    """The server that ``AF_CLICKHOUSE_URL`` names, with a scratch database and users of this test run."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EngineMissing(f"{URL_VARIABLE} is no http(s)://USER:PASSWORD@HOST:PORT")
        super().__init__(
            parts.hostname,
            parts.port or (8443 if secure else 8123),
            unquote(parts.username or "default"),
            unquote(parts.password or ""),
            f"alpha_forge_test_{secrets.token_hex(4)}",
            secure=secure,
        )
        self._made: list[str] = []

    def start(self, users: tuple[User, ...]) -> None:
        """Make the database and the users. Raises OSError or ClickHouseError if the server refuses."""
        self.query(f"CREATE DATABASE {self.database}", database="default")
        for user in users:
            # Names and passwords are a test's own, made of letters and digits.
            settings = " SETTINGS readonly = 1" if user.readonly else ""
            self.query(f"CREATE USER OR REPLACE {user.name} IDENTIFIED BY '{user.password}'{settings}")
            self._made.append(user.name)
            self.query(f"GRANT {'SELECT' if user.readonly else 'ALL'} ON {self.database}.* TO {user.name}")

    def stop(self) -> None:
        with contextlib.suppress(OSError, ClickHouseError):
            while self._made:
                self.query(f"DROP USER IF EXISTS {self._made.pop()}", database="default")
            self.query(f"DROP DATABASE IF EXISTS {self.database}", database="default")


def start_clickhouse(folder: Path, *, users: tuple[User, ...] = ()) -> ClickHouse:
    """A server with its files under `folder` (or that of ``AF_CLICKHOUSE_URL``); ``stop`` it.

    Raises EngineMissing where there is neither chdb-core nor the variable.
    """
    url = os.environ.get(URL_VARIABLE)
    if url:
        others = _OthersClickHouse(url)
        try:
            others.start(users)
        except (OSError, ClickHouseError):
            others.stop()
            raise
        return others
    if find_spec("chdb") is None:
        raise EngineMissing(CURE)
    own = OwnClickHouse(folder, users)
    own.start()
    return own


@contextlib.contextmanager
def running_clickhouse(folder: Path, *, users: tuple[User, ...] = ()) -> Iterator[ClickHouse]:
    """`start_clickhouse`, stopped at the end of the block."""
    server = start_clickhouse(folder, users=users)
    try:
        yield server
    finally:
        server.stop()


READER = User("test_reader", "reads_only", readonly=True)
"""A user of `shared_clickhouse` that may only read."""


@cache
def shared_clickhouse() -> ClickHouse:
    """One server for all checks and tests of this process, stopped when it ends. Don't kill it: start your own.

    Raises EngineMissing as `start_clickhouse` does.
    """
    folder = Path(tempfile.mkdtemp(prefix="af-clickhouse-"))
    owner = os.getpid()

    def end() -> None:
        if os.getpid() == owner:
            server.stop()
            shutil.rmtree(folder, ignore_errors=True)

    try:
        server = start_clickhouse(folder, users=(READER,))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    atexit.register(end)
    return server


def connection_params(server: ClickHouse) -> Mapping[str, object]:
    """How a plugin that connects by host, port, user and password finds the server; values JSON can hold."""
    return {
        "host": server.host,
        "port": server.port,
        "user": server.user,
        "password": server.password,
        "database": server.database,
        "secure": server.secure,
    }
