"""Errors of a configuration: each with its code and its place, all of them at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from alpha_forge.contracts.errors import AlphaForgeError

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
            parts.append(f"    {self.source_line}")
            parts.append("    " + " " * (self.column - 1) + "^")
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


@dataclass(slots=True)
class Source:
    """The text of a configuration and the place of each value in it."""

    file: str
    text: str
    marks: dict[Path, tuple[int, int]] = field(default_factory=dict)
    """Path → 1-based line and column of the value; ``(*path, KEY)`` with `KEY` → that of the key."""

    def place(self, path: Path, *, key: bool = False) -> tuple[int, int]:
        """Line and column of the value at `path` (or of its key); of the nearest parent that has one."""
        if key and (*path, KEY) in self.marks:
            return self.marks[(*path, KEY)]
        while path and path not in self.marks:
            path = path[:-1]
        return self.marks.get(path, (1, 1))

    def line(self, number: int) -> str:
        lines = self.text.splitlines()
        return lines[number - 1] if 0 < number <= len(lines) else ""


KEY = "\0key"
"""Marks of keys stand under their value's path with this behind it."""


@dataclass(slots=True)
class Diagnostics:
    """Collects mistakes while the document is read, checked and compiled."""

    source: Source
    found: list[Diagnostic] = field(default_factory=list)

    def error(self, code: str, message: str, path: Path, help: str = "", *, key: bool = False) -> None:
        """Note a mistake at the value (or, with ``key``, the key) at `path`."""
        self.error_at(code, message, self.source.place(path, key=key), path, help)

    def error_at(self, code: str, message: str, place: tuple[int, int], path: Path = (), help: str = "") -> None:
        line, column = place
        self.found.append(
            Diagnostic(
                code, message, path, self.source.file, line, column, help, self.source.line(line).replace("\t", " ")
            )
        )

    def raise_if_any(self) -> None:
        """Raise `ConfigError` with everything found so far, if anything was."""
        if self.found:
            raise ConfigError(self.found)

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self.found)

    def __bool__(self) -> bool:
        return bool(self.found)
