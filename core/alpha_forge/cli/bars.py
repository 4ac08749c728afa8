"""``alpha_forge bars``: what is known about the bars that a run has processed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alpha_forge.cli.common import format_option, json_out

if TYPE_CHECKING:
    from alpha_forge.runtime.ledger.check import Findings

SHOWN = 10
"""Symbols, holes and problems that the text names; ``--format json`` has them all."""


@click.group("bars")
def bars() -> None:
    """The bars that a run has processed: where they came from, and that none is missing."""


@bars.command("certificate")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--ledger",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the run's ledger; default: NAME.bars beside FILE, if it is there.",
)
@format_option()
def certificate(file: Path, ledger: Path | None, form: str) -> int:
    """Print and check FILE, the gap-free certificate that 'signal' writes.

    Its digest, its arithmetic (runs and holes tile each symbol's range on the grid), and the ledger: every content hash
    through the rolling digests. Exit code 0 if all holds, 1 if not, 2 if FILE is no certificate.
    """
    from alpha_forge.contracts.errors import UsageError
    from alpha_forge.runtime.ledger.certificate import read
    from alpha_forge.runtime.ledger.check import check

    if ledger is not None and not ledger.is_dir():
        raise UsageError(
            "AF5063", f"there is no ledger {ledger}", "name the NAME.bars in a run's state directory"
        )
    content = read(file)
    findings = check(content, ledger or _beside(file))
    if form == "json":
        said = {"holds": findings.holds, "problems": findings.problems, "notes": findings.notes}
        json_out({**said, "certificate": content})
    else:
        for line in _text(content, findings):
            click.echo(line)
    return 0 if findings.holds else 1


def _beside(file: Path) -> Path | None:
    folder = file.with_name(file.name.removesuffix(".certificate.json") + ".bars")
    return folder if folder.is_dir() else None


def _text(content: Mapping[str, Any], findings: Findings) -> Iterator[str]:
    try:
        yield from _summary(content)
    except (KeyError, TypeError, ValueError, AttributeError):
        yield "(it is not complete; the problems say more)"
    yield from _few(findings.problems, "problem: {}")
    yield from _few(findings.notes, "note: {}")
    yield "holds" if findings.holds else "does not hold"


def _summary(content: Mapping[str, Any]) -> Iterator[str]:
    yield f"{content['name']}, certified {content['created']} ({content['reason']})"
    for name, frame in content["frames"].items():
        yield f"{name}: {frame['interval']} bars of {frame['source']}, {len(frame['symbols'])} symbol(s)"
        yield from _few([_symbol(s, section) for s, section in frame["symbols"].items()], "  {}")
        holes = [
            f"{symbol} {hole['from']} … {hole['to']}, {hole['bars']} bar(s): {hole['reason']} ({hole['proven_by']})"
            for symbol, section in frame["symbols"].items()
            for hole in section["holes"]
        ]
        yield from _few(holes, "  hole: {}")
    t = content["totals"]
    yield (
        f"{t['bars']} of {t['expected']} bars, {t['holes']} in holes, {t['open']} still missing, "
        f"{t['revisions']} revision(s)"
    )


def _symbol(name: str, section: Mapping[str, Any]) -> str:
    counts: dict[str, int] = {}
    for run in section["runs"]:
        counts[run["origin"]] = counts.get(run["origin"], 0) + run["bars"]
    origins = ", ".join(f"{count} {origin}" for origin, count in counts.items()) or "none"
    return f"{name}: {section['first']} … {section['last']}, {section['bars']} bars: {origins}"


def _few(lines: list[str], form: str) -> Iterator[str]:
    for line in lines[:SHOWN]:
        yield form.format(line)
    if len(lines) > SHOWN:
        yield form.format(f"… and {len(lines) - SHOWN} more (--format json has them all)")
