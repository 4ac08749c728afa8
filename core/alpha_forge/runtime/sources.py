"""Opening a graph's data sources by one clock, and closing them on every path."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from alpha_forge.contracts.clock import Clock, SystemClock
from alpha_forge.contracts.plugin import DataSource, SourceContext
from alpha_forge.plan.graph import EventFlowDAG


@asynccontextmanager
async def opened(
    dag: EventFlowDAG,
    cache_dir: Path,
    *,
    clock: Clock | None = None,
    sources: Mapping[str, DataSource] | None = None,
) -> AsyncIterator[tuple[Mapping[str, DataSource], Clock]]:
    """The sources by frame, open, and the clock that they follow: `clock`, else a server's own, else the machine's.

    ``sources`` replaces those that the graph names. Raises what `DataSource.open` raises.
    """
    nodes = dag.data_nodes()
    made = {n.frame: sources[n.frame] if sources is not None else dag.make(n) for n in nodes}
    try:
        yield made, await open_all(made.values(), clock, cache_dir)
    finally:
        for source in made.values():
            await source.close()


async def open_all(sources: Collection[DataSource], clock: Clock | None, cache_dir: Path) -> Clock:
    """Open sources by one clock and return it: `clock`, else a server's own, else the machine's. They are the caller's
    to close."""
    for source in sources:
        found = await source.find_clock()
        clock = clock or found
    clock = clock or SystemClock()
    context = SourceContext(clock, cache_dir, {})
    for source in sources:
        await source.open(context)
    return clock
