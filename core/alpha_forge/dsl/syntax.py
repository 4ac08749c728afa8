"""YAML's syntax errors in words that say what to do."""

from __future__ import annotations

import re
from typing import Any

from alpha_forge.dsl.diagnostics import Diagnostics

_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TEMPLATE = re.compile(r"[^\s,\[\]{}\"']*(?:\$?\{[^{}\n]*\}[^\s,\[\]{}\"']*)+")
_HELP = (
    ("mapping values are not allowed", "a key stands on a line of its own; quote a text that holds ': '"),
    ("expected ',' or ']'", "a comma, or the ] of the list that opened at line {line}, is missing"),
    ("expected ',' or '}'", "a comma, or the }} of the mapping that opened at line {line}, is missing"),
    ("expected '-' indicator", "every item of the list that opened at line {line} begins with '- '"),
    ("<block end>", "check the indentation against the line where the block opened, {line}"),
    ("expected key", "check the indentation against the line where the block opened, {line}"),
    ("could not find expected ':'", "a key ends with ': '"),
    ("cannot start any token", "quote the text: @ ` % * & ! | > begin something else in YAML"),
    ("unknown escape", "within double quotes write \\\\ for \\, or use single quotes"),
    ("document start", "check the indentation: this line stands further left than the block it belongs to"),
)


def check_characters(text: str, diagnostics: Diagnostics) -> bool:
    """Note the first character that YAML forbids (AF1002); True if there is none."""
    match = _UNPRINTABLE.search(text)
    if match is None:
        return True
    before = text[: match.start()]
    line = len(re.findall(r"\r\n|[\n\r\x85\u2028\u2029]", before)) + 1
    column = match.start() - max(before.rfind("\n"), before.rfind("\r")) - 1 + 1
    diagnostics.error_at(
        "AF1002",
        f"the character U+{ord(match[0]):04X} can't stand in YAML",
        (line, column),
        help="remove it, or write it as an escape within double quotes",
    )
    return False


def note_syntax_error(error: Any, text: str, diagnostics: Diagnostics, shift: int = 0) -> None:
    """Note PyYAML's `error` at its place: tabs (AF1004), templates that need quotes (AF1006), the rest
    (AF1003).

    `shift` is the column at which the text starts in what is shown (values of ``--set``).
    """
    mark = error.problem_mark or error.context_mark
    opening = error.context_mark or mark
    lines = text.splitlines() or [""]
    number, column = (mark.line, mark.column) if mark is not None else (0, 0)
    if number >= len(lines):
        number, column = len(lines) - 1, len(lines[-1])  # the end of the text, which it came too soon to

    def note(code: str, message: str, at: tuple[int, int], help: str) -> None:
        line, col = at
        diagnostics.error_at(code, message, (line + 1, col + 1 + (shift if line == 0 else 0)), help=help)

    line = lines[number] if number < len(lines) else ""
    indent = line[: len(line) - len(line.lstrip())]
    if "\t" in indent or line[column : column + 1] == "\t":
        at = indent.index("\t") if "\t" in indent else column
        note("AF1004", "a tab can't indent in YAML", (number, at), "indent with spaces")
        return
    template = next((m for m in _TEMPLATE.finditer(line) if m.start() <= column < m.end()), None)
    if template is not None:
        quoted = f'"{template[0]}"'
        message = f"{template[0]} must be quoted within [ ] and {{ }}"
        note("AF1006", message, (number, template.start()), f"write {quoted}")
        return
    problem = _problem(error)
    if "end of stream" in problem and "quoted scalar" in str(error.context):
        start = (opening.line, opening.column)
        note("AF1003", "a quote is opened and never closed", start, "close it, or escape the quote inside")
        return
    help = next((text for known, text in _HELP if known in problem), "")
    note("AF1003", problem, (number, column), help.format(line=(opening.line if opening else 0) + 1))


def _problem(error: Any) -> str:
    return str(error.problem or error.context or "this is not YAML").replace(
        "did not find expected", "expected"
    )
