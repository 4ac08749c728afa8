"""From a text or a file to a `Document`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path as FilePath

from alpha_forge.dsl import overrides as _overrides
from alpha_forge.dsl.diagnostics import Diagnostics, Source
from alpha_forge.dsl.document import Document
from alpha_forge.dsl.read import MAX_CHARACTERS, UNREADABLE, read
from alpha_forge.dsl.shape import TOP_KEYS, document, not_a_mapping

Parsed = tuple[Document | None, Diagnostics]


def parse(text: str, file: str = "<text>", overrides: Sequence[str] = ()) -> Parsed:
    """The document that a YAML text describes, and every mistake found in it (AF1xxx, AF2xxx).

    `overrides` are ``KEY=VALUE`` options (see `alpha_forge.dsl.overrides`). The document is None if the
    text is no YAML mapping at all; otherwise it holds whatever was right, and is ``partial`` if steps or
    sinks are missing from it. Use it as a whole only if there are no diagnostics. Raises UsageError for an
    override that isn't ``KEY=VALUE`` or leads nowhere; nothing else, whatever the text.
    """
    text = text.removeprefix("\ufeff")
    diagnostics = Diagnostics(Source(file, text))
    data = read(text, diagnostics)
    if data is UNREADABLE:
        return None, diagnostics
    if not isinstance(data, dict):
        not_a_mapping(data, diagnostics)
        return None, diagnostics
    _overrides.apply(data, overrides, diagnostics, TOP_KEYS)
    return document(data, diagnostics), diagnostics


def parse_file(path: str | FilePath, overrides: Sequence[str] = ()) -> Parsed:
    """`parse` of a file. That it can't be read (AF1001) or isn't UTF-8 (AF1002) is a diagnostic too."""
    file = str(path)
    empty = Diagnostics(Source(file, ""))
    try:
        with open(path, "rb") as stream:
            # One byte more than a readable file can have: enough for `read` to refuse it, without holding
            # it all.
            raw = stream.read(4 * MAX_CHARACTERS + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        empty.error_at("AF1001", f"the configuration can't be read: {reason}", (1, 1), help="check the path")
        return None, empty
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line = before.count(b"\n") + 1
        column = len(before) - (before.rfind(b"\n") + 1) + 1
        message = f"the byte 0x{raw[error.start]:02x} is not UTF-8"
        empty.error_at("AF1002", message, (line, column), help="save the file as UTF-8")
        return None, empty
    return parse(text, file, overrides)
