"""AF-D01 … AF-D03: what history answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alpha_forge_sdk.conformance.check import Broken, Check, check
from alpha_forge_sdk.conformance.source_subject import Opened, check_order, compare, complete, run

if TYPE_CHECKING:
    from alpha_forge_sdk.conformance.case import DataSourceConformance


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

    run(case, tmp_path, body)


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

    run(case, tmp_path, body)


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

    run(case, tmp_path, body)


CHECKS: tuple[Check, ...] = (
    history_order,
    history_true,
    history_halves,
)
