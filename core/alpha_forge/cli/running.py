"""What the commands that run a graph share: loading, the local exchange, the options for both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from alpha_forge.plan.compiler import Compiled, load

if TYPE_CHECKING:
    from alpha_forge.runtime.recording.recorder import Recorder

F = TypeVar("F", bound=Callable[..., Any])


def sandbox_options(function: F) -> F:
    """``--sandbox`` and what shapes that exchange, passed as ``sandbox, speed, data, seed``."""
    options = (
        click.option("--sandbox", is_flag=True, help="Run a local exchange and read from it."),
        click.option(
            "--speed",
            type=click.FloatRange(min=0, min_open=True),
            default=3600.0,
            show_default=True,
            help="Of the local exchange: exchange seconds in a real second.",
        ),
        click.option(
            "--data", type=click.Path(), help="Of the local exchange: play the klines in this folder."
        ),
        click.option(
            "--seed", type=int, default=0, show_default=True, help="Of the local exchange's market."
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def faults_option(function: F) -> F:
    """``--faults FILE``, passed as ``faults``."""
    return click.option(
        "--faults",
        type=click.Path(path_type=Path),
        help="Of the local exchange: a script of the faults that it plays.",
    )(function)


def cache_option(function: F) -> F:
    """``--cache DIR``, passed as ``cache: Path``."""
    return click.option(
        "--cache",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path(".alpha_forge/cache"),
        show_default=True,
        help="Where verified history files are kept.",
    )(function)


def state_option(function: F) -> F:
    """``--state DIR``, passed as ``state: Path | None``; see `state_directory`."""
    return click.option(
        "--state",
        type=click.Path(path_type=Path, file_okay=False),
        help="Where the run keeps what must outlive it.  [default: .alpha_forge; with --sandbox, whose market ends "
        "with the run, nothing is kept]",
    )(function)


def state_directory(given: Path | None, *, sandbox: bool = False) -> Path | None:
    """The state directory that ``--state`` means. None: the exchange of ``--sandbox`` begins anew at each run, and
    its bars must not meet those of another market in one log."""
    if given is None and not sandbox:
        return Path(".alpha_forge")
    return given


@contextmanager
def loaded(
    config: Path,
    overrides: tuple[str, ...],
    *,
    sandbox: bool,
    speed: float,
    data: str | None,
    seed: int,
    faults: Path | None = None,
    training: bool = False,
) -> Iterator[Compiled]:
    """The compiled configuration, pointed at a local exchange that lives as long as the block if `sandbox` is set."""
    if faults is not None and not sandbox:
        raise click.UsageError("--faults needs --sandbox: it is the local exchange that plays them")
    compiled = load(config, overrides, training=training)
    if not sandbox:
        yield compiled
        return
    from alpha_forge.cli.local_exchange import local_exchange

    with local_exchange(compiled.dag, speed=speed, data=data, seed=seed, faults=faults) as endpoints:
        yield load(config, (*overrides, *endpoints), training=training)


@contextmanager
def recording(
    path: Path | None, compiled: Compiled, config: Path, overrides: tuple[str, ...]
) -> Iterator[Recorder | None]:
    """The recorder of ``--record FILE``, closed with the block; None without one. Raises UsageError AF8116 if the file
    can't be written."""
    if path is None:
        yield None
        return
    from alpha_forge.contracts.errors import UsageError
    from alpha_forge.registry import discover
    from alpha_forge.runtime.recording.identity import identity
    from alpha_forge.runtime.recording.recorder import Recorder

    catalogue = discover(capabilities=compiled.document.capabilities)
    try:
        recorder = Recorder(path, compiled.dag, identity(compiled.dag, catalogue, config, overrides))
    except OSError as error:
        raise UsageError(
            "AF8116", f"--record {path}: {error.strerror}", "choose a file that can be written"
        ) from error
    try:
        yield recorder
    finally:
        recorder.close()
