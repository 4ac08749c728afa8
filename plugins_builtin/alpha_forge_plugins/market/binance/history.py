"""Closed bars of a range: the plan carried out, holes filled over REST, blocks in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Sequence

import numpy as np

from alpha_forge_plugins.market.binance import rest
from alpha_forge_plugins.market.binance.archive_client import ArchiveClient
from alpha_forge_plugins.market.binance.planner import Costs, Plan, Published, plan
from alpha_forge_plugins.market.binance.rest_client import RestClient
from alpha_forge_plugins.market.binance.rows import Rows, blocks, clean, missing
from alpha_forge_sdk import BarBlock, Interval

log = logging.getLogger(__name__)

_LONG = 1500  # bars; before fetching more than that over REST, one row is asked for to see where they begin
_BRIDGE = 99  # bars that weigh 1: holes nearer to each other are asked for together


class History:
    """Fetches ranges of closed bars for many symbols at a time."""

    def __init__(
        self, client: RestClient, archive: ArchiveClient, interval: Interval, concurrency: int
    ) -> None:
        self._rest = client
        self._archive = archive
        self._interval = interval
        self._concurrency = concurrency

    async def blocks(self, symbols: Sequence[str], start: int, end: int) -> AsyncIterator[BarBlock]:
        """Closed bars with start < ts <= end; a symbol's blocks come together and in order."""
        interval = self._interval
        start = interval.floor(max(start, 0))
        end = interval.floor(await self._rest.final_until(end))
        if end <= start or not symbols:
            return
        pending: set[asyncio.Task[list[BarBlock]]] = set()
        try:
            for symbol, its in await self._plans(symbols, start, end):
                pending.add(asyncio.create_task(self._symbol(symbol, its)))
                if len(pending) == self._concurrency:
                    done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                    for block in _blocks(done):
                        yield block
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for block in _blocks(done):
                    yield block
        finally:
            for task in pending:
                task.cancel()
            if pending:
                await asyncio.wait(pending)

    async def _plans(self, symbols: Sequence[str], start: int, end: int) -> list[tuple[str, Plan]]:
        """One plan a symbol. Weight costs nothing while the minute's budget holds all, and time beyond it."""
        published = Published.by_calendar(self._rest.now())
        plans = self._priced(symbols, start, end, published)
        if any(its.files for _, its in plans):
            seen = await self._archive.published(symbols[0], self._interval, published)
            if seen != published:
                plans = self._priced(symbols, start, end, seen)
        return plans

    def _priced(
        self, symbols: Sequence[str], start: int, end: int, published: Published
    ) -> list[tuple[str, Plan]]:
        for costs in (Costs(weight=0.0), Costs()):
            plans = [
                (symbol, plan(symbol, self._interval, start, end, published, costs, self._archive.cached))
                for symbol in symbols
            ]
            weight = sum(its.weight for _, its in plans)
            if weight <= 0.8 * self._rest.budget.left(self._rest.now()):
                break
        log.info(
            "history of %d symbol(s): %d archive file(s), REST weight %d",
            len(plans),
            sum(len(its.files) for _, its in plans),
            weight,
        )
        return plans

    async def _symbol(self, symbol: str, its: Plan) -> list[BarBlock]:
        parts = []
        if its.files:
            parts.append(await self._from_archive(its))
            holes = missing(parts[0], self._interval, its.start, its.cut, _BRIDGE)
        else:
            holes = []
        for begin, end in [*holes, (its.cut, its.end)]:
            parts.append(await self._from_rest(symbol, begin, end))
        return blocks(symbol, parts)

    async def _from_archive(self, its: Plan) -> Rows:
        fetched = await asyncio.gather(*(self._archive.fetch(file, self._interval) for file in its.files))
        found = [rows for rows in fetched if rows is not None]
        ts = np.concatenate([np.empty(0, np.int64), *(rows.ts for rows in found)])
        values = np.concatenate([np.empty((5, 0)), *(rows.values for rows in found)], axis=1)
        return clean(ts, values, self._interval, its.start, its.cut, "archive", its.files[0].key)

    async def _from_rest(self, symbol: str, start: int, end: int) -> Rows:
        interval = self._interval
        if (end - start) // interval.ns > _LONG:
            # Years before a symbol was listed would cost a page for every 499 bars that never were.
            first = await self._rest.first_open(symbol, interval, start // rest.MS)
            start = max(start, first * rest.MS) if first is not None else end
        pages = rest.pages(start, end, interval) if end > start else []
        got = await asyncio.gather(*(self._rest.klines(symbol, interval, page) for page in pages))
        ts = np.concatenate([np.empty(0, np.int64), *(ts for ts, _ in got)])
        values = np.concatenate([np.empty((5, 0)), *(values for _, values in got)], axis=1)
        return clean(ts, values, interval, start, end, "rest", f"{symbol} over REST")


def _blocks(done: Iterable[asyncio.Task[list[BarBlock]]]) -> list[BarBlock]:
    """What the tasks found; raises what one of them raised, after looking at all of them."""
    errors = [error for task in done if (error := task.exception()) is not None]
    if errors:
        raise errors[0]
    return [block for task in done for block in task.result()]
