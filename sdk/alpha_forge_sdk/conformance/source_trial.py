"""A data source while things go wrong: faults played one after the other, its stream taken meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from alpha_forge_sdk.conformance.check import Broken, NotApplicable
from alpha_forge_sdk.conformance.source_subject import Opened, check_order, compare, run

if TYPE_CHECKING:
    from alpha_forge.contracts.types import Bar
    from alpha_forge_sdk.conformance.case import DataSourceConformance
    from alpha_forge_sdk.conformance.faults import Injection

LOOK = 0.02
"""Real seconds between two looks at what a fault has done."""


class Listening:
    """The stream, taken by a task of its own for as long as the block lasts. ``during`` names the fault."""

    def __init__(self, source: Opened, during: str) -> None:
        self.closed: list[tuple[str, Bar]] = []
        """Closed bars with their symbols, as they came."""
        self.first: int | None = None
        """Close of the bar that the first event was about: everything before it is history."""
        self._source = source
        self._during = during
        self._news = asyncio.Event()

    async def __aenter__(self) -> Listening:
        self._task = asyncio.create_task(self._take())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait({self._task}, timeout=1.0)

    async def _take(self) -> None:
        async for event in self._source.source.stream():
            if self.first is None and event.symbol is not None:
                self.first = event.ts
            if event.closed and event.bar is not None:
                self.closed.append((event.symbol, event.bar))
                self._news.set()

    async def struck(self, injection: Injection, times: int) -> None:
        """Wait until the fault has happened so often. Raises Broken if the stream did not live through it."""
        await self._until(
            lambda: injection.struck() >= times,
            f"while there was {self._during}, it never came to that: the stream had stopped",
        )

    async def closes(self, bars: int) -> None:
        """Wait for so many more closed bars of each symbol. Raises Broken if they don't come."""
        before = self._counts()

        def came() -> bool:
            now = self._counts()
            return all(now[s] - before[s] >= bars for s in self._source.symbols)

        await self._until(came, f"fewer than {bars} closed bars of some symbol came after {self._during}")

    def judge(self) -> None:
        """Raises Broken unless each closed bar came once, in order, and as it is in truth."""
        what = f"with {self._during} a stream"
        check_order(self.closed, self._source.interval, what)
        compare(self.closed, self._source.truth, what)

    def _counts(self) -> Counter[str]:
        return Counter(symbol for symbol, _ in self.closed)

    async def _until(self, holds: Callable[[], bool], seen: str) -> None:
        promised = f"the stream lives through {self._during} by itself"
        patience = self._source.case.patience
        try:
            async with asyncio.timeout(patience):
                while not holds():
                    if self._task.done():
                        error = self._task.exception()
                        how = "ended" if error is None else f"raised {type(error).__name__}: {error}"
                        raise Broken(promised, f"it {how}") from error
                    self._news.clear()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(LOOK):
                            await self._news.wait()
        except TimeoutError:
            raise Broken(f"{promised}, within {patience:g} s", seen) from None


def each_fault(
    case: DataSourceConformance,
    tmp_path: Path,
    faults: Iterable[str],
    body: Callable[[Opened, str], Awaitable[None]],
) -> str:
    """Run `body` with a fresh source for each fault that the case can inject; what was tried and what not, in words.

    Raises NotApplicable if the case can inject none of them.
    """
    tried, lacking = [], []
    for fault in faults:
        folder = tmp_path / fault
        folder.mkdir()
        try:
            run(case, folder, lambda source, fault=fault: body(source, fault))  # type: ignore[misc]
        except NotApplicable as reason:
            lacking.append((fault, str(reason)))
        else:
            tried.append(fault)
    if not tried:
        raise NotApplicable("; ".join(dict.fromkeys(reason for _, reason in lacking)))
    return "with " + ", ".join(tried) + ("; without " + ", ".join(f for f, _ in lacking) if lacking else "")


def injects(case: DataSourceConformance) -> str | None:
    """None if the case can inject faults, else why not: the ``applies`` of every check here."""
    from alpha_forge_sdk.conformance.case import DataSourceConformance as Base

    return None if type(case).inject is not Base.inject else "the case has no inject()"


def inject(source: Opened, fault: str, times: int | None = 1) -> Injection:
    """Put the fault into play."""
    return source.case.inject(source.params, fault, times=times)


async def moment(source: Opened) -> None:
    """Let a little time pass, by the source's clock or by ours: whichever is sooner."""
    waits = [
        asyncio.ensure_future(source.clock.sleep(source.interval.seconds / 20)),
        asyncio.ensure_future(asyncio.sleep(LOOK)),
    ]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


async def proved(source: Opened, close: int) -> None:
    """Wait until history's silence about `close` would prove something. Raises Broken if that never comes."""
    try:
        async with asyncio.timeout(source.case.patience):
            while await source.passed(close) < close:
                await moment(source)
    except TimeoutError:
        from alpha_forge.contracts.interval import iso

        raise Broken(
            f"passed() says within {source.case.patience:g} s that a close is history_lag ago",
            f"never of {iso(close)}: a bar that does not exist would be waited for as long",
        ) from None
