"""``alpha_forge verify``: proof that what ran is what a replay computes."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alpha_forge.cli.common import format_option, json_out, set_option
from alpha_forge.contracts.errors import UsageError

if TYPE_CHECKING:
    from alpha_forge.cli.hostile_runs import HostileRun
    from alpha_forge.runtime.verify.findings import Verdict

DIFFERS = 1


@click.command("verify")
@click.argument("target", metavar="CONFIG|RUN", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Of a RUN: its configuration, if it is not where it was.",
)
@click.option(
    "--other-versions",
    is_flag=True,
    help="Of a RUN: go on where plan, plugins or libraries are not those that it was recorded with.",
)
@click.option(
    "--runs", type=click.IntRange(min=1), default=5, show_default=True, help="Of a CONFIG: how many runs."
)
@click.option(
    "--bars", type=click.IntRange(min=1), default=24, show_default=True, help="Of a CONFIG: bars a run."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of a CONFIG: the first run's seed.")
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    default=36000.0,
    show_default=True,
    help="Of a CONFIG: exchange seconds in a real second.",
)
@set_option
@format_option()
@click.option("--quiet", is_flag=True, help="Log no errors either.")
def verify(
    target: Path,
    config: Path | None,
    other_versions: bool,
    runs: int,
    bars: int,
    seed: int,
    speed: float,
    overrides: tuple[str, ...],
    form: str,
    quiet: bool,
) -> int:
    """Prove that a run is what its bars make it, bit for bit, or say where it is not.

    A RUN is what 'signal --record' wrote: it is computed again in the order in which its bars came, in the order of
    their closes, and from later starts, and the sinks are read back. A CONFIG is run against the local exchange with
    faults of all kinds, seed by seed, and each run is verified; its sinks receive nothing.
    """
    from alpha_forge.cli.logs import set_up
    from alpha_forge.runtime.recording.reader import is_recording

    # Faults are what the runs are for; each would be a warning.
    set_up("text", least=logging.CRITICAL if quiet else logging.ERROR)
    if is_recording(target):
        return _verify_recording(target, config, overrides, form, other_versions=other_versions)
    return _verify_config(target, overrides, form, runs=runs, bars=bars, seed=seed, speed=speed)


def _verify_recording(
    path: Path, config: Path | None, overrides: tuple[str, ...], form: str, *, other_versions: bool
) -> int:
    from alpha_forge.plan.compiler import load
    from alpha_forge.registry import discover
    from alpha_forge.runtime.recording.identity import differences, identity
    from alpha_forge.runtime.recording.reader import read
    from alpha_forge.runtime.verify.delivered import check_sink, reader_of
    from alpha_forge.runtime.verify.recorded import verify_segment

    verdicts: dict[str, Verdict] = {}
    for segment in read(path):
        source = config or Path(segment.head["config"])
        _check_overrides(segment.head, overrides)
        compiled = load(source, overrides)
        catalogue = discover(capabilities=compiled.document.capabilities)
        changed = differences(segment.head, identity(compiled.dag, catalogue, source, overrides))
        if changed and not other_versions:
            raise UsageError(
                "AF8114",
                f"{segment.path} was recorded with something else than what is here: {'; '.join(changed)}",
                "install what it was recorded with, or see with --other-versions whether it makes a difference",
            )
        verdict = verdicts[segment.path.name] = verify_segment(compiled.dag, segment)
        verdict.notes += [f"not as recorded: {line}" for line in changed]
        for spec in compiled.dag.sinks:
            check_sink(compiled.dag, spec, segment.predicted(), reader_of(spec, catalogue), verdict)
    holds = all(v.holds for v in verdicts.values())
    if form == "json":
        json_out({"holds": holds, "segments": [{"name": n, **_json(v)} for n, v in verdicts.items()]})
    else:
        for name, verdict in verdicts.items():
            click.echo("\n".join(_lines(name, verdict)))
    return 0 if holds else DIFFERS


def _check_overrides(head: dict[str, Any], overrides: tuple[str, ...]) -> None:
    recorded, given = head["overrides"], [text.partition("=")[0] for text in overrides]
    if sorted(recorded) != sorted(given) and recorded:
        lacking = [key for key in recorded if key not in given]
        if lacking:
            raise UsageError(
                "AF8115",
                f"the run was started with --set {', '.join(lacking)}, whose values a recording does not keep",
                "give the same --set options",
            )


def _verify_config(
    config: Path,
    overrides: tuple[str, ...],
    form: str,
    *,
    runs: int,
    bars: int,
    seed: int,
    speed: float,
) -> int:
    from alpha_forge.cli.hostile_runs import hostile_run

    done: list[HostileRun] = []
    for number in range(seed, seed + runs):
        with tempfile.TemporaryDirectory(prefix="alpha_forge_verify_") as folder:
            run = hostile_run(config, overrides, seed=number, bars=bars, speed=speed, folder=Path(folder))
        done.append(run)
        if form == "text":
            click.echo(_run_line(run))
            for finding in run.verdict.findings:
                click.echo(f"  {finding.text()}")
    failed = [run.seed for run in done if not run.holds]
    if form == "json":
        json_out({"holds": not failed, "runs": [_run_json(run) for run in done]})
    else:
        again = f"; again with --seed {failed[0]} --runs 1 --bars {bars}" if failed else ""
        click.echo(f"{len(done) - len(failed)} of {len(done)} runs hold{again}")
    return DIFFERS if failed else 0


def _run_line(run: HostileRun) -> str:
    faults = ", ".join(f"{count} {kind}" for kind, count in sorted(run.faults.items())) or "no fault came up"
    state = "holds" if run.holds else "DOES NOT HOLD"
    text = f"seed {run.seed}: {state}: {run.verdict.predictions} predictions of {run.verdict.bars} bars; {faults}"
    return f"{text}\n  {run.error}" if run.error else text


def _lines(name: str, verdict: Verdict) -> list[str]:
    state = "holds" if verdict.holds else "DOES NOT HOLD"
    return [
        f"{name}: {state}: {verdict.predictions} predictions of {verdict.bars} bars",
        *(f"  compared: {check}" for check in verdict.checks),
        *(f"  note: {note}" for note in verdict.notes),
        *(f"  {finding.text()}" for finding in verdict.findings),
    ]


def _json(verdict: Verdict) -> dict[str, Any]:
    return {
        "holds": verdict.holds,
        "predictions": verdict.predictions,
        "bars": verdict.bars,
        "checks": verdict.checks,
        "notes": verdict.notes,
        "findings": [finding.as_json() for finding in verdict.findings],
    }


def _run_json(run: HostileRun) -> dict[str, Any]:
    return {"seed": run.seed, "error": run.error, "faults": dict(run.faults), **_json(run.verdict)}
