"""`alpha_forge plugins validate`: the conformance kit on what is installed, and on itself."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from alpha_forge.cli.common import format_option, json_out
from alpha_forge.contracts.errors import MissingExtraError, did_you_mean

if TYPE_CHECKING:
    from alpha_forge_sdk.conformance.selftest import SelfTest

DEADLINE = 30.0
_STORAGE = "HYPOTHESIS_STORAGE_DIRECTORY"


@click.command("validate")
@click.argument("names", metavar="[NAME|PACK]…", nargs=-1)
@click.option(
    "--selftest", "itself", is_flag=True, help="Run the kit on its own zoo of broken plugins instead."
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Plugins checked side by side. More than one disturbs the checks that measure time.",
)
@click.option(
    "--deadline",
    type=click.FloatRange(min=0, min_open=True),
    default=DEADLINE,
    show_default=True,
    metavar="SECONDS",
    help="Longest time that an import may take: after it the pack or plugin is broken.",
)
@format_option("text", "json", "junit")
@click.pass_context
def validate(
    context: click.Context, names: tuple[str, ...], itself: bool, jobs: int, deadline: float, form: str
) -> None:
    """Run the conformance kit on plugins (NAME), all plugins of a PACK, or everything that is installed.

    With --selftest, NAME is a part of the zoo: params, features, transforms, models, sources or sinks.

    Exits 0 if everything passes, 1 if anything fails or can't be judged, 2 for a name that nothing has.
    """
    if importlib.util.find_spec("hypothesis") is None:
        raise MissingExtraError("the conformance kit", "sdk")
    with _no_traces():
        code = _selftest(names, jobs, form) if itself else _validate(names, jobs, deadline, form)
    context.exit(code)


@contextlib.contextmanager
def _no_traces() -> Iterator[None]:
    """Hypothesis keeps what it learns in the current directory; here that is gone with the command. So for children."""
    with tempfile.TemporaryDirectory(prefix="alpha-forge-hypothesis-") as folder:
        os.environ.setdefault(_STORAGE, folder)
        try:
            yield
        finally:
            if os.environ.get(_STORAGE) == folder:
                del os.environ[_STORAGE]


def _validate(names: tuple[str, ...], jobs: int, deadline: float, form: str) -> int:
    from alpha_forge_sdk.conformance import report
    from alpha_forge_sdk.conformance.validate import Limits, validate

    verdicts = validate(names, jobs=jobs, limits=Limits(importing=deadline))
    if form == "json":
        json_out(report.as_json(verdicts))
    else:
        report.write(report.as_junit(verdicts) if form == "junit" else report.as_text(verdicts))
    return int(any(v.verdict != "pass" for v in verdicts))


def _selftest(parts: tuple[str, ...], jobs: int, form: str) -> int:
    from alpha_forge_sdk.conformance import report
    from alpha_forge_sdk.conformance.selftest import selftest
    from alpha_forge_sdk.conformance.zoo import MODULES

    for part in parts:
        if part not in MODULES:
            raise click.UsageError(f"the zoo has no '{part}'; {did_you_mean(part, MODULES)}")
    result: SelfTest = selftest(parts or None, jobs=jobs)
    if form == "json":
        json_out(result.as_json())
    else:
        report.write(report.as_junit(result.as_verdicts()) if form == "junit" else result.as_text())
    return int(bool(result.deviations))
