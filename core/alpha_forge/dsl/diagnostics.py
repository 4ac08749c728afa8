"""Errors of a configuration: each with its code and its place, all of them at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from alpha_forge.contracts.errors import AlphaForgeError

_SHOWN, _SHOWN_BEFORE = 200, 120
"""Characters of a line that are shown with a mistake, and how many of them before its place."""

Path = tuple[str | int, ...]
"""Where a value stands in the document: keys and list positions from the top."""


def path_text(path: Path) -> str:
    """``('pipeline', 0, 'data')`` → ``pipeline[0].data``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else part)
    return text


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One mistake: code, what is wrong, where (1-based line and column), and how to mend it."""

    code: str
    message: str
    path: Path
    file: str
    line: int
    column: int
    help: str = ""
    source_line: str = ""

    def render(self) -> str:
        """``FILE:LINE:COL: error[AF1234]: message``, the line with a caret under it, and the help."""
        parts = [f"{self.file}:{self.line}:{self.column}: error[{self.code}]: {self.message}"]
        if self.source_line:
            # Of a very long line, what stands around the place.
            first = max(0, self.column - _SHOWN_BEFORE - 1)
            parts.append(f"    {self.source_line[first : first + _SHOWN]}")
            parts.append("    " + " " * (self.column - 1 - first) + "^")
        if self.help:
            parts.append(f"help: {self.help}")
        return "\n".join(parts)

    def as_json(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "message": self.message,
            "path": path_text(self.path),
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "help": self.help,
        }


class ConfigError(AlphaForgeError):
    """A configuration that does not compile. ``diagnostics`` holds every mistake, in order of place."""

    exit_code = 2

    def __init__(self, diagnostics: list[Diagnostic]) -> None:
        self.diagnostics = sorted(diagnostics, key=lambda d: (d.file, d.line, d.column, d.code))
        super().__init__(self.diagnostics[0].code, "\n".join(d.render() for d in self.diagnostics))

    def __str__(self) -> str:
        return self.message


SHORTEST_SECRET = 3
"""A secret of fewer characters is none, and masking it would blank half of what is shown."""

_SECRET = re.compile(
    r"""(?ix) \b (?: [\w.-]* (?: pass?wo?r?d | passphrase | secret | token | credential
    | (?:api|access|private|secret|auth|signing)_?key ) [\w-]* | key ) ["']? \s* [:=] \s*
    (?P<value> "[^"]*"? | '[^']*'? | \[[^\]]*\]? | [^\s,{}\[\]$'"] [^,}\]]* )"""
)
"""A literal secret in a line of a configuration; references such as ``${env:X}`` are none."""


def masked(line: str) -> str:
    """The line with what looks like a literal secret made stars, its length kept for the caret's sake."""

    def stars(match: re.Match[str]) -> str:
        value = match["value"]
        shown = value if value[:3] in ('"${', "'${") else "*" * len(value)
        return match[0][: match.start("value") - match.start()] + shown

    return _SECRET.sub(stars, line)


@dataclass(slots=True)
class Source:
    """The text of a configuration and the place of each value in it."""

    file: str
    text: str
    marks: dict[Path, tuple[int, int]] = field(default_factory=dict)
    """Path → 1-based line and column of the value; ``(*path, KEY)`` with `KEY` → that of the key."""
    secrets: set[str] = field(default_factory=set)
    """Values that no shown line may hold; see `masked` for those that are known by their keys."""
    overrides: dict[Path, Source] = field(default_factory=dict)
    """Values that came from ``--set``: path → the option's text, with marks relative to that path."""

    def origin(self, path: Path) -> tuple[Source, Path]:
        """The source that the value at `path` came from, this one or an option, and its path in there."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.overrides:
                return self.overrides[path[:length]], path[length:]
        return self, path

    def place(self, path: Path, *, key: bool = False) -> tuple[int, int]:
        """Line and column of the value at `path` (or of its key); of the nearest parent that has one."""
        if key and (*path, KEY) in self.marks:
            return self.marks[(*path, KEY)]
        while path and path not in self.marks:
            path = path[:-1]
        return self.marks.get(path, (1, 1))

    def line(self, number: int) -> str:
        """The line as it may be shown: literal secrets are masked, tabs are single blanks."""
        lines = self.text.splitlines()
        if not 0 < number <= len(lines):
            return ""
        line = masked(lines[number - 1])
        for secret in self.secrets:
            if len(secret) >= SHORTEST_SECRET:
                line = line.replace(secret, "*" * len(secret))
        return line.replace("\t", " ")


KEY = "\0key"
"""Marks of keys stand under their value's path with this behind it."""


@dataclass(slots=True)
class Diagnostics:
    """Collects mistakes while the document is read, checked and compiled."""

    source: Source
    found: list[Diagnostic] = field(default_factory=list)

    def error(self, code: str, message: str, path: Path, help: str = "", *, key: bool = False) -> None:
        """Note a mistake at the value (or, with ``key``, the key) at `path`."""
        source, inner = self.source.origin(path)
        self.error_at(code, message, source.place(inner, key=key), path, help, source)

    def error_at(
        self,
        code: str,
        message: str,
        place: tuple[int, int],
        path: Path = (),
        help: str = "",
        source: Source | None = None,
    ) -> None:
        """Note a mistake at a line and column of `source` (default: the configuration's text)."""
        source = source or self.source
        line, column = place
        found = Diagnostic(code, message, path, source.file, line, column, help, source.line(line))
        # The copies of an expanded step share their place: they make one mistake, not several.
        if found not in self.found:
            self.found.append(found)

    def raise_if_any(self) -> None:
        """Raise `ConfigError` with everything found so far, if anything was."""
        if self.found:
            raise ConfigError(self.found)

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self.found)

    def __bool__(self) -> bool:
        return bool(self.found)
