"""AF-D07 … AF-D12: opened, used by several, cancelled, cut off, closed."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alpha_forge_sdk.conformance.auditing import watched_waits
from alpha_forge_sdk.conformance.check import Broken, Check, NotApplicable, check
from alpha_forge_sdk.conformance.source_stop import Stop, run_stopped
from alpha_forge_sdk.conformance.source_subject import Opened, run

if TYPE_CHECKING:
    from alpha_forge_sdk.conformance.case import DataSourceConformance


@check(
    "AF-D07",
    "cancelled, it ends within a second and leaves nothing open",
    "data",
    remedy="release connections and tasks in 'finally'; await what you cancel",
    needs=("AF-D04",),
)
def cancellation(case: DataSourceConformance, tmp_path: Path) -> None:
    """A run that is stopped must end; connections that are left open count against the exchange's limits."""

    async def body(source: Opened, stop: Stop) -> None:
        started = asyncio.Event()

        async def take() -> None:
            async for _ in source.source.stream():
                started.set()

        mine = asyncio.create_task(take()), asyncio.create_task(started.wait())
        await asyncio.wait(mine, timeout=case.patience, return_when=asyncio.FIRST_COMPLETED)
        mine[1].cancel()
        await stop.judge(source, mine[0])

    run_stopped(case, tmp_path, body)


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

    run(case, tmp_path, body)


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

    run(case, tmp_path, body)


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

    run(case, tmp_path, body, watch)
    if waits:
        raise Broken("a source never blocks the event loop", f"it called {waits[0]} there")


@check(
    "AF-D11",
    "a symbol that does not exist is an error of open",
    "data",
    remedy="ask the source for the symbols that it has, and raise a SourceError that names those it has not",
    applies=lambda case: (
        "a source of ticks has no symbols of its own"
        if getattr(case.plugin_class(), "ticks", False)
        else None
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

    run(case, tmp_path, body)


CHECKS: tuple[Check, ...] = (
    cancellation,
    lifecycle,
    concurrent,
    never_blocks,
    unknown_symbol,
    reconnects,
)
