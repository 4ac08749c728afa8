"""AF-D13 … AF-D17: what a stream owes while connections, subscriptions and messages go wrong.

A stream owes that it goes on by itself and that every closed bar it brings is true, once and in order. Bars that were
not told to it are not its business: the runtime sees the hole and asks history, which must have them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from alpha_forge_sdk.conformance.check import Check, check
from alpha_forge_sdk.conformance.source_subject import Opened, complete
from alpha_forge_sdk.conformance.source_trial import Listening, each_fault, inject, injects, proved

if TYPE_CHECKING:
    from alpha_forge_sdk.conformance.case import DataSourceConformance

REMADE: Final[Mapping[str, int]] = {"disconnect": 3, "refused": 2}
SILENT: Final[Mapping[str, int]] = {"stall": 1, "silent_subscription": 1}
STRANGE: Final[Mapping[str, int]] = {"garbage": 5, "oversized": 1}
TOLD_WRONG: Final[Mapping[str, int]] = {
    "duplicate_close": 2,
    "late_close": 2,
    "out_of_order": 2,
    "missing_close": 2,
}
LOSSY: Final[Mapping[str, int]] = {"disconnect": 2, "missing_close": 2}
"""Fault → how often it happens."""

BEFORE: Final = ("silent_subscription",)
"""What must be in play before the stream begins, to happen to it."""


async def _live_through(source: Opened, fault: str, times: int) -> Listening:
    """The stream, from before the fault until it has brought bars again after it."""
    early = inject(source, fault, times) if fault in BEFORE else None
    async with Listening(source, fault) as stream:
        if early is None:
            await stream.closes(1)
        injection = early or inject(source, fault, times)
        if fault == "refused":
            # Only who connects can be refused.
            inject(source, "disconnect")
        await stream.struck(injection, times)
        injection.lift()
        await stream.closes(source.case.stream_bars)
        return stream


def _lives_through(case: DataSourceConformance, tmp_path: Path, faults: Mapping[str, int]) -> str:
    async def body(source: Opened, fault: str) -> None:
        (await _live_through(source, fault, faults[fault])).judge()

    return each_fault(case, tmp_path, faults, body)


@check(
    "AF-D13",
    "connections that are lost again and again, or refused, are made again",
    "data",
    remedy="connect in a loop with a back-off that has a longest pause, and no longest count",
    applies=injects,
    needs=("AF-D05", "AF-D12"),
)
def made_again(case: DataSourceConformance, tmp_path: Path) -> str:
    """An exchange that restarts cuts connections many times and refuses new ones for a while. A source that tries a
    few times, or only catches what ends a connection but not what prevents one, ends the run in the worst hour."""
    return _lives_through(case, tmp_path, REMADE)


@check(
    "AF-D14",
    "silence is noticed: of a connection, and of one subscription",
    "data",
    remedy="note when each symbol was heard; where others speak and it does not, subscribe it again or connect anew",
    applies=injects,
    needs=("AF-D12", "AF-D05"),
)
def silence(case: DataSourceConformance, tmp_path: Path) -> str:
    """A connection can stay open and say nothing more, for hours; a subscription can be acknowledged and never deliver.
    Nothing raises. What proves a subscription is its first message, and what proves a connection is its last."""
    return _lives_through(case, tmp_path, SILENT)


@check(
    "AF-D15",
    "messages that are none do no harm",
    "data",
    remedy="skip what can't be parsed and log it now and then; bound the size of a message and connect anew beyond it",
    applies=injects,
    needs=("AF-D12", "AF-D05"),
)
def strange_messages(case: DataSourceConformance, tmp_path: Path) -> str:
    """Proxies cut messages, exchanges add kinds of them without notice. One that can't be read must not end the stream,
    and must not become a bar."""
    return _lives_through(case, tmp_path, STRANGE)


@check(
    "AF-D16",
    "closes that are told twice, late, never or overtaken: each bar once, in order, none made up",
    "data",
    remedy="remember each symbol's last closes; a bar is closed by its own message only, never by the next bar's",
    applies=injects,
    needs=("AF-D05",),
)
def told_wrong(case: DataSourceConformance, tmp_path: Path) -> str:
    """Overlapping connections repeat closes, busy servers delay them, and some are lost. A source that takes the last
    it knows of a bar for its close when the next bar begins makes values up; one that believes every message doubles
    bars; one that drops whatever is older than the newest it has seen loses the bars of a slower symbol."""

    async def body(source: Opened, fault: str) -> None:
        stream = await _live_through(source, fault, TOLD_WRONG[fault])
        stream.judge()
        if fault == "missing_close":
            return
        for symbol in source.symbols:
            own = [pair for pair in stream.closed if pair[0] == symbol]
            between = {k for k in source.truth if k[0] == symbol and own[0][1].ts <= k[1] <= own[-1][1].ts}
            complete(own, between, f"with {fault} a stream, to which every close was told,")

    return each_fault(case, tmp_path, TOLD_WRONG, body)


@check(
    "AF-D17",
    "history has what the stream was not told",
    "data",
    remedy="ask the server for history, also of the time since the stream began; what the stream saw is no record",
    applies=injects,
    needs=("AF-D03", "AF-D06", "AF-D13", "AF-D16"),
)
def history_has_lost(case: DataSourceConformance, tmp_path: Path) -> str:
    """Closes fall into the gap between two connections. The runtime holds the bars after such a hole until history has
    filled it: stream and history together are every bar."""

    async def body(source: Opened, fault: str) -> None:
        async with Listening(source, fault) as stream:
            await stream.closes(1)
            injection = inject(source, fault, LOSSY[fault])
            await stream.struck(injection, LOSSY[fault])
            injection.lift()
            await stream.closes(source.case.stream_bars)
            assert stream.first is not None
            start = stream.first - source.interval.ns
            last = max(bar.ts for _, bar in stream.closed)
            await proved(source, last)
            wanted = {k for k in source.truth if start < k[1] <= last}
            complete(await source.history(start, last), wanted, f"after {fault} history")

    return each_fault(case, tmp_path, LOSSY, body)


CHECKS: tuple[Check, ...] = (made_again, silence, strange_messages, told_wrong, history_has_lost)
