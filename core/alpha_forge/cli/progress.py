"""Progress on the terminal: bars where somebody watches, nothing where nobody does."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from alpha_forge.runtime.progress import Progress, Silent

if TYPE_CHECKING:
    import rich.progress


log = logging.getLogger("alpha_forge.progress")


class _Bars:
    """Progress as rich's bars. Thread-safe, as rich is."""

    def __init__(self, bars: rich.progress.Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, rich.progress.TaskID] = {}

    def start(self, task: str, total: int) -> None:
        self._tasks[task] = self._bars.add_task(task, total=max(total, 1))

    def advance(self, task: str, steps: int) -> None:
        self._bars.advance(self._tasks[task], steps)

    def finish(self, task: str, note: str = "") -> None:
        bar = self._tasks[task]
        total = self._bars.tasks[bar].total
        self._bars.update(bar, completed=total, description=f"{task} {note}".strip())


class _Lines:
    """One log line when a task has ended: for files and pipes."""

    def __init__(self) -> None:
        self._done: dict[str, int] = {}

    def start(self, task: str, total: int) -> None:
        self._done[task] = 0

    def advance(self, task: str, steps: int) -> None:
        self._done[task] += steps

    def finish(self, task: str, note: str = "") -> None:
        log.info("%s: %d steps done%s", task, self._done[task], f", {note}" if note else "")


@contextmanager
def shown_progress(*, quiet: bool = False, rate: str = "") -> Iterator[Progress]:
    """Bars on standard error if it is a terminal, else a line for each task that ends; nothing if ``quiet``.

    ``rate`` names steps in a second (``bars/s``), and has them shown.
    """
    if quiet:
        yield Silent()
        return
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    columns += [*([_speed_column(rate)] if rate else []), TimeRemainingColumn()]
    with RichProgress(*columns, console=Console(stderr=True)) as bars:
        yield _Bars(bars)


def _speed_column(rate: str) -> rich.progress.ProgressColumn:
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class Speed(ProgressColumn):
        """Steps in a second."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:,.0f} {rate}" if speed else "", style="progress.data.speed")

    return Speed()
