"""``alpha_forge signal``: run a configuration."""

from __future__ import annotations

import signal as signals
from pathlib import Path
from typing import TYPE_CHECKING

import click

from alpha_forge.cli.common import INTERRUPTED, config_argument, set_option
from alpha_forge.cli.running import (
    cache_option,
    faults_option,
    loaded,
    recording,
    sandbox_options,
    state_directory,
    state_option,
)
from alpha_forge.runtime.interrupts import Interrupts

if TYPE_CHECKING:
    from alpha_forge.runtime.runner import RunSummary


@click.command("signal")
@config_argument
@set_option
@sandbox_options
@faults_option
@cache_option
@state_option
@click.option("--bars", type=click.IntRange(min=1), help="Stop after this many closed bars of each symbol.")
@click.option(
    "--log-format",
    type=click.Choice(("text", "json")),
    default="text",
    show_default=True,
    help="Form of the log lines on standard error.",
)
@click.option(
    "--record",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Journal every bar and prediction to this file, for 'alpha_forge verify'.",
)
@click.option("--quiet", is_flag=True, help="Log warnings and errors only, and draw no progress bar.")
def signal(
    config: Path,
    overrides: tuple[str, ...],
    sandbox: bool,
    speed: float,
    data: str | None,
    seed: int,
    faults: Path | None,
    cache: Path,
    state: Path | None,
    bars: int | None,
    log_format: str,
    record: Path | None,
    quiet: bool,
) -> int:
    """Run CONFIG: warm up without a gap, then predict each bar as it closes and deliver it to every sink.

    Ctrl-C or SIGTERM ends it cleanly: sources stop, sinks take what is left, and are closed.
    """
    with Interrupts() as interrupts:
        from alpha_forge.cli.logs import set_up
        from alpha_forge.cli.progress import shown_progress
        from alpha_forge.plan.compiler import preflight
        from alpha_forge.runtime.event_loop import EventLoopManager
        from alpha_forge.runtime.runner import RealTimeRunner

        set_up(log_format, quiet=quiet)
        where = {"sandbox": sandbox, "speed": speed, "data": data, "seed": seed, "faults": faults}
        with loaded(config, overrides, **where) as compiled:  # type: ignore[arg-type]
            preflight(compiled)
            with (
                shown_progress(quiet=quiet or log_format == "json") as progress,
                recording(record, compiled, config, overrides) as journal,
            ):
                runner = RealTimeRunner(
                    compiled.document,
                    compiled.dag,
                    bars=bars,
                    cache_dir=cache,
                    state_dir=state_directory(state, sandbox=sandbox),
                    progress=progress,
                    journal=journal,
                )
                manager = EventLoopManager(runner, interrupts)
                summary = manager.run()
    _sum_up(summary)
    return INTERRUPTED if manager.interrupted_by == signals.SIGINT else 0


def _sum_up(summary: RunSummary) -> None:
    """What the run did, in a line; and in further ones what somebody should look at."""
    delivered = ", ".join(f"{count} to {name}" for name, count in summary.delivered.items())
    click.echo(
        f"{summary.bars} bars, {summary.emitted} predictions, {summary.not_ready} not ready, "
        f"{summary.repaired} bars repaired, {summary.absent} absent; delivered {delivered}"
    )
    if summary.caught_up:
        click.echo(f"{summary.caught_up} of the predictions are of bars that closed before this start")
    for name, sink in summary.delivery.sinks.items():
        notes = [
            f"{sink.dropped} record(s) dropped" if sink.dropped else "",
            "may hold records twice" if sink.may_duplicate else "",
        ]
        if any(notes):
            click.echo(f"{name}: {', '.join(filter(None, notes))}")
    if summary.delivery.conflicts:
        click.echo(f"{summary.delivery.conflicts} record(s) came again with another value and were kept out")
