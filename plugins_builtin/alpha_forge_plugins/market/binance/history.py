"""Closed bars of a range: the plan carried out, holes filled over REST, blocks in order."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence

import numpy as np

from alpha_forge_plugins.market.binance import rest
from alpha_forge_plugins.market.binance.archive_client import ArchiveClient
from alpha_forge_plugins.market.binance.planner import MONTHLY_ONLY, Plan, Published, Range, choose
from alpha_forge_plugins.market.binance.rest_client import RestClient
from alpha_forge_plugins.market.binance.rows import Rows, blocks, clean, missing
from alpha_forge_sdk import BarBlock, Interval

log = logging.getLogger(__name__)

_LONG = 1500  # bars; before fetching more than that over REST, one row is asked for to see where they begin
_MONTH_BY_DAYS = 5000  # bars; a month of fewer is a few requests over REST, and its days would be sixty
_BRIDGE = 99  # bars that weigh 1: holes nearer to each other are asked for together


class History:
    """Fetches ranges of closed bars for many symbols at a time.

    At most `concurrency` parts of about `planner.PART_ROWS` bars are held in memory, however long the range is.
    ``counts`` tells what has come from where since this was made; the archive's own are beside them.
    """

    def __init__(
        self, client: RestClient, archive: ArchiveClient, interval: Interval, concurrency: int
    ) -> None:
        self._rest = client
        self._archive = archive
        self._interval = interval
        self._concurrency = concurrency
        self._listed: dict[str, tuple[int, int]] = {}
        self.counts: Counter[str] = Counter()

    @property
    def totals(self) -> Counter[str]:
        """``counts`` and the archive's."""
        return self.counts + self._archive.counts

    async def blocks(self, symbols: Sequence[str], start: int, end: int) -> AsyncIterator[BarBlock]:
        """Closed bars with start < ts <= end; a symbol's blocks come together and in order."""
        interval = self._interval
        start = interval.floor(max(start, 0))
        end = interval.floor(await self._rest.final_until(end))
        if end <= start or not symbols:
            return
        before = self.totals
        plans = await self._plans(symbols, start, end)
        parts = ((symbol, part) for symbol, its in plans.items() for part in its.parts(interval))
        running: deque[asyncio.Task[list[BarBlock]]] = deque()
        try:
            # In order, so that what waits to be taken is never more than the parts that run side by side.
            for symbol, part in parts:
                running.append(asyncio.create_task(self._part(symbol, part)))
                if len(running) == self._concurrency:
                    for block in await running[0]:
                        yield block
                    running.popleft()
            while running:
                for block in await running[0]:
                    yield block
                running.popleft()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        self._report(len(symbols), self.totals - before)

    def _report(self, symbols: int, counts: Counter[str]) -> None:
        log.info(
            "history of %d symbol(s): %d bars from the archive (%d files, %d of them on disk), %d over REST",
            symbols,
            counts["bars_from_archive"],
            counts["files_from_disk"] + counts["files_downloaded"],
            counts["files_from_disk"],
            counts["bars_over_rest"],
        )
        faults = [f"{counts[name]} {name.replace('_', ' ')}" for name in _FAULTS if counts[name]]
        if faults or counts["bars_filled"]:
            log.warning(
                "history: the archive lacked %d bars, of which REST had %d%s",
                counts["bars_lacking"],
                counts["bars_filled"],
                f" ({', '.join(faults)})" if faults else "",
            )

    async def _plans(self, symbols: Sequence[str], start: int, end: int) -> dict[str, Plan]:
        """One plan a symbol, by the calendar; and anew by the archive's listing where that says otherwise."""
        kept = await asyncio.to_thread(self._archive.kept, symbols, self._interval.name)
        now = self._rest.now()
        published = Published.by_calendar(now)
        choice = choose(symbols, self._range(start, end, published, now), kept)
        if any(its.files for its in choice.plans.values()):
            seen = await self._archive.published(symbols[0], self._interval, published)
            if seen != published:
                choice = choose(symbols, self._range(start, end, seen, self._rest.now()), kept)
        log.debug(
            "history of %d symbol(s): %d archive file(s), REST weight %d planned",
            len(choice.plans),
            sum(len(its.files) for its in choice.plans.values()),
            choice.weight,
        )
        return dict(choice.plans)

    def _range(self, start: int, end: int, published: Published, now: int) -> Range:
        budget = self._rest.budget
        return Range(
            self._interval,
            self._rest.venue,
            start,
            end,
            published,
            budget.left(now),
            budget.allowed,
            self._archive.asks,
        )

    async def _part(self, symbol: str, its: Plan) -> list[BarBlock]:
        """The bars of one part, archive first, then what it lacks and what it never had over REST."""
        if its.end <= self._nothing_until(symbol, its.start):
            return []
        parts: list[Rows] = []
        asked: list[tuple[int, int]] = []
        if its.files:
            parts.append(await self._from_archive(symbol, its))
            inside = (parts[0].ts > its.start) & (parts[0].ts <= its.cut)
            if not inside.all():
                parts[0] = Rows(parts[0].ts[inside], parts[0].values[:, inside], "archive")
            self.counts["bars_from_archive"] += len(parts[0].ts)
            asked = missing(parts[0], self._interval, its.start, its.cut, _BRIDGE)
            self.counts["bars_lacking"] += (its.cut - its.start) // self._interval.ns - len(parts[0].ts)
        for begin, end in _joined([*asked, (its.cut, its.end)]):
            rows = await self._from_rest(symbol, begin, end)
            self.counts["bars_over_rest"] += len(rows.ts)
            self.counts["rows_refused"] += rows.refused
            parts.append(rows)
        found = blocks(symbol, parts)
        if its.files:
            older = sum(int((block.ts <= its.cut).sum()) for block in found)
            self.counts["bars_filled"] += older - len(parts[0].ts)
        return found

    async def _from_archive(self, symbol: str, its: Plan) -> Rows:
        """The files' bars; of a month that can't be had, those of its days."""
        rows, lost = await self._archive.fetch(its.files, self._interval)
        months = [file for file in lost if file.monthly and file.rows(self._interval) > _MONTH_BY_DAYS]
        if not months or self._interval.name in MONTHLY_ONLY:
            return rows
        # A month may be missing because the symbol is younger: its days would be thirty questions in vain.
        await self._find_first(symbol, its.start, its.end)
        since = self._nothing_until(symbol, its.start)
        days = [day for month in months for day in month.days() if since < day.end and day.begin < its.cut]
        if not days:
            return rows
        log.info("%s: %d daily files in place of %s", symbol, len(days), ", ".join(m.period for m in months))
        more, _ = await self._archive.fetch(days, self._interval)
        ts = np.concatenate([rows.ts, more.ts])
        order = np.argsort(ts, kind="stable")
        values = np.concatenate([rows.values, more.values], axis=1)
        return Rows(ts[order], values[:, order], "archive")

    async def _find_first(self, symbol: str, start: int, end: int) -> None:
        """Ask where a symbol's bars begin, once."""
        if self._listed.get(symbol, (end, end))[0] > start:
            first = await self._rest.first_open(symbol, self._interval, start // rest.MS)
            nothing = max(end, self._rest.now())
            self._listed[symbol] = (start, first * rest.MS if first is not None else nothing)

    async def _from_rest(self, symbol: str, start: int, end: int) -> Rows:
        interval = self._interval
        if (end - start) // interval.ns > _LONG:
            # Years before a symbol was listed would cost a page for every 499 bars that never were.
            await self._find_first(symbol, start, end)
        start = max(start, self._nothing_until(symbol, start))
        pages = rest.pages(start, end, interval, self._rest.venue) if end > start else []
        got = await asyncio.gather(*(self._rest.klines(symbol, interval, page) for page in pages))
        ts = np.concatenate([np.empty(0, np.int64), *(ts for ts, _ in got)])
        values = np.concatenate([np.empty((5, 0)), *(values for _, values in got)], axis=1)
        return clean(ts, values, interval, start, end, "rest", f"{symbol} over REST")

    def _nothing_until(self, symbol: str, start: int) -> int:
        """The instant up to which REST has said that nothing opens from `start` on; `start` if it wasn't asked."""
        asked, first = self._listed.get(symbol, (start, start))
        return first if asked <= start <= first else start


_FAULTS = ("files_missing", "files_damaged", "files_uploaded_again", "rows_refused", "rows_repeated")


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges (a, b] without the empty ones; a range that begins where the one before ends is one with it."""
    joined: list[tuple[int, int]] = []
    for begin, end in ranges:
        if begin == end:
            continue
        if joined and joined[-1][1] == begin:
            begin = joined.pop()[0]
        joined.append((begin, end))
    return joined
