"""``alpha_forge plan``: the compiled graph."""

from __future__ import annotations

from pathlib import Path

import click

from alpha_forge.cli.common import config_argument, format_option, json_out, set_option


@click.command("plan")
@config_argument
@set_option
@format_option()
@click.option("--training", is_flag=True, help="Plan as 'train' does: no checkpoint is needed.")
def plan(config: Path, overrides: tuple[str, ...], form: str, training: bool) -> None:
    """Show the graph of CONFIG: frames, flows, and for each path the warm-up it needs and why."""
    from alpha_forge.plan.compiler import load
    from alpha_forge.plan.render import as_json, as_text

    dag = load(config, overrides, training=training).dag
    if form == "json":
        json_out(as_json(dag))
    else:
        click.echo(as_text(dag))
