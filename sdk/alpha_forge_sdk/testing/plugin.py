"""The pytest plugin, by entry point: fixtures of the harness, and no stranger's packs in a test unless it asks.

Imports nothing but pytest: it is loaded in every pytest run of an environment that has alpha-forge.

Isolation: packs that happen to be installed on the machine are blocked (``ALPHA_FORGE_BLOCK``, so in child processes
too), but the built-in ones and those asked for: the packs that the ``pyproject.toml`` beside the tests gives itself,
the ini option ``alpha_forge_packs``, and, for one test, the marker ``@pytest.mark.alpha_forge_packs("acme", …)``. Packs
that a test puts on ``sys.path`` itself are its own affair.
"""

from __future__ import annotations

import importlib.metadata
import os
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from alpha_forge.contracts.plugin import Sink
    from alpha_forge_sdk.sandbox import SandboxConfig, SandboxExchange
    from alpha_forge_sdk.testing.clock import VirtualClock
    from alpha_forge_sdk.testing.fault_proxy import FaultProxy
    from alpha_forge_sdk.testing.http_fault_proxy import HttpFaultProxy
    from alpha_forge_sdk.testing.sink_probe import SinkProbe

GROUP = "alpha_forge"
BLOCK_VARIABLE = "ALPHA_FORGE_BLOCK"
OPTION = "alpha_forge_packs"
_OWN = "alpha-forge"
_FOREIGN = pytest.StashKey[frozenset[str]]()
"""Packs that are installed, and not asked for by the project."""
_BEFORE = pytest.StashKey[str | None]()
"""What the environment blocked before."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        OPTION, "Installed packs that tests may see, beside the built-in and the project's own.", "linelist"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", f"{OPTION}(*names): installed packs of Alpha Forge that this test may see besides"
    )
    wanted = {*config.getini(OPTION), *packs_of_project(config.rootpath)}
    config.stash[_FOREIGN] = frozenset(foreign_packs() - wanted)
    config.stash[_BEFORE] = os.environ.get(BLOCK_VARIABLE)
    # From here on: what test modules do while they are collected is a test's doing too.
    if config.stash[_FOREIGN]:
        os.environ[BLOCK_VARIABLE] = _blocked(config, ())


def pytest_unconfigure(config: pytest.Config) -> None:
    if config.stash.get(_FOREIGN, None):
        before = config.stash[_BEFORE]
        if before is None:
            os.environ.pop(BLOCK_VARIABLE, None)
        else:
            os.environ[BLOCK_VARIABLE] = before


def _blocked(config: pytest.Config, asked: Iterable[str]) -> str:
    """What ``ALPHA_FORGE_BLOCK`` has to be for a test that asks for these packs."""
    return ",".join(filter(None, (config.stash[_BEFORE], *sorted(config.stash[_FOREIGN] - set(asked)))))


def packs_of_project(root: Path) -> set[str]:
    """Names of the packs that the project at `root` declares as entry points; empty if it declares none."""
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8")).get("project", {})
        return set(project.get("entry-points", {}).get(GROUP, {}))
    except (OSError, ValueError, AttributeError):
        return set()


def foreign_packs() -> set[str]:
    """Names of the packs that are installed and not built in. Imports none of them."""
    found: set[str] = set()
    for point in importlib.metadata.entry_points(group=GROUP):
        try:
            distribution = point.dist.name if point.dist is not None else ""
        except Exception:  # noqa: BLE001 - the metadata of a stranger; discovery will tell of it
            distribution = ""
        if distribution.lower().replace("_", "-") != _OWN:
            found.add(point.name)
    return found


@pytest.fixture(autouse=True)
def _packs_asked_for(request: pytest.FixtureRequest) -> None:
    asked = [name for mark in request.node.iter_markers(OPTION) for name in mark.args]
    if asked:
        monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
        monkeypatch.setenv(BLOCK_VARIABLE, _blocked(request.config, asked))


@pytest.fixture
def virtual_clock() -> VirtualClock:
    """A clock that stands at 2026-01-05T00:00Z until it is advanced."""
    from alpha_forge_sdk.testing.clock import VirtualClock

    return VirtualClock(1_767_571_200_000_000_000)


@pytest.fixture
def sandbox_exchange() -> Iterator[Callable[..., SandboxExchange]]:
    """``sandbox_exchange(speed=…, symbols=…)`` starts a local exchange; the options are `SandboxConfig`'s."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(config: SandboxConfig | None = None, **options: Any) -> SandboxExchange:
            from alpha_forge_sdk.sandbox import SandboxConfig
            from alpha_forge_sdk.testing.exchange import running_exchange

            return stack.enter_context(running_exchange(config or SandboxConfig(**options)))

        yield start


@pytest.fixture
def run_pipeline() -> Callable[..., Any]:
    """`alpha_forge_sdk.testing.pipeline.run_pipeline`: a configuration over bars → predictions."""
    from alpha_forge_sdk.testing.pipeline import run_pipeline

    return run_pipeline


@pytest.fixture
def sink_probe() -> Iterator[Callable[..., SinkProbe]]:
    """``sink_probe(sink)`` drives a sink as the runtime does, on a thread of its own; ended afterwards."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def probe(sink: Sink, **options: Any) -> SinkProbe:
            from alpha_forge_sdk.testing.sink_probe import sink_probe

            return stack.enter_context(sink_probe(sink, **options))

        yield probe


@pytest.fixture
def fault_proxy() -> Iterator[Callable[[str, int], FaultProxy]]:
    """``fault_proxy(host, port)`` puts a TCP proxy before a destination: cut, stall, slow, reset at byte n."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def proxy(host: str, port: int) -> FaultProxy:
            from alpha_forge_sdk.testing.fault_proxy import fault_proxy

            return stack.enter_context(fault_proxy(host, port))

        yield proxy


@pytest.fixture
def http_fault_proxy() -> Iterator[Callable[[str], HttpFaultProxy]]:
    """``http_fault_proxy(url)`` puts an HTTP proxy before a server: fail, throttle, lose answers, by a script."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def proxy(url: str) -> HttpFaultProxy:
            from alpha_forge_sdk.testing.http_fault_proxy import http_fault_proxy

            return stack.enter_context(http_fault_proxy(url))

        yield proxy


@pytest.fixture
def crash_at() -> Callable[..., Any]:
    """`alpha_forge_sdk.testing.crash.crash_at`: runs a function in a child that is killed at a chosen point."""
    from alpha_forge_sdk.testing.crash import crash_at

    return crash_at
