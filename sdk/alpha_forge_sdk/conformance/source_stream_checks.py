"""AF-D04 … AF-D06: what the stream brings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from alpha_forge_sdk.conformance.check import Broken, Check, check
from alpha_forge_sdk.conformance.source_subject import Opened, check_order, compare, complete, run

if TYPE_CHECKING:
    from alpha_forge.contracts.types import MarketEvent
    from alpha_forge_sdk.conformance.case import DataSourceConformance


@check(
    "AF-D04",
    "the stream brings each closed bar once, in order, on the grid",
    "data",
    remedy="remember the last close of each symbol; overlapping connections repeat bars",
)
def stream_order(case: DataSourceConformance, tmp_path: Path) -> None:
    """Each closed bar is predicted once, in the order of closes."""

    async def body(source: Opened) -> None:
        events = await source.streamed()
        _well_formed(events, source)
        check_order(
            [(e.symbol or "", e.bar) for e in events if e.closed and e.bar], source.interval, "the stream"
        )

    run(case, tmp_path, body)


def _well_formed(events: Iterable[MarketEvent], source: Opened) -> None:
    from alpha_forge.contracts.types import BAR_CLOSE

    for event in events:
        if not event.closed:
            continue
        if event.type != BAR_CLOSE or event.bar is None or event.symbol not in source.symbols:
            raise Broken(
                f"a closed event is a {BAR_CLOSE} of a symbol of the universe, with its bar", f"{event}"
            )
        if event.bar.ts != event.ts:
            raise Broken("an event's ts is its bar's close", f"event {event.ts}, bar {event.bar.ts}")


@check(
    "AF-D05",
    "streamed bars are the truth: none missing in between, invented or altered; none closed before its time",
    "data",
    remedy="a bar is closed only when the source says so, with its final values",
    needs=("AF-D04",),
)
def stream_true(case: DataSourceConformance, tmp_path: Path) -> None:
    """The classic mistake is to pass the bar in progress as closed: only its close is wrong, a little."""

    async def body(source: Opened) -> None:
        events = await source.streamed()
        pairs = [(e.symbol, e.bar) for e in events if e.closed and e.symbol and e.bar]
        compare(pairs, source.truth, "the stream")
        for symbol in source.symbols:
            times = [bar.ts for s, bar in pairs if s == symbol]
            if times:
                own = [p for p in pairs if p[0] == symbol]
                later = {k for k in source.truth if k[0] == symbol and min(times) <= k[1]}
                complete(own, {k for k in later if k[1] <= max(times)}, "the stream")
                if source.ended:
                    complete(own, later, "a stream that ends by itself, as a recording may,")

    run(case, tmp_path, body)


@check(
    "AF-D06",
    "history and stream agree where they overlap",
    "data",
    remedy="the same parsing and the same ts (the close) on both ways",
    needs=("AF-D02", "AF-D05"),
)
def overlap(case: DataSourceConformance, tmp_path: Path) -> None:
    """Warm-up joins history and stream; where both have a bar it must be the same bar."""

    async def body(source: Opened) -> None:
        events = await source.streamed()
        streamed = {(e.symbol, e.ts): e.bar for e in events if e.closed and e.symbol and e.bar}
        first = min(ts for _, ts in streamed) - source.interval.ns
        past = {(s, b.ts): b for s, b in await source.history(first, max(ts for _, ts in streamed))}
        for key, bar in streamed.items():
            if key in past and past[key] != bar:
                raise Broken("a bar is the same from history and from the stream", f"{past[key]} and {bar}")

    run(case, tmp_path, body)


CHECKS: tuple[Check, ...] = (
    stream_order,
    stream_true,
    overlap,
)
