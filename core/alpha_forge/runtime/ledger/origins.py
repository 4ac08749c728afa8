"""Origins as small numbers: a bar's origin is a text at the source and one byte everywhere behind the gate."""

from __future__ import annotations

from collections.abc import Iterable

STREAM, REST, ARCHIVE, FILE, REPAIR = range(5)
KNOWN = ("stream", "rest", "archive", "file", "repair")

OTHER = "other"
MOST = 200
"""Codes from here on mean holes, not origins."""


class Origins:
    """The origins of one frame's bars, each with its code. The well-known ones always have the same."""

    def __init__(self, names: Iterable[str] = KNOWN) -> None:
        self.names = list(names)
        self._codes = {name: code for code, name in enumerate(self.names)}

    def code(self, name: str) -> int:
        """The code of an origin; a new one gets the next. A source that invents too many is told as ``other``."""
        code = self._codes.get(name)
        if code is None:
            if len(self.names) >= MOST:
                return self._codes[OTHER]
            if len(self.names) == MOST - 1:
                name = OTHER
            code = self._codes[name] = len(self.names)
            self.names.append(name)
        return code

    def name(self, code: int) -> str:
        """The origin with this code."""
        return self.names[code]
