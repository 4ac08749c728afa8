"""``alpha_forge outbox``: what waits for the sinks of a configuration, and its dead letters."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from alpha_forge.cli.common import config_argument, format_option, json_out, plain_table, set_option
from alpha_forge.cli.running import state_directory, state_option

if TYPE_CHECKING:
    from alpha_forge.dsl import Document
    from alpha_forge.runtime.delivery.admin import OutboxAdmin, Record, SinkState
    from alpha_forge.runtime.state import StateDirectory

F = TypeVar("F", bound=Callable[..., Any])


@click.group("outbox")
def outbox() -> None:
    """See and mend the delivery log of a configuration, also while a run delivers from it."""


def _common(function: F) -> F:
    """CONFIG, ``--set``, ``--state`` and ``--format``."""
    for option in (format_option(), state_option, set_option, config_argument):
        function = option(function)
    return function


sink_option = click.option("--sink", metavar="NAME", help="Only this sink.")


@outbox.command("list")
@_common
@sink_option
def list_(config: Path, overrides: tuple[str, ...], state: Path | None, form: str, sink: str | None) -> None:
    """Each sink of CONFIG: how far it is, what waits for it, its dead letters, and how it fares."""
    document, directory = _read(config, overrides, state)
    with _admin(directory) as admin:
        if sink is not None:
            admin.require(sink)
        found = [s for s in admin.sinks() if sink in (None, s.name)]
        conflicts = admin.conflict_count()
        listed = [_as_json(s, document) for s in found]
        if form == "json":
            json_out(
                {
                    "log": str(admin.path),
                    "running": directory.holder(),
                    "conflicts": conflicts,
                    "sinks": listed,
                }
            )
            return
        head = ("SINK", "COLUMN", "DELIVERED", "WAITING", "SINCE", "DEAD", "DROPPED", "STATE")
        rows = [
            (s.name, f"{s.frame}.{s.column}", str(s.delivered), str(s.backlog), _iso(s.oldest), str(s.dead_letters),
             str(s.dropped), _state(s, entry))
            for s, entry in zip(found, listed, strict=True)
        ]  # fmt: skip
        plain_table(head, rows)
        for s in found:
            if s.last_error and s.circuit != "closed":
                click.echo(f"{s.name}: {s.last_error}")
        if conflicts:
            click.echo(
                f"{conflicts} record(s) came again with another value and were kept out; see outbox show"
            )


@outbox.command("show")
@_common
@sink_option
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Records of each sort."
)
def show(
    config: Path, overrides: tuple[str, ...], state: Path | None, form: str, sink: str | None, limit: int
) -> None:
    """Records that wait, dead letters with their reasons, and records that contradicted the log; oldest first."""
    _, directory = _read(config, overrides, state)
    with _admin(directory) as admin:
        names = _chosen(admin, sink)
        dead = [r for name in names for r in admin.dead_letters(name, limit)]
        waiting = [r for name in names for r in admin.waiting(name, limit)]
        conflicts = admin.conflicts(limit) if sink is None else []
    if form == "json":
        json_out(
            {
                "dead_letters": [_record_json(r) for r in dead],
                "waiting": [_record_json(r) for r in waiting],
                "conflicts": [
                    {**asdict(c), "ts": _iso(c.ts), "at": _iso(c.at), "kept": _number(c.kept),
                     "refused": _number(c.refused)}
                    for c in conflicts
                ],
            }
        )  # fmt: skip
        return
    _section("dead letters", ("SINK", "SYMBOL", "TS", "VALUE", "SAID AT", "REASON"),
             [(r.sink, r.symbol, _iso(r.ts), repr(r.value), _iso(r.at), _reason(r)) for r in dead])  # fmt: skip
    _section("waiting", ("SINK", "SYMBOL", "TS", "VALUE"),
             [(r.sink, r.symbol, _iso(r.ts), repr(r.value)) for r in waiting])  # fmt: skip
    _section("came again with another value", ("COLUMN", "SYMBOL", "TS", "STAYS", "REFUSED"),
             [(c.column, c.symbol, _iso(c.ts), repr(c.kept), repr(c.refused)) for c in conflicts])  # fmt: skip
    if not dead and not waiting and not conflicts:
        click.echo("nothing waits, and there are no dead letters")


@outbox.command("retry")
@_common
@sink_option
def retry(config: Path, overrides: tuple[str, ...], state: Path | None, form: str, sink: str | None) -> None:
    """Put dead letters back, in their order and before what waits: a running process delivers them at once, else the
    next start does."""
    _, directory = _read(config, overrides, state)
    with _admin(directory) as admin:
        moved = {name: admin.retry(name) for name in _chosen(admin, sink)}
    _tell(form, {"requeued": moved}, "dead letter(s) go to {} again", moved)


@outbox.command("drop")
@_common
@sink_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def drop(
    config: Path, overrides: tuple[str, ...], state: Path | None, form: str, sink: str | None, yes: bool
) -> None:
    """Remove dead letters for good; with --sink and a sink that CONFIG no longer has, its place in the log too."""
    from alpha_forge.contracts.errors import UsageError

    document, directory = _read(config, overrides, state)
    with _admin(directory) as admin:
        names = _chosen(admin, sink)
        of_config = {s.name for s in document.signal.sinks}
        forgotten = [s for s in admin.sinks() if s.name == sink and s.name not in of_config]
        holder = directory.holder()
        if forgotten and forgotten[0].live and holder is not None:
            raise UsageError(
                "AF6049", f"{holder}, delivers to '{sink}'", "end that run first: it began with this sink"
            )
        what = f"the dead letters of {', '.join(names)}" + (" and its place in the log" if forgotten else "")
        if not yes:
            click.confirm(f"Remove {what}?", abort=True, err=True)
        gone = {n: admin.drop_sink(n) if forgotten else admin.drop_dead_letters(n) for n in names}
    _tell(form, {"dropped": gone}, "dead letter(s) of {} removed", gone)


@outbox.command("recover")
@_common
def recover(config: Path, overrides: tuple[str, ...], state: Path | None, form: str) -> None:
    """Make a new log of what can be read of a damaged one, which is kept beside it. No run may go on meanwhile."""
    from alpha_forge.runtime.delivery.outbox import OUTBOX
    from alpha_forge.runtime.delivery.recover import recover as take_over

    _, directory = _read(config, overrides, state)
    with directory:
        done = take_over(directory.path(OUTBOX))
    if form == "json":
        json_out({**asdict(done), "aside": str(done.aside)})
        return
    click.echo(
        f"{done.records} record(s), {done.sinks} sink(s) and {done.dead_letters} dead letter(s) taken over; "
        f"{done.missing} record(s) could not be read. The damaged file is kept as {done.aside}"
    )
    click.echo(
        "A sink whose place could not be read starts at the log's beginning: it may get records again."
    )


def _read(config: Path, overrides: tuple[str, ...], state: Path | None) -> tuple[Document, StateDirectory]:
    """The configuration as it is written, no plugin imported, and where its log is."""
    from alpha_forge.dsl import parse_file
    from alpha_forge.runtime.state import StateDirectory

    document, diagnostics = parse_file(config, overrides)
    diagnostics.raise_if_any()
    assert document is not None
    directory = state_directory(state)
    assert directory is not None
    return document, StateDirectory(directory, document.name)


def _admin(directory: StateDirectory) -> OutboxAdmin:
    from alpha_forge.runtime.delivery.admin import OutboxAdmin
    from alpha_forge.runtime.delivery.outbox import OUTBOX

    return OutboxAdmin(directory.path(OUTBOX))


def _chosen(admin: OutboxAdmin, sink: str | None) -> list[str]:
    if sink is None:
        return [s.name for s in admin.sinks()]
    admin.require(sink)
    return [sink]


def _as_json(s: SinkState, document: Document) -> dict[str, Any]:
    configured = s.name in {c.name for c in document.signal.sinks}
    return {**asdict(s), "oldest": _iso(s.oldest) or None, "configured": configured}


def _state(s: SinkState, entry: dict[str, Any]) -> str:
    words = ["ok" if s.circuit == "closed" else f"circuit {s.circuit}"]
    words += ["may duplicate"] if s.may_duplicate else []
    words += [] if entry["configured"] else ["removed"]
    words += [f"{s.requeued} requeued"] if s.requeued else []
    return ", ".join(words)


def _record_json(r: Record) -> dict[str, Any]:
    return {**asdict(r), "ts": _iso(r.ts), "at": _iso(r.at) or None, "value": _number(r.value)}


def _number(value: float) -> float | str:
    """A float for JSON, which has no words for those that are not finite."""
    return value if math.isfinite(value) else repr(value)


def _reason(r: Record) -> str:
    return f"{r.reason} (goes to the sink again)" if r.requeued else str(r.reason)


def _iso(ts: int | None) -> str:
    from alpha_forge.contracts.interval import iso

    return "" if ts is None else iso(ts)


def _tell(form: str, as_json: dict[str, Any], text: str, counts: dict[str, int]) -> None:
    if form == "json":
        json_out(as_json)
        return
    for name, count in counts.items():
        click.echo(f"{count} {text.format(name)}")


def _section(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if rows:
        click.echo(f"{title}:")
        plain_table(head, rows)
