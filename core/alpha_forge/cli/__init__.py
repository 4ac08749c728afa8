"""The command line. A command's module is imported when the command is invoked, and not before."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from alpha_forge import __version__
from alpha_forge.cli.common import INTERRUPTED, report_errors

COMMANDS = {
    "signal": ("alpha_forge.cli.signal:signal", "Run a configuration: live bars in, predictions out."),
    "check": ("alpha_forge.cli.check:check", "Check a configuration without connecting anywhere."),
    "plan": ("alpha_forge.cli.plan:plan", "Show the graph of a configuration, and its warm-up."),
    "replay": (
        "alpha_forge.cli.replay:replay",
        "Run a configuration over history, to a file or to its sinks.",
    ),
    "outbox": ("alpha_forge.cli.outbox:outbox", "See what sinks have not taken, and put dead letters back."),
    "verify": ("alpha_forge.cli.verify:verify", "Prove that a run is what its bars make it, bit for bit."),
    "explain": (
        "alpha_forge.cli.explain:explain",
        "Show the values of every node that led to one prediction.",
    ),
    "train": ("alpha_forge.cli.train:train", "Train the checkpoint that the model step names."),
    "plugins": ("alpha_forge.cli.plugins:plugins", "List, show or validate the installed plugins."),
    "bars": ("alpha_forge.cli.bars:bars", "Check the certificate of the bars that a run has processed."),
    "sandbox": ("alpha_forge.cli.sandbox:sandbox", "Run a local exchange."),
}
"""Command → where it is, and what the help of the whole says of it: that must not cost an import."""


class LazyGroup(click.Group):
    """A group whose commands are imported when invoked, and which turns errors into exit codes.

    0 done; 1 something checked does not hold (a command's own return value); 2 wrong usage or configuration;
    3 a source, a service, or the program failed; 130 interrupted. `AlphaForgeError` says which.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            from alpha_forge.contracts.errors import did_you_mean

            ctx.fail(f"there is no command '{name}'; {did_you_mean(name, list(COMMANDS))}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        with report_errors(ctx):
            result = super().invoke(ctx)
            # What could not be written is an error of this command, not of the interpreter as it ends.
            sys.stdout.flush()
            return result

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run with `args` (default: the process's) and exit; ``standalone_mode=False`` returns instead."""
        name = prog_name or "alpha_forge"
        if not standalone_mode:
            return super().main(args, name, complete_var, standalone_mode=False, **extra)
        try:
            result = super().main(args, name, complete_var, standalone_mode=False, **extra)
        except click.Abort:
            click.echo("interrupted", err=True)
            sys.exit(INTERRUPTED)
        except click.ClickException as error:
            error.show()
            sys.exit(2)
        sys.exit(result if isinstance(result, int) else 0)


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="alpha_forge")
def main() -> None:
    """Alpha Forge: live market bars to model predictions, delivered to any sink, through plugins."""
