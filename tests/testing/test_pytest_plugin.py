"""The pytest plugin in runs of their own: its fixtures work, and no stranger's pack gets into a test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.registry.pack_support import Site, hooks

FIXTURES = """
import urllib.request

from alpha_forge_sdk.testing.predictions import made_predictions


def test_clock(virtual_clock):
    before = virtual_clock.now()
    virtual_clock.advance_by(60)
    assert virtual_clock.now() == before + 60 * 10**9


def test_exchange(sandbox_exchange):
    exchange = sandbox_exchange(symbols=("BTCUSDT",))
    assert urllib.request.urlopen(exchange.url + "/fapi/v1/ping", timeout=10).status == 200


def test_probe(sink_probe):
    from alpha_forge_sdk import Sink

    class Kept(Sink):
        '''Keeps records.'''
        def open(self):
            self.records = []
        async def emit_batch(self, predictions):
            self.records += predictions

    sink = Kept(Kept.Params())
    probe = sink_probe(sink)
    probe.open()
    probe.emit_batch(made_predictions(3))
    assert len(sink.records) == 3


def test_proxy(fault_proxy, sandbox_exchange):
    exchange = sandbox_exchange(symbols=("BTCUSDT",))
    host, _, port = exchange.url.removeprefix("http://").rpartition(":")
    proxy = fault_proxy(host, int(port))
    url = "http://%s:%d/fapi/v1/ping" % proxy.address
    assert urllib.request.urlopen(url, timeout=10).status == 200


def test_http_proxy(http_fault_proxy, sandbox_exchange):
    proxy = http_fault_proxy(sandbox_exchange(symbols=("BTCUSDT",)).url)
    assert urllib.request.urlopen(proxy.url + "/fapi/v1/ping", timeout=10).status == 200
    assert [request.path for request in proxy.requests] == ["/fapi/v1/ping"]


def test_rest(run_pipeline, crash_at):
    assert callable(run_pipeline)
    assert callable(crash_at)
"""
ISOLATION = """
import os
import subprocess
import sys

import pytest

from alpha_forge.registry import discover

AT_COLLECTION = [p.status for p in discover().packs if p.name == "stranger"]


def test_collection():
    assert AT_COLLECTION == ["blocked"]


def status():
    return next(p.status for p in discover().packs if p.name == "stranger")


def test_a_stranger_is_blocked():
    assert status() == "blocked"
    assert "stranger_pack" not in sys.modules
    assert not any(p.pack == "stranger" for p in discover().plugins)


def test_the_built_in_are_there():
    assert {"shared", "middlefreq"} <= {p.name for p in discover().packs if p.status == "ok"}


def test_in_children_too():
    code = "from alpha_forge.registry import discover; print([p.status for p in discover().packs if p.name == 'stranger'])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "['blocked']"


@pytest.mark.alpha_forge_packs("stranger")
def test_one_that_asks_for_it():
    assert status() == "ok"


def test_and_only_that_one():
    assert status() == "blocked"
"""


def run_pytest(
    folder: Path, test: str, project: str = "", path: str = ""
) -> subprocess.CompletedProcess[str]:
    (folder / "pyproject.toml").write_text(f"{project}\n[tool.pytest.ini_options]\n")
    (folder / "test_it.py").write_text(test)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--strict-markers"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "ALPHA_FORGE_BLOCK": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def stranger(tmp_path: Path) -> str:
    """A folder in which a pack is installed that nobody asked for."""
    root = tmp_path / "site"
    root.mkdir()
    source = "from alpha_forge_sdk import Sink\n\n\nclass S(Sink):\n    def emit_batch(self, p): ...\n"
    Site(root).pack("stranger", hooks(alpha_forge_sinks="{'strange': 'stranger_pack.sink:S'}"), sink=source)
    return str(root)


def test_the_fixtures_work_in_anybody_s_tests(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, FIXTURES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_stranger_s_pack_is_out_of_sight_unless_asked_for(tmp_path: Path, stranger: str) -> None:
    done = run_pytest(tmp_path, ISOLATION, path=stranger)
    assert done.returncode == 0, done.stdout + done.stderr


SEEN = """
from alpha_forge.registry import discover


def test_it_is_seen():
    assert discover().find("sinks.strange").status == "ok"
"""


@pytest.mark.parametrize(
    "project",
    ['[project.entry-points.alpha_forge]\nstranger = "stranger_pack"\n', None],
    ids=["the project's own pack", "named in the ini option"],
)
def test_what_the_project_names_is_seen(tmp_path: Path, stranger: str, project: str | None) -> None:
    if project is None:
        (tmp_path / "pytest.ini").write_text("[pytest]\nalpha_forge_packs = stranger\n")
    done = run_pytest(tmp_path, SEEN, project or "", stranger)
    assert done.returncode == 0, done.stdout + done.stderr


def test_loading_the_plugin_imports_nothing_of_the_sdk() -> None:
    code = (
        "import sys; import alpha_forge_sdk.testing.plugin; "
        "print([m for m in sys.modules if m.startswith('alpha_forge') or m in ('numpy', 'pydantic')])"
    )
    told = subprocess.check_output([sys.executable, "-c", code], text=True).strip()
    assert eval(told) == ["alpha_forge_sdk", "alpha_forge_sdk.testing", "alpha_forge_sdk.testing.plugin"]  # noqa: S307
