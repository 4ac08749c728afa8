"""AF-S28 … AF-S31: destinations on a network, behind the fault proxy."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from alpha_forge.contracts.errors import Rejected
from alpha_forge_sdk.conformance.auditing import watched_deeds
from alpha_forge_sdk.conformance.check import Broken, Check, NotApplicable, check
from alpha_forge_sdk.conformance.sink_once_checks import ONCE
from alpha_forge_sdk.conformance.sink_trial import (
    MARGIN,
    Life,
    Trial,
    Undelivered,
    arrived,
    call_seconds,
    deliver,
    is_idempotent,
    told,
)
from alpha_forge_sdk.testing.fault_proxy import Direction, FaultProxy, fault_proxy
from alpha_forge_sdk.testing.predictions import made_predictions
from alpha_forge_sdk.testing.sink_probe import CallTimedOut, SinkProbe

if TYPE_CHECKING:
    from alpha_forge.contracts.types import Prediction
    from alpha_forge_sdk.conformance.case import SinkConformance

NEEDS = ("AF-S05", "AF-S09", "AF-S28", *ONCE)
ALL = made_predictions(15)
FIRST, BATCH = ALL[:5], ALL[5:]
"""What is stored before the fault, and the batch that it hits."""

BEFORE_OPEN, AFTER_FIRST = "before open()", "after a first batch"


@contextlib.contextmanager
def behind_proxy(
    case: SinkConformance, folder: Path
) -> Iterator[tuple[Trial, FaultProxy, Callable[[], SinkProbe]]]:
    """A destination, the proxy in front of it, and what makes sinks that go through it.

    Raises NotApplicable if the case names no network destination.
    """
    trial = Trial(case, folder)
    destination = case.destination(trial.params)
    if destination is None:
        raise NotApplicable("the case names no network destination")
    with fault_proxy(*destination) as proxy:
        params = case.through(trial.params, *proxy.address)
        yield trial, proxy, lambda: trial.probe(params)


@check(
    "AF-S28",
    "a network destination is named, so that it can be put behind the fault proxy",
    "sinks",
    remedy="give the case destination(params) and through(params, host, port); waive this if there is no way",
    needs=("AF-S01",),
)
def destination_named(case: SinkConformance, tmp_path: Path) -> None:
    """The checks of networks need to stand between the sink and its destination. A sink that was never tried
    on a bad network is one that fails there."""
    trial = Trial(case, tmp_path / "direct")
    with watched_deeds() as deeds:
        trial.store(made_predictions(2))
    if case.destination(trial.params) is None:
        if deeds.connections:
            host, port = deeds.connections[0]
            raise Broken(
                "a sink that goes over the network is judged with the network's faults",
                f"it connected to {host}:{port}, and the case names no destination()",
            )
        raise NotApplicable("it connects to nothing")
    with behind_proxy(case, tmp_path / "proxied") as (trial, proxy, make):
        deliver(make, made_predictions(2), case.recovery)
        # A sink that does not wait for answers may be done before its connection has been accepted.
        deadline = time.monotonic() + MARGIN
        while not proxy.connections and time.monotonic() < deadline:
            time.sleep(0.01)
        if not proxy.connections:
            raise Broken(
                "through(params, host, port) leads the sink to that host and port",
                "the sink stored two records, and no connection came to the proxy",
            )


@check(
    "AF-S29",
    "an unreachable destination is an error in time, and is used again when it is back",
    "sinks",
    remedy="let connection errors through as they are; connect anew in the next instance",
    needs=NEEDS,
)
def unreachable(case: SinkConformance, tmp_path: Path) -> None:
    """A destination that is down is the ordinary fault. It must be told, so that the records are kept and
    tried again, and told before `timeout`, so that a stop isn't held up."""
    for number, when in enumerate((BEFORE_OPEN, AFTER_FIRST)):
        with behind_proxy(case, tmp_path / str(number)) as (trial, proxy, make):
            how = f"connections are refused {when}"
            _trouble(make, when, proxy.refuse, how)
            proxy.lift()
            _recovers(trial, make, ALL if when == BEFORE_OPEN else BATCH, how)


@check(
    "AF-S30",
    "a hanging destination is an error within `timeout`, and is used again when it is back",
    "sinks",
    remedy="give your client timeouts, for connecting and for each answer, that add up to less than `timeout`",
    needs=("AF-S29",),
)
def hanging(case: SinkConformance, tmp_path: Path) -> None:
    """A server that takes the connection and never answers is worse than one that is down. A client without
    timeouts waits for ever, and its records with it."""
    for number, (when, direction) in enumerate(
        ((BEFORE_OPEN, "up"), (AFTER_FIRST, "up"), (AFTER_FIRST, "down"))
    ):
        how = f"nothing passes any more {when}" if direction == "up" else "the answer never comes"
        with behind_proxy(case, tmp_path / str(number)) as (trial, proxy, make):
            stall = proxy.stall if direction == "up" else partial(proxy.stall, direction="down")
            _trouble(make, when, stall, how)
            proxy.lift()
            _recovers(trial, make, ALL if when == BEFORE_OPEN else BATCH, how)


def _trouble(make: Callable[[], SinkProbe], when: str, fault: Callable[[], None], how: str) -> None:
    """One life that runs into the fault: open or emit must raise, in time; close must end."""
    probe = make()
    life = Life(probe)
    try:
        if when == BEFORE_OPEN:
            fault()
            error = _raised(probe.open) or life.offer(BATCH)
        else:
            life.must("open() succeeds where the destination is healthy", "open()", probe.open)
            life.emit(FIRST)
            fault()
            error = life.offer(BATCH)
        _judge(error, how, probe)
        if isinstance(error := _raised(probe.close), CallTimedOut):
            raise Broken("close() ends in time, whatever the destination does", f"{how}: {error}")
    finally:
        probe.end()


def _raised(call: Callable[[], None]) -> Exception | None:
    try:
        call()
    except Exception as error:  # noqa: BLE001 - the check judges it
        return error
    return None


def _judge(error: Exception | None, how: str, probe: SinkProbe) -> None:
    promised = f"a destination that is away raises within {probe.timeout - MARGIN:g} s"
    if error is None:
        raise Broken(promised, f"{how}: open() and emit_batch returned as if all were well")
    if isinstance(error, CallTimedOut):
        raise Broken(promised, f"{how}: {error}")
    if isinstance(error, Rejected):
        raise Broken(
            "a fault is no rejection: rejected records are given up for ever", f"{how}: {told(error)}"
        )


def _recovers(trial: Trial, make: Callable[[], SinkProbe], again: list[Prediction], how: str) -> None:
    """What a run does next: the records that were not taken come again, and then all since the first are there."""
    try:
        deliver(make, again, trial.case.recovery)
    except (Undelivered, Rejected) as error:
        raise Broken(
            "a sink is of use again when its destination is",
            f"{how}: not within {trial.case.recovery:g} s: {told(error)}",
        ) from error
    promised = "nothing is lost while a destination is away: what was not taken comes again"
    once = is_idempotent(trial.case)
    arrived(promised, ALL, trial.stored(), once=once, after=f"{how}, then it was back")


@check(
    "AF-S31",
    "a connection cut or reset at any byte of a batch loses nothing",
    "sinks",
    remedy="count as stored what was acknowledged, not what was sent; otherwise raise, and let the batch come again",
    needs=("AF-S29",),
)
def cut_partway(case: SinkConformance, tmp_path: Path) -> str:
    """A connection can end after any byte. Records that were sent but not acknowledged may be stored or not:
    they must come again."""
    up, down = _traffic(case, tmp_path / "traffic")
    cuts: list[tuple[int, Direction]] = [
        *((at, "up") for at in sorted({0, 1, up // 4, up // 2, 3 * up // 4, up - 1}) if 0 <= at < up),
        *((at, "down") for at in sorted({0, down // 2, down - 1}) if 0 <= at < down),
    ]
    for number, (at, direction) in enumerate(cuts):
        for once in (True, False):
            with behind_proxy(case, tmp_path / f"{number}{once}") as (trial, proxy, make):
                how = f"the connection was {'reset' if number % 2 else 'cut'} at byte {at} {direction}wards"
                strike = partial(proxy.reset if number % 2 else proxy.cut, at, direction=direction, once=once)
                error = _offered(make, strike)
                proxy.lift()
                _judge_cut(trial, make, error, f"{how}, once" if once else how)
    return f"{2 * len(cuts)} cuts of {up} bytes up and {down} down"


def _traffic(case: SinkConformance, folder: Path) -> tuple[int, int]:
    """Bytes that the batch takes each way."""
    with behind_proxy(case, folder) as (_, proxy, make):
        before = [0, 0]

        def note() -> None:
            before[:] = proxy.bytes_up, proxy.bytes_down

        error = _offered(make, note)
        if error is not None:
            raise Broken("a healthy destination takes ordinary records", f"emitting raised {told(error)}")
        return proxy.bytes_up - before[0], proxy.bytes_down - before[1]


def _offered(make: Callable[[], SinkProbe], fault: Callable[[], None]) -> Exception | None:
    """One life: the first records, the fault, the batch. → what the batch raised."""
    probe = make()
    life = Life(probe)
    try:
        life.must("open() succeeds where the destination is healthy", "open()", probe.open)
        life.emit(FIRST)
        fault()
        error = life.offer(BATCH)
        _raised(probe.close)
    finally:
        probe.end()
    return error


def _judge_cut(trial: Trial, make: Callable[[], SinkProbe], error: Exception | None, how: str) -> None:
    once = is_idempotent(trial.case)
    if isinstance(error, Rejected):
        raise Broken(
            "a fault is no rejection: rejected records are given up for ever", f"{how}: {told(error)}"
        )
    if isinstance(error, CallTimedOut):
        raise Broken(f"a call ends within {call_seconds(trial.case):g} s", f"{how}: {error}")
    if error is None:
        promised = "emit_batch returns only when the destination has the records"
        arrived(promised, ALL, trial.stored(), once=once, after=f"{how}, and emit_batch returned")
        return
    _recovers(trial, make, BATCH, how)


CHECKS: tuple[Check, ...] = (destination_named, unreachable, hanging, cut_partway)
