"""The ClickHouse of the tests: its data survives SIGKILL, and it never outlives the process that started it."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alpha_forge_sdk.conformance import NotApplicable
from alpha_forge_sdk.testing.engines import EngineMissing
from alpha_forge_sdk.testing.engines.clickhouse import (
    READER,
    URL_VARIABLE,
    ClickHouseError,
    OwnClickHouse,
    connection_params,
    running_clickhouse,
    shared_clickhouse,
)


@pytest.fixture(autouse=True)
def _no_server_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(URL_VARIABLE, raising=False)


def test_what_was_inserted_survives_sigkill(tmp_path: Path) -> None:
    with running_clickhouse(tmp_path / "server") as server:
        assert isinstance(server, OwnClickHouse)
        server.query("CREATE TABLE t (a Int64) ENGINE = MergeTree ORDER BY a")
        server.query("INSERT INTO t VALUES", data=b"(1), (2)")
        first, url = server.pid, server.url
        server.kill()
        with pytest.raises((OSError, http.client.HTTPException)):
            server.query("SELECT 1")
        server.restart()
        assert (server.url, server.pid != first) == (url, True)
        assert server.query("SELECT sum(a) FROM t") == "3\n"


def test_users_passwords_and_read_only_profiles_hold() -> None:
    server = shared_clickhouse()
    assert server.query("SELECT currentUser()", user=READER) == f"{READER.name}\n"
    for user, code in ((READER, 164), (type(READER)(READER.name, "wrong"), 516)):
        with pytest.raises(ClickHouseError) as caught:
            server.query("CREATE TABLE refused (a Int8) ENGINE = MergeTree ORDER BY a", user=user)
        assert caught.value.code == code


_STARTER = """
import sys, time
from pathlib import Path
from alpha_forge_sdk.testing.engines.clickhouse import start_clickhouse
print(start_clickhouse(Path(sys.argv[1])).pid, flush=True)
time.sleep(60)
"""


def test_it_ends_when_the_process_that_started_it_is_killed(tmp_path: Path) -> None:
    starter = subprocess.Popen([sys.executable, "-c", _STARTER, str(tmp_path)], stdout=subprocess.PIPE)
    assert starter.stdout is not None
    pid = int(starter.stdout.readline())
    os.kill(pid, 0)
    starter.send_signal(signal.SIGKILL)
    starter.communicate()
    deadline = time.monotonic() + 10
    while _alive(pid):
        assert time.monotonic() < deadline, "the server outlived its starter"
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    """Running, that is neither gone nor a corpse that nobody has collected yet."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.parent.parent.joinpath("self").exists():  # no /proc here
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_without_an_engine_the_cure_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alpha_forge_sdk.testing.engines.clickhouse.find_spec", lambda _: None)
    with pytest.raises(EngineMissing, match=r"alpha-forge\[engines\].*AF_CLICKHOUSE_URL"):
        running_clickhouse(tmp_path).__enter__()
    assert issubclass(EngineMissing, NotApplicable)


def test_a_server_of_the_users_gets_a_scratch_database_that_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = shared_clickhouse()
    monkeypatch.setenv(URL_VARIABLE, f"http://{own.user}:{own.password}@{own.host}:{own.port}")
    with running_clickhouse(tmp_path) as server:
        assert not server.own
        assert connection_params(server)["database"] == server.database != own.database
        server.query("CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a")
        with pytest.raises(EngineMissing, match="can't be killed"):
            server.kill()
    assert server.database not in own.query("SHOW DATABASES")
    assert own.query("SELECT 1") == "1\n"
