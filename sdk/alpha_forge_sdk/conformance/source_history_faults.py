"""AF-D18 … AF-D23: what history owes while requests, files and clocks go wrong.

It owes every bar of the range, or an error: an answer that lacks some is believed, and the run goes on without them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from alpha_forge.contracts.errors import AlphaForgeError
from alpha_forge_sdk.conformance.check import Broken, Check, NotApplicable, check
from alpha_forge_sdk.conformance.source_stop import Stop, run_stopped
from alpha_forge_sdk.conformance.source_subject import Opened, check_order, compare, complete
from alpha_forge_sdk.conformance.source_trial import (
    LOOK,
    Listening,
    each_fault,
    inject,
    injects,
    moment,
    proved,
)

if TYPE_CHECKING:
    from alpha_forge.contracts.types import Bar
    from alpha_forge_sdk.conformance.case import DataSourceConformance
    from alpha_forge_sdk.conformance.faults import Injection

PASSING: Final[Mapping[str, int]] = {"server_error": 2, "truncated": 1, "rate_limited": 1}
"""Fault → how often it happens before it is over."""
FILES: Final = ("wrong_checksum", "missing_file", "corrupt_file")
LAGGING: Final = ("history_lag", "clock_off")
CLOSES: Final = 3


async def _answer(source: Opened, start: int, end: int, during: str) -> list[tuple[str, Bar]]:
    """History of the range, complete and true. Raises Broken if it isn't, or takes too long; what history raises."""
    patience = source.case.patience
    try:
        pairs = await asyncio.wait_for(source.history(start, end), patience)
    except TimeoutError:
        raise Broken(
            f"history answers or raises within {patience:g} s", f"with {during} it was still running"
        ) from None
    what = f"with {during} history"
    check_order(pairs, source.interval, what)
    compare(pairs, source.truth, what)
    complete(pairs, {k for k in source.truth if start < k[1] <= end}, what)
    return pairs


def _happened(injection: Injection, fault: str) -> None:
    """Raises NotApplicable if the fault had no occasion."""
    if not injection.struck():
        raise NotApplicable(f"{fault} had no occasion: history asked for nothing that it could happen to")


async def _until_answered(source: Opened, start: int, end: int, after: str) -> None:
    """Ask again and again until history answers. Raises Broken if it never does."""
    cause: BaseException | None = None
    try:
        async with asyncio.timeout(source.case.patience):
            while True:
                try:
                    await _answer(source, start, end, after)
                    return
                except AlphaForgeError as error:
                    cause = error
                await moment(source)
    except TimeoutError:
        raise Broken(f"history answers again after {after}", f"it still raised {cause}") from cause


@check(
    "AF-D18",
    "faults of a request that pass are tried again: history is complete all the same",
    "data",
    remedy="try again with a back-off, honour Retry-After, and check that an answer is whole before you use it",
    applies=injects,
    needs=("AF-D02",),
)
def passing_faults(case: DataSourceConformance, tmp_path: Path) -> str:
    """Of a thousand requests some fail. An error ends the warm-up of the run; an answer that was cut off and is
    used as if it were whole leaves a hole that nobody sees."""

    async def body(source: Opened, fault: str) -> None:
        injection = inject(source, fault, PASSING[fault])
        try:
            await _answer(source, *source.range(), fault)
        except AlphaForgeError as error:
            raise Broken(
                f"a fault that passes is tried again: {fault}, {PASSING[fault]} time(s)",
                f"history raised {error}",
            ) from error
        _happened(injection, fault)

    return each_fault(case, tmp_path, PASSING, body)


@check(
    "AF-D19",
    "history that can't be had is an error, never an empty answer",
    "data",
    remedy="raise SourceError when the attempts are used up; yield nothing only where the server said so",
    applies=injects,
    needs=("AF-D18",),
)
def lasting_fault(case: DataSourceConformance, tmp_path: Path) -> str:
    """Silence of history is proof: the runtime certifies that the bar does not exist, and computes without it. A
    source that gives up and yields nothing makes holes of what is only a server in trouble."""

    async def body(source: Opened, fault: str) -> None:
        start, end = source.range()
        injection = inject(source, fault, None)
        try:
            await _answer(source, start, end, f"a {fault} that lasts")
        except AlphaForgeError:
            pass
        except Broken:
            raise
        except Exception as error:
            raise Broken(
                "history that can't be had is a SourceError", f"it raised {type(error).__name__}: {error}"
            ) from error
        _happened(injection, fault)
        injection.lift()
        await _until_answered(source, start, end, f"a {fault} that is over")

    return each_fault(case, tmp_path, ("server_error",), body)


@check(
    "AF-D20",
    "a ban is honoured: no request before its end, from no call",
    "data",
    remedy="keep the instant that the server names where all requests see it; wait until then, or raise SourceError",
    applies=injects,
    needs=("AF-D03", "AF-D09", "AF-D18"),
)
def ban(case: DataSourceConformance, tmp_path: Path) -> str:
    """Who asks during a ban is banned for longer, in the end for days; and the ban is of the address, so that other
    runs behind it stand still, too. Repairs ask for several symbols side by side: all of them must wait."""

    async def body(source: Opened, fault: str) -> None:
        _, end = source.range()
        one = end - source.interval.ns, end
        injection = inject(source, fault)
        before = case.violations(source.params)

        def honoured() -> None:
            if asked := case.violations(source.params) - before:
                raise Broken(
                    "nothing is asked of a server before its ban ends",
                    f"it was asked {asked} time(s) all the same",
                )

        first = asyncio.create_task(source.history(*one, symbols=source.symbols[:1]))
        # The first call knows of the ban when it ends: with an error, or, after it has waited, with the bar.
        done, _ = await asyncio.wait({first}, timeout=case.patience)
        if not done:
            first.cancel()
            raise Broken(f"history answers or raises within {case.patience:g} s", "banned, it did neither")
        _happened(injection, fault)
        if (error := first.exception()) is not None and not isinstance(error, AlphaForgeError):
            raise Broken("a ban is a SourceError", f"it raised {type(error).__name__}: {error}") from error
        again = (source.history(*one, symbols=[symbol]) for symbol in source.symbols)
        await asyncio.gather(*again, return_exceptions=True)
        honoured()
        await _until_answered(source, *one, "a ban that is over")
        honoured()

    return each_fault(case, tmp_path, ("banned",), body)


@check(
    "AF-D21",
    "files that are altered, missing or damaged cost no bar",
    "data",
    remedy="verify each file's checksum, leave out one that can't be read, and fetch its range another way",
    applies=injects,
    needs=("AF-D02",),
)
def bad_files(case: DataSourceConformance, tmp_path: Path) -> str:
    """Archives lack days, and downloads are cut. The range of such a file comes from somewhere else, or history is an
    error: a day without bars is a hole that looks like a market without trades."""

    async def body(source: Opened, fault: str) -> None:
        injection = inject(source, fault, None)
        try:
            await _answer(source, *source.range(), fault)
        except (AlphaForgeError, Broken) as error:
            if isinstance(error, Broken):
                raise
        except Exception as error:
            raise Broken(
                "history is complete, or a SourceError",
                f"with {fault} it raised {type(error).__name__}: {error}",
            ) from error
        _happened(injection, fault)

    return each_fault(case, tmp_path, FILES, body)


@check(
    "AF-D22",
    "passed() and history_lag are honest: what history lacks by then does not exist",
    "data",
    remedy="declare the history_lag that your server needs; override passed() where the server tells its own time",
    applies=injects,
    needs=("AF-D03", "AF-D05", "AF-D17"),
)
def honest_lag(case: DataSourceConformance, tmp_path: Path) -> str:
    """A bar that is missing from stream and history is certified not to exist once ``passed()`` has reached its close
    plus ``history_lag``. If history has it a little later, or the server's clock is behind, a bar that exists is
    certified away."""
    from alpha_forge.contracts.interval import iso

    async def body(source: Opened, fault: str) -> None:
        injection = inject(source, fault, None)
        async with Listening(source, fault) as stream:
            await stream.closes(1)
        lag = round(type(source.source).history_lag * 1e9)
        close = source.interval.floor(source.clock.now() - lag)
        for _ in range(CLOSES):
            await proved(source, close)
            start = close - source.interval.ns
            found = {(s, bar.ts) for s, bar in await source.history(start, close)}
            lost = sorted(k for k in source.truth if k[1] == close and k not in found)
            if lost:
                raise Broken(
                    "what history lacks when passed() has reached its close plus history_lag does not exist",
                    f"with {fault}, {lost[0][0]} at {iso(close)} was lacking by then, and exists",
                )
            close = max(close + source.interval.ns, source.interval.floor(source.clock.now() - lag))
        # A lag that passed() waits for never shows; a clock must have been asked for.
        if fault != "history_lag":
            _happened(injection, fault)

    return each_fault(case, tmp_path, LAGGING, body)


WAITING: Final = ("server_error", "rate_limited", "banned", "refused", "stall")


@check(
    "AF-D23",
    "cancelled while it waits or tries again, it ends within a second",
    "data",
    remedy="catch Exception, never BaseException, around what is tried again; wait with an await that can be cancelled",
    applies=injects,
    needs=("AF-D05", "AF-D07", "AF-D18"),
)
def cancelled_in_trouble(case: DataSourceConformance, tmp_path: Path) -> str:
    """A run is stopped most often when something is wrong. A retry loop that takes the cancellation for one more fault
    goes on until it is killed, and what was to be delivered then is not."""

    async def history(source: Opened, fault: str, stop: Stop) -> None:
        injection = inject(source, fault, None)
        task = asyncio.create_task(source.history(*source.range()))
        await _struck(source, injection, task)
        await stop.judge(source, task, f"with {fault} a cancelled history()")

    async def stream(source: Opened, fault: str, stop: Stop) -> None:
        async def take() -> None:
            async for event in source.source.stream():
                if event.closed:
                    begun.set()

        begun = asyncio.Event()
        task = asyncio.create_task(take())
        async with asyncio.timeout(case.patience):
            await begun.wait()
        injection = inject(source, fault, None)
        if fault == "refused":
            inject(source, "disconnect")
        await _struck(source, injection, task)
        await stop.judge(source, task, f"with {fault} a cancelled stream()")

    tried: list[str] = []
    for fault in WAITING:
        body = stream if fault in ("refused", "stall") else history
        (folder := tmp_path / fault).mkdir()
        try:
            run_stopped(case, folder, lambda source, stop, b=body, f=fault: b(source, f, stop))  # type: ignore[misc]
        except NotApplicable:
            continue
        tried.append(fault)
    if not tried:
        raise NotApplicable(f"the case can inject none of {', '.join(WAITING)}")
    return "with " + ", ".join(tried)


async def _struck(source: Opened, injection: Injection, task: asyncio.Task[object]) -> None:
    """Wait until the fault has happened, or the task has ended. Raises NotApplicable if it never does."""
    with suppress(TimeoutError):
        async with asyncio.timeout(source.case.patience):
            while not injection.struck() and not task.done():
                await asyncio.wait({task}, timeout=LOOK)
    if not injection.struck():
        task.cancel()
        await asyncio.wait({task}, timeout=1.0)
        raise NotApplicable("the fault had no occasion")


CHECKS: tuple[Check, ...] = (
    passing_faults,
    lasting_fault,
    ban,
    bad_files,
    honest_lag,
    cancelled_in_trouble,
)
