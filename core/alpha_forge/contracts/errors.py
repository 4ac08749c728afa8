"""The errors of Alpha Forge: each has a code, says what is wrong, and how to mend it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class AlphaForgeError(Exception):
    """Base of every error that Alpha Forge raises on purpose.

    ``code`` is stable (``AF1234``, explained in ``docs/errors.md``), ``message`` says what is wrong and
    where, ``help`` how to mend it. ``exit_code`` is what the command line answers with.
    """

    exit_code = 3

    def __init__(self, code: str, message: str, help: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.help = help

    def __str__(self) -> str:
        text = f"error[{self.code}]: {self.message}"
        return f"{text}\nhelp: {self.help}" if self.help else text


class UsageError(AlphaForgeError):
    """The command was called wrongly; nothing was started."""

    exit_code = 2


class MissingExtraError(AlphaForgeError):
    """An optional dependency is not installed; the message names the extra."""

    exit_code = 2

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            "AF3008",
            f"{what} needs the extra '{extra}', which is not installed",
            f"pip install 'alpha-forge[{extra}]'",
        )


class PluginError(AlphaForgeError):
    """A plugin broke its contract, or raised, while it ran."""


class ModelError(AlphaForgeError):
    """A checkpoint is missing, damaged, or does not fit the graph."""

    exit_code = 2


class SourceError(AlphaForgeError):
    """A data source failed for good: unreachable, silent, or it refused what was asked.

    ``after`` is in seconds by the source's clock: asked again sooner, it would only refuse again; None if nobody knows.
    """

    def __init__(self, code: str, message: str, help: str = "", *, after: float | None = None) -> None:
        super().__init__(code, message, help)
        self.after = after


class FlowExecutionError(AlphaForgeError):
    """Events chained deeper than the guard allows; the message names the cycle."""


class SinkEmitError(AlphaForgeError):
    """What the sinks could not deliver: one line for each sink that failed.

    ``failures`` maps the sink's name to its last cause.
    """

    def __init__(self, failures: Mapping[str, str]) -> None:
        self.failures = dict(failures)
        lines = "; ".join(f"{name}: {cause}" for name, cause in self.failures.items())
        super().__init__(
            "AF6002",
            f"{len(self.failures)} sink(s) did not take everything: {lines}",
            "mend the destination; what a sink did not take is named above",
        )


class RetryLater(Exception):
    """Raised by a sink for a fault that passes. ``after`` is in seconds; ``None`` leaves it to the back-off."""

    def __init__(self, message: str = "", *, after: float | None = None) -> None:
        super().__init__(message or "the destination asked to be tried again later")
        self.after = after


class Rejected(Exception):
    """Raised by a sink, after it stored all others, for records that it will never take.

    ``reasons`` maps the index in the batch to the reason; those records become dead letters.
    """

    def __init__(self, reasons: Mapping[int, str]) -> None:
        self.reasons = dict(reasons)
        super().__init__(f"{len(self.reasons)} record(s) rejected: {self.reasons}")


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The known name closest to `name`, or None if nothing is close enough to be a slip of the pen."""
    import difflib

    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return close[0] if close else None


def did_you_mean(name: str, known: Sequence[str], otherwise: str = "") -> str:
    """A help text: ``did you mean 'x'?`` where something is near, else what is known."""
    close = nearest(name, known)
    if close is not None:
        return f"did you mean '{close}'?"
    return otherwise or (f"known: {', '.join(sorted(known))}" if known else "")
