"""``alpha_forge plan``: the compiled graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from alpha_forge.cli.common import config_argument, format_option, json_out, set_option
from alpha_forge.cli.running import cache_option

if TYPE_CHECKING:
    from alpha_forge.plan.graph import EventFlowDAG


@click.command("plan")
@config_argument
@set_option
@format_option()
@click.option("--training", is_flag=True, help="Plan as 'train' does: no checkpoint is needed.")
@cache_option
def plan(config: Path, overrides: tuple[str, ...], form: str, training: bool, cache: Path) -> None:
    """Show the graph of CONFIG: frames, flows, for each path the warm-up it needs and why, and how it would be
    fetched now. Nothing connects."""
    from alpha_forge.plan.compiler import load
    from alpha_forge.plan.render import as_json, as_text

    dag = load(config, overrides, training=training).dag
    histories = _histories(dag, cache)
    if form == "json":
        json_out(as_json(dag, histories))
    else:
        click.echo(as_text(dag, histories))


def _histories(dag: EventFlowDAG, cache: Path) -> dict[str, Sequence[str]]:
    """Each data frame's own account of how its source would fetch the warm-up that ends now."""
    from alpha_forge.contracts.clock import SystemClock

    now = SystemClock().now()
    lines: dict[str, Sequence[str]] = {}
    for node in dag.data_nodes():
        interval = dag.frames[node.frame].interval
        end = interval.floor(now)
        start = end - dag.warmup[node.frame].fetch * interval.ns
        lines[node.frame] = dag.make(node).explain_history(start, end, now, cache)
    return lines
