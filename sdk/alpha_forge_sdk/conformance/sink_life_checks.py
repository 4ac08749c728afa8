"""AF-S24 … AF-S26: open and close, in any order that may happen, and nothing left behind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from alpha_forge.contracts.errors import Rejected, RetryLater
from alpha_forge_sdk.conformance.check import Broken, Check, NotApplicable, check
from alpha_forge_sdk.conformance.sink_arrival_checks import BASE
from alpha_forge_sdk.conformance.sink_child import emit_to_full_disk, in_child
from alpha_forge_sdk.conformance.sink_fault_checks import BEFORE, batch_size, disk_limits
from alpha_forge_sdk.conformance.sink_trial import Trial, arrived, told
from alpha_forge_sdk.testing.fault_proxy import fault_proxy
from alpha_forge_sdk.testing.leaks import Holdings, leaked
from alpha_forge_sdk.testing.predictions import made_predictions

if TYPE_CHECKING:
    from alpha_forge.contracts.types import Prediction
    from alpha_forge_sdk.conformance.case import SinkConformance
    from alpha_forge_sdk.testing.sink_probe import SinkProbe

_ACCIDENTS = (AttributeError, TypeError, NameError, KeyError, IndexError)
"""What code raises that did not expect the call."""

LIVES = 3


@check(
    "AF-S24",
    "close is harmless: twice, without open, after a failure",
    "sinks",
    remedy="let close() release what is there and forget it; it must not raise for what is not",
    needs=BASE,
)
def close_harmless(case: SinkConformance, tmp_path: Path) -> None:
    """The runtime closes on every path that called open, failures included. An error from close hides the one
    that mattered."""
    promised = "close() is idempotent, and harmless in any state"
    trial = Trial(case, tmp_path / "destination")
    batch = made_predictions(3)
    unopened, probe = trial.probe(), trial.probe()
    with _ended(unopened), _ended(probe):
        for what, call in (
            ("close() without open()", unopened.close),
            ("open()", probe.open),
            ("emitting", lambda: probe.emit_batch(list(batch))),
            ("close()", probe.close),
            ("a second close()", probe.close),
        ):
            try:
                call()
            except Exception as error:
                raise Broken(promised, f"{what} raised {told(error)}") from error
    arrived(promised, batch, trial.stored(), once=True, after="closed twice")
    with contextlib.suppress(NotApplicable):  # nothing on a disk, or no child processes
        limits = disk_limits(case, tmp_path / "limits")
        failed = Trial(case, tmp_path / "failed")
        run = in_child(failed, emit_to_full_disk, BEFORE, batch_size(case), limits[len(limits) // 2])
        if complaints := [text for text in run.reports if text.startswith("close raised")]:
            raise Broken(promised, f"after emit_batch had failed on a full disk, {complaints[0]}")


@contextlib.contextmanager
def _ended(probe: SinkProbe) -> Iterator[None]:
    try:
        yield
    finally:
        probe.end()


@check(
    "AF-S25",
    "records outside open and close are a clear error",
    "sinks",
    remedy="raise PluginError (or RuntimeError) that says what was wrong; store nothing",
    needs=("AF-S09",),
)
def outside(case: SinkConformance, tmp_path: Path) -> None:
    """Records that are handed over while nothing is open are a mistake of the caller. Ignored they are lost;
    an AttributeError of None tells nobody why."""
    batch = made_predictions(2)
    trial = Trial(case, tmp_path / "before")
    probe = trial.probe()
    with _ended(probe):
        _refused(trial, probe, "before open()", batch)
        with contextlib.suppress(Exception):
            probe.close()
    trial = Trial(case, tmp_path / "after")
    trial.store(batch)
    probe = trial.probe()
    with _ended(probe):
        probe.open()
        probe.close()
        _refused(trial, probe, "after close()", made_predictions(2, first=50), there=batch)


def _refused(
    trial: Trial, probe: SinkProbe, when: str, batch: list[Prediction], there: Sequence[Prediction] = ()
) -> None:
    promised = "emitting outside open and close raises an error that says so, and stores nothing"
    try:
        probe.emit_batch(list(batch))
    except (RetryLater, Rejected) as error:
        verdict = (
            "the record would be tried for ever" if isinstance(error, RetryLater) else "it would be given up"
        )
        raise Broken(promised, f"{when}: {told(error)}: {verdict}") from error
    except Exception as error:
        if isinstance(error, _ACCIDENTS) or not str(error).strip():
            raise Broken(promised, f"{when}: {told(error)}: an accident, not an answer") from error
    else:
        raise Broken(promised, f"{when}: it returned as if all were well")
    arrived(promised, there, trial.stored(), once=True, after=f"emitted {when}")


@check(
    "AF-S26",
    "nothing is left after close: no thread, socket, file handle or child process",
    "sinks",
    remedy="close and join in close() all that open() and emit() made; in every instance",
    needs=BASE,
)
def nothing_left(case: SinkConformance, tmp_path: Path) -> None:
    """A sink that can't reach its destination is made, opened and closed again every few seconds, for days.
    One socket left each time ends the process."""
    trial = Trial(case, tmp_path / "destination")
    trial.store(made_predictions(3))  # what a process makes once and keeps is no leak
    before = Holdings.now()
    closed = []  # kept, so that nothing is released merely since nobody needs it
    for number in range(LIVES):
        with trial.life() as life:
            life.emit(made_predictions(3, first=3 + 3 * number))
        closed.append(life.probe.sink)
    _judge(leaked(before), f"{LIVES} lives")
    destination = case.destination(trial.params)
    if destination is None:
        return
    with fault_proxy(*destination) as proxy:
        proxy.refuse()
        params = case.through(trial.params, *proxy.address)
        before = Holdings.now()
        for _ in range(LIVES):
            probe = trial.probe(params)
            with _ended(probe):
                for call in (probe.open, lambda p=probe: p.emit_batch(made_predictions(1)), probe.close):
                    with contextlib.suppress(Exception):
                        call()
            closed.append(probe.sink)
        _judge(leaked(before), f"{LIVES} lives whose destination refused every connection")


def _judge(found: list[str], lives: str) -> None:
    if len(found) >= LIVES:
        raise Broken(
            "close() releases everything: instances come and go in a process that runs for months",
            f"{lives} left {len(found)} things, such as {found[0]}",
        )


@check(
    "AF-S27",
    "two sinks side by side each fill their own destination",
    "sinks",
    remedy="keep files, connections and buffers in the instance, not in the class or the module",
    needs=BASE,
)
def side_by_side(case: SinkConformance, tmp_path: Path) -> None:
    """A configuration may have the same sink twice, for two columns. A path, a connection or a cache that is
    kept in the module, or on the class, sends the records of one into the other's destination."""
    one, other = Trial(case, tmp_path / "one"), Trial(case, tmp_path / "other")
    mine, theirs = made_predictions(9), made_predictions(9, first=50)
    with one.life() as here, other.life() as there:
        for start in (0, 3, 6):
            here.emit(mine[start : start + 3])
            there.emit(theirs[start : start + 3])
    for trial, sent in ((one, mine), (other, theirs)):
        arrived(
            "each instance stores in its own destination, and nowhere else",
            sent,
            trial.stored(),
            once=True,
            after="two instances got records in turn",
        )


CHECKS: tuple[Check, ...] = (close_harmless, outside, nothing_left, side_by_side)
