"""What a plain YAML scalar means: the core schema of YAML 1.2, and nothing more.

YAML 1.1, which PyYAML follows, reads ``on``, ``no`` and ``y`` as truth values, ``1:30`` as 90, ``1_000`` as
1000, ``010`` as 8, a date as a date, and ``1e-4`` as a text. A trading configuration wants none of these:
here they are texts (``010`` is 10), and ``1e-4`` is a number.
"""

from __future__ import annotations

import re

_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_TRUTH = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_INFINITY = re.compile(r"[-+]?\.(inf|Inf|INF)")
_NAN = frozenset((".nan", ".NaN", ".NAN"))

_DIGITS = 4000
"""Python refuses to read longer whole numbers (their cost grows with the square)."""

Scalar = None | bool | int | float | str


def resolve(text: str) -> Scalar:
    """The value of a plain (unquoted) scalar. Raises ValueError for a number with thousands of digits."""
    if text in _NULL:
        return None
    if text in _TRUTH:
        return _TRUTH[text]
    if _INT.fullmatch(text):
        return _whole(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITY.fullmatch(text):
        return float("-inf") if text.startswith("-") else float("inf")
    return float("nan") if text in _NAN else text


def _whole(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def described(value: object) -> str:
    """A value as an error names it: ``the text 'x'``, ``the number 5``, ``true``, ``nothing``, ``a list``."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {_short(repr(value))}"
        case str():
            return f"the text {_short(repr(value))}"
        case list() | tuple():
            return "a list"
        case dict():
            return "a mapping"
    return f"a {type(value).__name__}"


def _short(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"
