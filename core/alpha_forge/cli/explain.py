"""``alpha_forge explain``: the values of every node that led to one prediction."""

from __future__ import annotations

from pathlib import Path

import click

from alpha_forge.cli.common import config_argument, format_option, json_out, set_option
from alpha_forge.cli.instants import InstantType
from alpha_forge.cli.running import cache_option, loaded, sandbox_options


@click.command("explain")
@config_argument
@click.option("--symbol", required=True, help="Of the universe.")
@click.option("--ts", type=InstantType(), required=True, help="The bar's close: 2026-01-05T13:00:00Z. UTC.")
@click.option(
    "--last", type=click.IntRange(min=1), default=3, show_default=True, help="Values shown of each input."
)
@set_option
@sandbox_options
@cache_option
@format_option()
def explain(
    config: Path,
    symbol: str,
    ts: int,
    last: int,
    overrides: tuple[str, ...],
    sandbox: bool,
    speed: float,
    data: str | None,
    seed: int,
    cache: Path,
    form: str,
) -> int:
    """Show the values of every node that led to one prediction of CONFIG, from the bars to the model.

    The bars come from history, so this is what the run saw, or what a run that is to come would have seen. Exit code 1
    says that there is no prediction at that bar, and the output why.
    """
    import asyncio

    from alpha_forge.cli.logs import set_up
    from alpha_forge.runtime.explain import Explainer, as_json, as_text

    set_up("text", quiet=True)
    where = {"sandbox": sandbox, "speed": speed, "data": data, "seed": seed}
    with loaded(config, overrides, **where) as compiled:  # type: ignore[arg-type]
        found = asyncio.run(Explainer(compiled.dag, symbol, ts).run(cache))
    if form == "json":
        json_out({"explanations": [as_json(e) for e in found]})
    else:
        click.echo("\n\n".join(as_text(e, last) for e in found))
    return 0 if all(e.value is not None for e in found) else 1
