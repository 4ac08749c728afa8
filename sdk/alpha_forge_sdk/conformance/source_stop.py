"""What is left of a source that was stopped: tasks, threads, connections, and how long it took."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alpha_forge_sdk.conformance.auditing import watched_connects
from alpha_forge_sdk.conformance.check import Broken
from alpha_forge_sdk.conformance.source_subject import Opened, run

if TYPE_CHECKING:
    from alpha_forge_sdk.conformance.case import DataSourceConformance

SECONDS = 1.0
"""In which what is stopped must have ended."""


class Stop:
    """Knows what ran before the source was made."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._watch, self._open = watched_connects()

    @contextmanager
    def noted(self) -> Iterator[None]:
        """The source's life; what the case itself keeps running is there before."""
        self._tasks.update(asyncio.all_tasks())
        with self._watch:
            yield

    async def judge(self, source: Opened, task: asyncio.Task[Any], what: str = "a cancelled stream") -> None:
        """Cancel `task`, in which the source works, and close the source. Raises Broken if it takes its time or leaves
        a task behind."""
        task.cancel()
        _, running = await asyncio.wait({task}, timeout=SECONDS)
        if running:
            # What obeys the second time, or ends by itself, is waited for: its error would be told at the loop's end.
            task.cancel()
            await asyncio.wait({task}, timeout=SECONDS)
            if task.done() and not task.cancelled():
                task.exception()
            raise Broken(f"{what} ends within {SECONDS:g} s", "it was still running")
        try:
            await asyncio.wait_for(source.close(), SECONDS)
        except TimeoutError:
            raise Broken(f"close ends within {SECONDS:g} s", "it was still running") from None
        for _ in range(100):
            left = {t for t in asyncio.all_tasks() - self._tasks if t is not task}
            if not left and not self._open():
                return
            await asyncio.sleep(SECONDS / 100)
        if left:
            raise Broken("nothing is left running after close", f"the task {left.pop().get_name()} is")
        raise Broken("no connection is left open after close", f"one to {self._open()[0]} is")


def run_stopped(
    case: DataSourceConformance, tmp_path: Path, body: Callable[[Opened, Stop], Awaitable[None]]
) -> None:
    """As `run`, with a `Stop` for the body to judge by. Raises Broken, also for a thread that is left."""
    before = {t.ident for t in threading.enumerate()}
    stop = Stop()
    run(case, tmp_path, lambda source: body(source, stop), stop.noted())
    threads = [t for t in threading.enumerate() if t.ident not in before and not t.daemon]
    if threads:
        raise Broken("no thread is left after close", f"{threads[0].name} is")
