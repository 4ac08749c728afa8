"""``alpha_forge train``: make the checkpoint that the model step names."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alpha_forge.cli.common import config_argument, format_option, json_out, set_option
from alpha_forge.cli.running import cache_option, faults_option, loaded, sandbox_options

if TYPE_CHECKING:
    from alpha_forge.runtime.training import TrainingReport


@click.command("train")
@config_argument
@set_option
@sandbox_options
@faults_option
@cache_option
@format_option()
@click.option("--quiet", is_flag=True, help="Log warnings and errors only, and draw no progress bar.")
def train(
    config: Path,
    overrides: tuple[str, ...],
    sandbox: bool,
    speed: float,
    data: str | None,
    seed: int,
    faults: Path | None,
    cache: Path,
    form: str,
    quiet: bool,
) -> None:
    """Train the model step of CONFIG on history, and write its checkpoint.

    The same data step and the same graph as 'signal'; samples are split in time with a gap, and the validation
    loss is shown beside that of always predicting the training mean.
    """
    import asyncio

    from alpha_forge.cli.logs import set_up
    from alpha_forge.cli.progress import shown_progress
    from alpha_forge.runtime.training import Trainer

    set_up("text", quiet=quiet)
    where = {"sandbox": sandbox, "speed": speed, "data": data, "seed": seed, "faults": faults}
    with (
        loaded(config, overrides, training=True, **where) as compiled,  # type: ignore[arg-type]
        shown_progress(quiet=quiet) as progress,
    ):
        trainer = Trainer(compiled.document, compiled.dag, cache_dir=cache, progress=progress)
        report = asyncio.run(trainer.run())
    if form == "json":
        json_out(_as_json(report))
    else:
        click.echo(_as_text(report, trainer.node.params))


def _as_json(report: TrainingReport) -> dict[str, Any]:
    values = asdict(report)
    values["result"] = {k: (v if v == v else None) for k, v in values["result"].items()}  # NaN is no JSON
    return values


def _as_text(report: TrainingReport, params: Any) -> str:
    r = report.result
    where = "/".join(
        str(getattr(params, key)) for key in ("checkpoint_dir", "model_ref") if hasattr(params, key)
    )
    return "\n".join(
        (
            f"trained on {r.train_samples} samples of {len(report.symbols)} symbol(s), {len(report.columns)} columns "
            f"({report.training_range[0]} … {report.training_range[1]})",
            f"validated on {r.validation_samples} samples "
            f"({report.validation_range[0]} … {report.validation_range[1]})",
            f"epoch {r.best_epoch} of {r.epochs} kept",
            f"validation loss {r.validation_mse:.6g}, naive baseline (training mean) {r.naive_mse:.6g}, "
            f"ratio {r.validation_mse / r.naive_mse:.4f}",
            f"information coefficient {r.information_coefficient:.4f}",
            f"checkpoint {where}.json and .safetensors",
        )
    )
