"""Opening a graph's data sources by one clock, and closing them on every path."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
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
        for source in made.values():
            found = await source.find_clock()
            clock = clock or found
        clock = clock or SystemClock()
        context = SourceContext(clock, cache_dir, {})
        for source in made.values():
            await source.open(context)
        yield made, clock
    finally:
        for source in made.values():
            await source.close()
