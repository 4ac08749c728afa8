"""AF-D: what a data source promises. Compared with the case's ``truth``, which the source has no part in."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alpha_forge_sdk.conformance.auditing import watched_waits
from alpha_forge_sdk.conformance.check import Broken, Check, NotApplicable, check

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


def _run(
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


@check(
    "AF-D01",
    "history brings each bar of its range once, oldest first, on the grid",
    "data",
    remedy="drop what lies outside start < ts <= end, sort, and remove repetitions where pages meet",
)
def history_order(case: DataSourceConformance, tmp_path: Path) -> None:
    """Warm-up and repairs ask for exact ranges; a bar outside or repeated would be processed twice."""
    from alpha_forge.contracts.interval import iso

    async def body(source: Opened) -> None:
        start, end = source.range()
        inner = (start + source.interval.ns, end - source.interval.ns)
        for begin, finish in ((start, end), inner):
            pairs = await source.history(begin, finish)
            outside = [(s, b.ts) for s, b in pairs if not begin < b.ts <= finish]
            if outside:
                raise Broken(
                    "history yields closes with start < ts <= end",
                    f"asked for ({iso(begin)}, {iso(finish)}], got {outside[0][0]} at {iso(outside[0][1])}",
                )
            check_order(pairs, source.interval, "history")
        asked = source.symbols[-1:]
        strange = [s for s, _ in await source.history(*inner, symbols=asked) if s not in asked]
        if strange:
            raise Broken(
                "history brings the symbols that it is asked for",
                f"asked for {asked[0]}, got {strange[0]}",
                "read the symbols of the call, not the universe",
            )

    _run(case, tmp_path, body)


@check(
    "AF-D02",
    "history is the truth: nothing missing, invented or altered",
    "data",
    remedy="page until the range is covered; leave out the bar still open; parse every digit",
    needs=("AF-D01",),
)
def history_true(case: DataSourceConformance, tmp_path: Path) -> None:
    """A missing, invented or altered bar spoils every feature that reads it, without any error."""

    async def body(source: Opened) -> None:
        start, end = source.range()
        pairs = await source.history(start, end)
        compare(pairs, source.truth, "history")
        complete(pairs, {k for k in source.truth if start < k[1] <= end}, "history")
        await _none_in_progress(source)

    _run(case, tmp_path, body)


async def _none_in_progress(source: Opened) -> None:
    """Asked for a range that goes beyond the present, history leaves out what has not closed yet."""
    from alpha_forge.contracts.interval import iso

    last, step = source.interval.floor(source.clock.now()), source.interval.ns
    pairs = await source.history(last - step, last + 2 * step)
    now = source.clock.now()
    for symbol, bar in pairs:
        # Recordings may well be of a time to come: then their bars are the truth's.
        if bar.ts > now and source.truth.get((symbol, bar.ts)) != bar:
            raise Broken(
                "history brings closed bars only",
                f"at {iso(now)} it brought the bar in progress of {symbol}, which closes at {iso(bar.ts)}",
            )


@check(
    "AF-D03",
    "history of two halves is history of the whole",
    "data",
    remedy="start is excluded and end included, always; keep no state between calls",
    needs=("AF-D02",),
)
def history_halves(case: DataSourceConformance, tmp_path: Path) -> None:
    """Ranges are fetched piece by piece. An edge taken twice or left out shows only where pieces meet."""

    async def body(source: Opened) -> None:
        start, end = source.range()
        middle = source.interval.floor((start + end) // 2)
        whole = sorted(await source.history(start, end))
        halves = sorted([*await source.history(start, middle), *await source.history(middle, end)])
        if halves != whole:
            odd = sorted(set(halves) ^ set(whole))[:1] or [next(x for x in halves if halves.count(x) > 1)]
            raise Broken("(a, b] and (b, c] together are (a, c]", f"the first difference is {odd[0]}")
        if sorted(await source.history(start, end)) != whole:
            raise Broken("the same range gives the same bars", "another answer when asked again")

    _run(case, tmp_path, body)


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

    _run(case, tmp_path, body)


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

    _run(case, tmp_path, body)


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

    _run(case, tmp_path, body)


@check(
    "AF-D07",
    "cancelled, it ends within a second and leaves nothing open",
    "data",
    remedy="release connections and tasks in 'finally'; await what you cancel",
    needs=("AF-D04",),
)
def cancellation(case: DataSourceConformance, tmp_path: Path) -> None:
    """A run that is stopped must end; connections that are left open count against the exchange's limits."""
    before = {t.ident for t in threading.enumerate()}
    tasks: set[asyncio.Task[Any]] = set()

    @contextmanager
    def noted() -> Iterator[None]:
        # What the case itself keeps running is there before the source is.
        tasks.update(asyncio.all_tasks())
        yield

    async def body(source: Opened) -> None:
        started = asyncio.Event()

        async def take() -> None:
            async for _ in source.source.stream():
                started.set()

        mine = asyncio.create_task(take()), asyncio.create_task(started.wait())
        await asyncio.wait(mine, timeout=case.patience, return_when=asyncio.FIRST_COMPLETED)
        for task in mine:
            task.cancel()
        _, running = await asyncio.wait(mine[:1], timeout=1.0)
        if running:
            raise Broken("a cancelled stream ends within 1 s", "it was still running")
        try:
            await asyncio.wait_for(source.close(), 1.0)
        except TimeoutError:
            raise Broken("close ends within 1 s", "it was still running") from None
        for _ in range(100):
            left = asyncio.all_tasks() - tasks - {*mine}
            if not left:
                return
            await asyncio.sleep(0.01)
        raise Broken("nothing is left running after close", f"the task {left.pop().get_name()} is")

    _run(case, tmp_path, body, noted())
    threads = [t for t in threading.enumerate() if t.ident not in before and not t.daemon]
    if threads:
        raise Broken("no thread is left after close", f"{threads[0].name} is")


@check(
    "AF-D08",
    "close may come twice, or without open; using it then is a clear error",
    "data",
    remedy="check for being open in stream() and history(); make close idempotent",
)
def lifecycle(case: DataSourceConformance, tmp_path: Path) -> None:
    """Close comes on every path, failures included."""
    from alpha_forge.contracts.errors import AlphaForgeError

    async def body(source: Opened) -> None:
        start, end = source.range()
        await source.close()
        try:
            await source.source.close()
        except Exception as error:
            raise Broken(
                "close may come twice", f"the second raised {type(error).__name__}: {error}"
            ) from error
        try:
            await source.history(start, end)
        except AlphaForgeError:
            pass
        except Exception as error:
            raise Broken(
                "history after close is an AlphaForgeError", f"{type(error).__name__}: {error}"
            ) from error
        else:
            raise Broken("history after close is an error", "it answered")
        plugin = type(source.source)
        await plugin(source.source.params).close()

    _run(case, tmp_path, body)


@check(
    "AF-D09",
    "history can be asked while the stream runs, by several at once",
    "data",
    remedy="keep no shared cursor; repairs run beside the stream and beside each other",
    needs=("AF-D02", "AF-D04"),
)
def concurrent(case: DataSourceConformance, tmp_path: Path) -> None:
    """A missed bar is fetched from history while the stream goes on, for several symbols at once."""

    async def body(source: Opened) -> None:
        start, end = source.range()
        alone = sorted(await source.history(start, end))
        streaming = asyncio.create_task(source.streamed())
        try:
            answers = await asyncio.gather(*(source.history(start, end) for _ in range(3)))
            await streaming
        finally:
            streaming.cancel()
            await asyncio.gather(streaming, return_exceptions=True)
        for answer in answers:
            if sorted(answer) != alone:
                raise Broken(
                    "history answers the same whatever runs beside it",
                    f"{len(answer)} bars beside others, {len(alone)} alone",
                )

    _run(case, tmp_path, body)


@check(
    "AF-D10",
    "the event loop is never blocked",
    "data",
    remedy="await asyncio.sleep; use an asynchronous client, or asyncio.to_thread for one that is not",
    needs=("AF-D01", "AF-D04"),
)
def never_blocks(case: DataSourceConformance, tmp_path: Path) -> None:
    """All sources, the dashboard and the signals' handling share one event loop: while one source sleeps or
    waits for a server there, the bars of all others are late."""
    watch, waits = watched_waits()

    async def body(source: Opened) -> None:
        await source.history(*source.range())
        await source.streamed()

    _run(case, tmp_path, body, watch)
    if waits:
        raise Broken("a source never blocks the event loop", f"it called {waits[0]} there")


@check(
    "AF-D11",
    "a symbol that does not exist is an error of open",
    "data",
    remedy="ask the source for the symbols that it has, and raise a SourceError that names those it has not",
    applies=lambda case: (
        "a source of ticks has no symbols of its own" if getattr(case.plugin_class(), "ticks", False) else None
    ),
    needs=("AF-D01",),
)
def unknown_symbol(case: DataSourceConformance, tmp_path: Path) -> None:
    """A misspelt symbol has no bars. Without an error at the start the run waits for them as long as it lives."""
    from pydantic import ValidationError

    from alpha_forge.contracts.clock import SystemClock
    from alpha_forge.contracts.errors import AlphaForgeError
    from alpha_forge.contracts.plugin import SourceContext

    async def main() -> None:
        plugin = case.plugin_class()
        with case.running(tmp_path) as params:
            universe = tuple(plugin.Params.model_validate(dict(params)).universe)  # type: ignore[attr-defined]
            unknown = f"QX{universe[0]}"
            try:
                asked = plugin.Params.model_validate({**params, "universe": [*universe, unknown]})
            except ValidationError:
                return  # told even sooner
            source: Any = plugin(asked)
            try:
                clock = await source.find_clock() or SystemClock()
                await source.open(SourceContext(clock, tmp_path / "cache", {}))
            except AlphaForgeError:
                pass
            except Exception as error:
                raise Broken(
                    "open raises SourceError for a symbol that it doesn't know",
                    f"for {unknown!r} it raised {type(error).__name__}: {error}",
                ) from error
            else:
                raise Broken(
                    "open raises SourceError for a symbol that it doesn't know", f"{unknown!r} was taken"
                )
            finally:
                with suppress(Exception):  # a check of its own
                    await source.close()

    asyncio.run(main())


def _can_disconnect(case: DataSourceConformance) -> str | None:
    from alpha_forge_sdk.conformance.case import DataSourceConformance as Base

    return None if type(case).disconnect is not Base.disconnect else "the case has no disconnect()"


@check(
    "AF-D12",
    "a connection that is lost is made again",
    "data",
    remedy="connect anew inside stream(), with a back-off; never let it end, nor a lost connection out of it",
    applies=_can_disconnect,
    needs=("AF-D05",),
)
def reconnects(case: DataSourceConformance, tmp_path: Path) -> None:
    """Exchanges end connections once a day and whenever they like. A stream that ends with its connection, or
    raises, ends the run. What closes meanwhile may be missed here: the runtime fetches it from history."""

    async def body(source: Opened) -> None:
        owed = dict.fromkeys(source.symbols, case.stream_bars)
        cut = False

        async def take() -> None:
            nonlocal cut
            async for event in source.source.stream():
                if not event.closed or event.symbol not in owed:
                    continue
                if not cut:
                    cut = True
                    case.disconnect(source.params)
                    continue
                owed[event.symbol] -= 1
                if all(n <= 0 for n in owed.values()):
                    return
            raise Broken("a stream never ends by itself", "it ended when its connection was cut")

        try:
            await asyncio.wait_for(take(), case.patience)
        except TimeoutError:
            missing = [s for s, n in owed.items() if n > 0]
            raise Broken(
                f"bars come again within {case.patience:g} s after a connection was cut",
                f"fewer than {case.stream_bars} came of {missing[0]}" if cut else "no closed bar came at all",
            ) from None
        except (Broken, NotApplicable):
            raise
        except Exception as error:
            raise Broken(
                "the stream reconnects by itself",
                f"when its connection was cut it raised {type(error).__name__}: {error}",
            ) from error

    _run(case, tmp_path, body)


CHECKS: tuple[Check, ...] = (
    history_order,
    history_true,
    history_halves,
    stream_order,
    stream_true,
    overlap,
    cancellation,
    lifecycle,
    concurrent,
    never_blocks,
    unknown_symbol,
    reconnects,
)
