"""What commands share: options, JSON on stdout, and errors as exit codes."""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from alpha_forge.contracts.errors import AlphaForgeError

FAILED = 3
INTERRUPTED = 130
DEBUG_VARIABLE = "ALPHA_FORGE_DEBUG"

_FORMAT = "alpha_forge.format"

F = TypeVar("F", bound=Callable[..., Any])


def config_argument(function: F) -> F:
    """``CONFIG``, passed as ``config: Path``. Whether it can be read is the parser's to say."""
    return click.argument("config", metavar="CONFIG", type=click.Path(path_type=Path))(function)


def set_option(function: F) -> F:
    """``--set KEY=VALUE``, as often as wanted, passed as ``overrides: tuple[str, ...]``."""
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Replace a value of the configuration, for example --set warmup.lookback_days=20. Repeatable.",
    )(function)


def format_option(*forms: str) -> Callable[[F], F]:
    """``--format text|json`` (or the `forms` given, the first being the default), passed as ``form: str``.

    With ``json``, errors too are JSON on stdout.
    """
    choices = forms or ("text", "json")

    def remember(context: click.Context, parameter: click.Parameter, value: str) -> str:
        context.meta[_FORMAT] = value
        return value

    return click.option(
        "--format",
        "form",
        type=click.Choice(choices),
        default=choices[0],
        show_default=True,
        callback=remember,
        # Before the other options, so that their errors already know it.
        is_eager=True,
        help="Form of the output.",
    )


class KindType(click.ParamType[str]):
    """A kind of plugins: data, transforms, features, models or sinks. The singular works too."""

    name = "kind"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from alpha_forge.contracts.hookspecs import KIND_OF_HOOK

        kinds = list(KIND_OF_HOOK.values())
        text = str(value).lower()
        for kind in kinds:
            if text in (kind, kind.removesuffix("s")):
                return kind
        self.fail(f"'{value}' is no kind of plugin; choose from {', '.join(kinds)}", param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        return "KIND"


def json_out(value: Any) -> None:
    """Write `value` as JSON to stdout, the same in any locale: characters beyond ASCII are escaped."""
    click.echo(json.dumps(value, indent=2))


def plain_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write columns as wide as their widest cell."""
    widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]
    for row in (head, *rows):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def on_terminal() -> bool:
    """True if stdout is a terminal: only then is there colour, and only then is rich imported."""
    return sys.stdout.isatty()


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection inside, for what ends soon: most of it would go through the modules just imported."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@contextlib.contextmanager
def report_errors(context: click.Context) -> Iterator[None]:
    """Turn errors inside into their text on stderr (JSON on stdout where ``--format json`` is set) and
    exit code.

    An `AlphaForgeError` exits by its own ``exit_code``. Anything unforeseen gives one line (AF9001) and
    exit code 3. With ALPHA_FORGE_DEBUG set, the traceback comes first.
    """
    try:
        yield
    except AlphaForgeError as error:
        _report(context, error)
        context.exit(error.exit_code)
    except (click.ClickException, click.exceptions.Exit, click.Abort, EOFError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            raise  # the reader went away: click ends quietly
        _report(context, _unforeseen(error))
        context.exit(FAILED)


def errors_json(error: AlphaForgeError) -> dict[str, Any]:
    """``{"errors": [{code, message, path, file, line, column, help}]}``; without a place, those are null."""
    diagnostics = getattr(error, "diagnostics", None)
    if diagnostics is not None:
        return {"errors": [diagnostic.as_json() for diagnostic in diagnostics]}
    nowhere = dict.fromkeys(("path", "file", "line", "column"))
    return {"errors": [{"code": error.code, "message": error.message, **nowhere, "help": error.help}]}


def _report(context: click.Context, error: AlphaForgeError) -> None:
    if os.environ.get(DEBUG_VARIABLE):
        import traceback

        traceback.print_exc()
    if context.meta.get(_FORMAT) == "json":
        json_out(errors_json(error))
    else:
        click.echo(str(error), err=True)


def _unforeseen(error: Exception) -> AlphaForgeError:
    first = next(iter(str(error).splitlines()), "")
    text = f"{type(error).__name__}: {first}" if first else type(error).__name__
    help = f"set {DEBUG_VARIABLE}=1 to see the traceback, and please report it"
    return AlphaForgeError("AF9001", f"unexpected {text}", help)
