"""What the sink checks run in child processes: a sink at work, to be killed, or to run out of disk.

Each function gets ``[module:class, file of the module]`` and parameters as in the DSL, for that is what JSON can carry.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from alpha_forge.contracts.errors import RetryLater
from alpha_forge.contracts.plugin import Sink
from alpha_forge_sdk.conformance.check import Broken, NotApplicable
from alpha_forge_sdk.testing.crash import (
    SUPPORTED,
    At,
    Crash,
    CrashServer,
    CrashTimeout,
    crash_point,
    report,
    watched,
)
from alpha_forge_sdk.testing.crash_child import find
from alpha_forge_sdk.testing.predictions import made_predictions
from alpha_forge_sdk.testing.sink_probe import SinkDriver

if TYPE_CHECKING:
    from alpha_forge_sdk.conformance.sink_trial import Trial

Reference = list[str]

RETURNED = "returned"
"""The crash point right after the batch in question."""

_server: CrashServer | None = None


def server() -> CrashServer:
    """This process's crash server: its imports are paid for once, not once a check."""
    global _server
    if _server is None or not _server.alive:
        import atexit

        _server = CrashServer()
        atexit.register(_server.close)
    return _server


def reference(plugin: type[Sink]) -> Reference:
    """How a child process finds the class. Raises NotApplicable for one that is local to a function."""
    if "<locals>" in plugin.__qualname__:
        raise NotApplicable(f"{plugin.__qualname__} is local to a function: no other process can import it")
    file = getattr(sys.modules.get(plugin.__module__), "__file__", None)
    return [f"{plugin.__module__}:{plugin.__qualname__}", os.path.abspath(file) if file else ""]


def in_child(trial: Trial, function: Callable[..., None], *args: Any, at: At | None = None) -> Crash:
    """Run a function of this module in a child process, with the trial's sink. Raises NotApplicable if none can be."""
    from alpha_forge_sdk.conformance.sink_trial import MARGIN, call_seconds, sink_class

    if not SUPPORTED:
        raise NotApplicable("this system can't fork: nothing can be killed and looked at")
    plugin = sink_class(trial.case)
    seconds = 3 * (call_seconds(trial.case) + MARGIN)
    named = reference(plugin)
    try:
        return _run(server(), named, trial, function.__name__, args, at, seconds)
    except CrashTimeout as error:
        raise Broken(
            "every call ends in time, also where the disk is full or another instance was killed",
            f"a child process had not ended after {seconds:g} s: {error}",
        ) from error


def _run(
    child: CrashServer,
    named: Reference,
    trial: Trial,
    function: str,
    args: tuple[Any, ...],
    at: At | None,
    seconds: float,
) -> Crash:
    from alpha_forge_sdk.conformance.sink_trial import Trial

    if child is not _warm.get(named[0]):
        # One whole life first, elsewhere: imports that happen on the way are no part of what is killed.
        _warm[named[0]] = child
        elsewhere = Trial(trial.case, trial.folder.with_name(f"{trial.folder.name}_warm"))
        child.run(f"{__name__}:close_watched", named, dict(elsewhere.params), 1, timeout=seconds)
    return child.run(f"{__name__}:{function}", named, dict(trial.params), *args, at=at, timeout=seconds)


_warm: dict[str, CrashServer] = {}
"""The server in which a class has lived already."""


def _driver(plugin: Reference, params: Mapping[str, Any]) -> SinkDriver:
    made = find(*plugin)
    return SinkDriver(made(made.Params.model_validate(params)))


def emit_watched(plugin: Reference, params: Mapping[str, Any], before: int, count: int) -> None:
    """Store `before` records, then `count` more, which is watched; `RETURNED` is a point right after. Never closes."""
    driver = _driver(plugin, params)
    driver.open()
    if before:
        driver.emit_batch(made_predictions(before))
    batch = made_predictions(count, first=before)
    # No other thread gets a turn unless this one waits for something: at the point, what was left to a thread in the
    # background is not done yet.
    sys.setswitchinterval(60.0)
    with watched():
        driver.emit_batch(batch)
    crash_point(RETURNED)


def open_watched(plugin: Reference, params: Mapping[str, Any]) -> None:
    """Open, which is watched."""
    driver = _driver(plugin, params)
    with watched():
        driver.open()


def close_watched(plugin: Reference, params: Mapping[str, Any], count: int) -> None:
    """Store `count` records and close, which is watched."""
    driver = _driver(plugin, params)
    driver.open()
    driver.emit_batch(made_predictions(count))
    with watched():
        driver.close()


def emit_to_full_disk(
    plugin: Reference, params: Mapping[str, Any], before: int, count: int, limit: int
) -> None:
    """Store `before` records; then `count` more with a disk that takes no byte beyond `limit` in any file.

    Reports ``ready``, then what came of it: ``stored``, or ``raised …``. After a fault, room is made, and what a run
    does follows: the same instance again after `RetryLater`, else it is closed (``close raised …`` is reported).
    """
    driver = _driver(plugin, params)
    driver.open()
    driver.emit_batch(made_predictions(before))
    batch = made_predictions(count, first=before)
    report("ready")
    try:
        with _full_disk(limit):
            driver.emit_batch(list(batch))
        report("stored")
        return
    except RetryLater as error:
        report(f"raised RetryLater: {error}")
        with contextlib.suppress(Exception):
            driver.emit_batch(batch)
            report("stored later")
    except Exception as error:  # noqa: BLE001 - told to the parent
        report(f"raised {type(error).__name__}: {error}")
    for _ in range(2):
        _told("close", driver.close)


@contextlib.contextmanager
def _full_disk(limit: int) -> Any:
    """Files can't grow beyond `limit` bytes: writing there fails, as on a full disk, after what still fits."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _told(what: str, call: Callable[[], None]) -> None:
    try:
        call()
    except Exception as error:  # noqa: BLE001 - told to the parent
        report(f"{what} raised {type(error).__name__}: {error}")


def race(plugin: Reference, params: Mapping[str, Any], writers: int, batches: int, size: int) -> None:
    """Several processes deliver the same batches at once, each as a run does. Reports what one of them could not."""
    ready, go = os.pipe()
    children = []
    for _ in range(writers):
        pid = os.fork()
        if pid == 0:
            try:
                os.close(go)
                os.read(ready, 1)  # returns for all of them at once, when the parent closes its end
                _told("a writer", lambda: _write_all(plugin, params, batches, size))
            finally:
                os._exit(0)
        children.append(pid)
    os.close(go)
    for pid in children:
        os.waitpid(pid, 0)


def _write_all(plugin: Reference, params: Mapping[str, Any], batches: int, size: int) -> None:
    from alpha_forge_sdk.conformance.sink_trial import deliver

    for number in range(batches):
        batch = made_predictions(size, first=number * size)
        deliver(lambda: _driver(plugin, params), batch, 20.0)
