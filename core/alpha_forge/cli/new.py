"""`alpha_forge plugins new`: a pack to begin with, from the template of its kind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from alpha_forge.cli.common import KindType, format_option, json_out

if TYPE_CHECKING:
    from alpha_forge_sdk.scaffold import NewPack


@click.command("new")
@click.argument("kind", type=KindType())
@click.argument("name")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("."),
    metavar="DIR",
    help="Folder in which the pack's own folder is made. Default: here.",
)
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    help="description, author, distribution, package; of a sink also style=sync|async, form=batch|single, "
    "destination=local|network. Repeatable.",
)
@format_option()
def new(kind: str, name: str, output: Path, options: tuple[str, ...], form: str) -> None:
    """Make a new pack with a working plugin NAME of KIND: data, transform, feature, model or sink.

    With entry point, conformance case, tests, lint, types and continuous integration. Overwrites nothing.
    """
    from alpha_forge_sdk.scaffold import new_pack

    made = new_pack(kind, name, output, _parsed(options))
    if form == "json":
        json_out({**asdict(made), "folder": str(made.folder)})
    else:
        click.echo(_as_text(made))


def _parsed(options: Iterable[str]) -> dict[str, str]:
    parsed = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or not key:
            raise click.UsageError(f"--option takes KEY=VALUE, for example style=async; got '{option}'")
        parsed[key] = value
    return parsed


def _as_text(made: NewPack) -> str:
    lines = [f"{made.folder}  (plugin {made.plugin}, distribution {made.distribution})"]
    lines += [f"  {file}" for file in made.files]
    lines += [
        "",
        f"next: cd {made.folder} && pip install -e '.[dev]' && pytest",
        f"      alpha_forge plugins validate {made.plugin}",
    ]
    return "\n".join(lines)
