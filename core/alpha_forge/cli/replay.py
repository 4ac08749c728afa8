"""``alpha_forge replay``: the same graph over history."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alpha_forge.cli.common import config_argument, format_option, json_out, set_option
from alpha_forge.cli.instants import InstantType
from alpha_forge.cli.running import cache_option, loaded, sandbox_options
from alpha_forge.contracts.interval import iso

if TYPE_CHECKING:
    from alpha_forge.plan.compiler import Compiled
    from alpha_forge.runtime.replay.outputs import Output
    from alpha_forge.runtime.replay.replayer import ReplayReport


@click.command("replay")
@config_argument
@click.option(
    "--start",
    type=InstantType(),
    required=True,
    help="First close is after it: 2026-01-05, or 2026-01-05T13:00:00Z. UTC.",
)
@click.option(
    "--end", type=InstantType(), help="Last close is at or before it. Default: the last closed bar."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write to this .parquet or .csv file instead of the configuration's sinks.",
)
@click.option(
    "--features",
    is_flag=True,
    help="Compute features only, no model, and write all of them, a bar a row. Needs --out, or --digest.",
)
@click.option("--digest", is_flag=True, help="Write nowhere; print the digests of what was computed.")
@click.option("--bar-by-bar", is_flag=True, help="Have the engine that streams do it, whole arrays never.")
@set_option
@sandbox_options
@cache_option
@format_option()
@click.option("--quiet", is_flag=True, help="Log warnings and errors only, and draw no progress bar.")
def replay(
    config: Path,
    start: int,
    end: int | None,
    out: Path | None,
    features: bool,
    digest: bool,
    bar_by_bar: bool,
    overrides: tuple[str, ...],
    sandbox: bool,
    speed: float,
    data: str | None,
    seed: int,
    cache: Path,
    form: str,
    quiet: bool,
) -> None:
    """Run CONFIG over the history between two instants: the same plugins, the same graph, the same bits.

    Predictions go to the configuration's sinks, or to --out. Where the graph allows it whole arrays are computed at
    once; the values are those that the stream computes bar by bar.
    """
    import asyncio

    from alpha_forge.cli.logs import set_up
    from alpha_forge.cli.progress import shown_progress
    from alpha_forge.runtime.replay.outputs import column_pairs, table_path
    from alpha_forge.runtime.replay.replayer import Replayer

    if out is not None:
        table_path(out)
    if features and out is None and not digest:
        raise click.UsageError("--features needs --out FILE, or --digest: sinks take predictions only")
    if end is not None and end <= start:
        raise click.UsageError(f"--start {iso(start)} is not before --end {iso(end)}")
    set_up("text", quiet=quiet)
    where = {"sandbox": sandbox, "speed": speed, "data": data, "seed": seed}
    with (
        loaded(config, overrides, training=features, **where) as compiled,  # type: ignore[arg-type]
        shown_progress(quiet=quiet, rate="bars/s") as progress,
    ):
        replayer = Replayer(
            compiled.dag,
            start,
            end,
            column_pairs(compiled.dag, features=features),
            scheduled=not features,
            bar_by_bar=bar_by_bar,
            cache_dir=cache,
            progress=progress,
        )
        report = asyncio.run(replayer.run(_output(compiled, out, features=features, digest=digest)))
    if form == "json":
        json_out(_as_json(report))
    else:
        click.echo(_as_text(report, out))


def _output(compiled: Compiled, out: Path | None, *, features: bool, digest: bool) -> Output:
    from alpha_forge.plan.compiler import preflight
    from alpha_forge.runtime.emitter import create_emitter_from_dsl
    from alpha_forge.runtime.replay.outputs import Nowhere, SinkOutput, TableFile, column_pairs

    if digest and out is None:
        return Nowhere()
    if out is not None:
        frames = {frame for frame, _ in column_pairs(compiled.dag, features=features)}
        return TableFile(out, compiled.dag, wide=features, frames=len(frames))
    preflight(compiled)
    return SinkOutput(compiled.dag, create_emitter_from_dsl(compiled.document, compiled.dag))


def _as_json(report: ReplayReport) -> dict[str, Any]:
    from alpha_forge.runtime.replay.outputs import as_mapping

    return {
        "start": iso(report.start),
        "end": iso(report.end),
        "evaluation": report.evaluation,
        "reason": report.reason,
        "bars": report.bars,
        "warmup_bars": report.warmup_bars,
        "absent": report.absent,
        "records": report.records,
        "not_ready": report.not_ready,
        "seconds": report.seconds,
        "compute_seconds": report.compute_seconds,
        "sha256": report.digest.total(),
        "columns": as_mapping(report.digest),
    }


def _as_text(report: ReplayReport, out: Path | None) -> str:
    how = report.evaluation + (f" ({report.reason})" if report.reason else "")
    absent = ", ".join(f"{count} absent in {name}" for name, count in report.absent.items() if count)
    lines = [
        f"{iso(report.start)} to {iso(report.end)}, {how}: {report.bars} bars"
        f" ({report.warmup_bars} to warm up{', ' + absent if absent else ''})",
        f"{report.records} values, {report.not_ready} not ready, in {report.seconds:.1f} s"
        f" ({report.compute_seconds:.1f} s computing and writing)",
        f"sha256 {report.digest.total()}",
    ]
    if out is not None:
        lines.append(f"written to {out}")
    return "\n".join(lines)
