"""A data source at work, and what is said of the bars that it brings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alpha_forge_sdk.conformance.check import Broken

if TYPE_CHECKING:
    from alpha_forge.contracts.interval import Interval
    from alpha_forge.contracts.types import Bar, MarketEvent
    from alpha_forge_sdk.conformance.case import DataSourceConformance

Key = tuple[str, int]


class Opened:
    """A source at work, with what the case knows of it."""

    def __init__(
        self,
        case: DataSourceConformance,
        params: Mapping[str, Any],
        source: Any,
        clock: Any,
        truth: dict[Key, Bar],
    ) -> None:
        from alpha_forge.contracts.interval import Interval

        self.case = case
        self.params = params
        self.source = source
        self.clock = clock
        self.truth = truth
        self.symbols: tuple[str, ...] = tuple(source.params.universe)
        self.interval: Interval = Interval.parse(source.params.interval)
        self.ended = False
        """True once the stream has ended by itself."""
        self.closed = False

    async def close(self) -> None:
        """The source's own close, which then does not come again."""
        self.closed = True
        await self.source.close()

    def range(self) -> tuple[int, int]:
        """(start, end] of what history can be asked for: from the truth's first bar to the present."""
        times = [ts for _, ts in self.truth]
        end = min(max(times), self.interval.floor(self.clock.now()))
        return min(times) - self.interval.ns, end

    async def history(
        self, start: int, end: int, symbols: Sequence[str] | None = None
    ) -> list[tuple[str, Bar]]:
        """All bars of a range as pairs, in the order they came; of the whole universe unless `symbols` are given."""
        from alpha_forge.contracts.types import Bar

        found: list[tuple[str, Bar]] = []
        async for block in self.source.history(symbols or self.symbols, start, end):
            columns = (block.ts, block.open, block.high, block.low, block.close, block.volume)
            rows = zip(*(c.tolist() for c in columns), strict=True)
            found += [(block.symbol, Bar(*row)) for row in rows]
        return found

    async def passed(self, close: int) -> int:
        """The latest close ≤ `close` whose absence from history would prove that there is no such bar."""
        lag = int(type(self.source).history_lag * 1e9)
        known: int = await self.source.passed(close + lag, self.clock.now())
        return known - lag

    async def streamed(self) -> list[MarketEvent]:
        """Events until each symbol has had ``stream_bars`` closed bars, or a finite source has ended."""
        events: list[MarketEvent] = []
        owed = dict.fromkeys(self.symbols, self.case.stream_bars)

        async def take() -> None:
            async for event in self.source.stream():
                events.append(event)
                if event.closed and event.symbol in owed:
                    owed[event.symbol] -= 1
                if all(n <= 0 for n in owed.values()):
                    return
            self.ended = True

        try:
            await asyncio.wait_for(take(), self.case.patience)
        except TimeoutError:
            missing = [s for s, n in owed.items() if n > 0]
            raise Broken(
                f"the stream brings {self.case.stream_bars} closed bars of each symbol within {self.case.patience:g} s",
                f"{len(missing)} symbol(s) had fewer, for example {missing[0]}; {len(events)} events came in all",
            ) from None
        return events


@asynccontextmanager
async def opened(
    case: DataSourceConformance, tmp_path: Path, watch: AbstractContextManager[Any] | None = None
) -> AsyncIterator[Opened]:
    """The case's source, opened as the runtime opens it, and closed afterwards; all of its life under `watch`."""
    from alpha_forge.contracts.clock import SystemClock
    from alpha_forge.contracts.plugin import SourceContext

    with case.running(tmp_path) as params:
        truth = {(symbol, bar.ts): bar for symbol, bar in case.truth(params)}
        plugin = case.plugin_class()
        with watch or nullcontext():
            source: Any = plugin(plugin.Params.model_validate(dict(params)))
            clock = await source.find_clock() or SystemClock()
            one = Opened(case, params, source, clock, truth)
            try:
                await source.open(SourceContext(clock, tmp_path / "cache", {}))
                yield one
            finally:
                if not one.closed:
                    await source.close()


def run(
    case: DataSourceConformance,
    tmp_path: Path,
    body: Callable[[Opened], Awaitable[None]],
    watch: AbstractContextManager[Any] | None = None,
) -> None:
    async def main() -> None:
        async with opened(case, tmp_path, watch) as source:
            await body(source)

    asyncio.run(main())


def check_order(pairs: Iterable[tuple[str, Bar]], interval: Interval, what: str) -> None:
    """Each symbol's bars once, ascending, on the grid. Raises Broken."""
    from alpha_forge.contracts.interval import iso

    last: dict[str, int] = {}
    for symbol, bar in pairs:
        if not interval.on_grid(bar.ts):
            raise Broken(
                f"{what} brings closes on the grid of {interval}", f"{symbol} closed at {iso(bar.ts)}"
            )
        before = last.get(symbol)
        if before is not None and bar.ts <= before:
            how = "came twice" if bar.ts == before else f"came after {iso(before)}"
            raise Broken(
                f"{what} brings each closed bar of a symbol once, oldest first",
                f"{symbol} at {iso(bar.ts)} {how}",
            )
        last[symbol] = bar.ts


def compare(pairs: Iterable[tuple[str, Bar]], truth: dict[Key, Bar], what: str) -> None:
    """Every bar is the truth's, in every value. Raises Broken for the first that is not."""
    from alpha_forge.contracts.interval import iso

    for symbol, bar in pairs:
        true = truth.get((symbol, bar.ts))
        if true is None:
            raise Broken(f"{what} invents no bar", f"{symbol} at {iso(bar.ts)} does not exist")
        for name, seen, wanted in zip(bar._fields, bar, true, strict=True):
            if seen != wanted:
                raise Broken(
                    f"{what} brings closed bars as they are",
                    f"{symbol} at {iso(bar.ts)}: {name} is {seen!r}, in truth {wanted!r}",
                    "a bar in progress must never pass as closed; parse every digit",
                )


def complete(pairs: Iterable[tuple[str, Bar]], wanted: set[Key], what: str) -> None:
    """No bar of `wanted` is missing. Raises Broken for the first."""
    from alpha_forge.contracts.interval import iso

    missing = sorted(wanted - {(symbol, bar.ts) for symbol, bar in pairs}, key=lambda k: (k[1], k[0]))
    if missing:
        symbol, ts = missing[0]
        raise Broken(
            f"{what} misses no bar", f"{symbol} at {iso(ts)} is missing, and {len(missing) - 1} more"
        )
