"""``alpha_forge check``: everything that can be known without connecting."""

from __future__ import annotations

from pathlib import Path

import click

from alpha_forge.cli.common import config_argument, format_option, json_out, set_option, uncollected


@click.command("check")
@config_argument
@set_option
@format_option()
def check(config: Path, overrides: tuple[str, ...], form: str) -> None:
    """Check CONFIG: syntax, plugins, parameters, columns, warm-up, checkpoints, destinations; all errors at once."""
    with uncollected():
        from alpha_forge.plan.compiler import load, preflight

        compiled = load(config, overrides)
        preflight(compiled)
    dag = compiled.dag
    if form == "json":
        json_out({"errors": [], "name": dag.name, "steps": len(dag.nodes), "sinks": len(dag.sinks)})
    else:
        click.echo(
            f"{config}: {dag.name} holds: {len(dag.nodes)} steps on {len(dag.frames)} frame(s), "
            f"{len(dag.sinks)} sink(s), warm-up of "
            + ", ".join(f"{w.need} bars of {dag.frames[w.frame].interval}" for w in dag.warmup.values())
        )
