"""Mappings of the DSL read key by key, with the house's own messages for what is wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from alpha_forge.contracts.errors import did_you_mean
from alpha_forge.dsl.diagnostics import Diagnostics, Path
from alpha_forge.dsl.scalars import described


class Fields:
    """One mapping: each method takes a key, notes what is wrong with its value, and returns it or None.

    ``None`` is also what an optional key gives that is absent or empty. `ok` is False once anything in this
    mapping was wrong.
    """

    def __init__(
        self, data: Mapping[str, Any], path: Path, diagnostics: Diagnostics, known: Sequence[str]
    ) -> None:
        """Notes every key that isn't in `known` (AF2001)."""
        self.data, self.path, self.diagnostics = data, path, diagnostics
        self.ok = True
        for key in data:
            if key not in known:
                self.ok = False
                where = f" in '{path[-1]}'" if path and isinstance(path[-1], str) else ""
                message = f"unknown key '{key}'{where}"
                diagnostics.error("AF2001", message, (*path, key), did_you_mean(key, known), key=True)

    def fail(self, code: str, message: str, key: str | int | Path, help: str = "") -> None:
        """Note a mistake at the value of `key` (or at a path below this mapping)."""
        self.ok = False
        inner = key if isinstance(key, tuple) else (key,)
        self.diagnostics.error(code, message, (*self.path, *inner), help)

    def wrong(self, key: str | Path, wanted: str, value: Any, help: str = "") -> None:
        """Note a value of the wrong type (AF2003)."""
        name = key if isinstance(key, str) else ".".join(str(part) for part in key)
        self.fail("AF2003", f"'{name}' must be {wanted}, not {described(value)}", key, help)

    def raw(self, key: str, *, required: bool = False, form: str = "") -> Any:
        """The value as it stands. Notes a required one that is missing or empty (AF2002).

        `form` shows in the help how to give it.
        """
        value = self.data.get(key)
        if value is None and required:
            self.ok = False
            help = f"add {form or f'{key}: …'}"
            # What is absent has no place of its own: that of the mapping's key is the nearest.
            source, inner = self.diagnostics.source.origin(
                (*self.path, key) if key in self.data else self.path
            )
            place = source.place(inner, key=True)
            where = f" in '{self.path[-1]}'" if self.path and isinstance(self.path[-1], str) else ""
            self.diagnostics.error_at(
                "AF2002", f"'{key}' is missing{where}", place, (*self.path, key), help, source
            )
        return value

    def text(self, key: str, *, required: bool = False, form: str = "") -> str | None:
        value = self.raw(key, required=required, form=form)
        if value is None:
            return None
        if not isinstance(value, str) or not value:
            help = f'quote it: "{value}"' if isinstance(value, bool | int | float) else ""
            self.wrong(key, "a text", value, help)
            return None
        return value if self.plain(value, key) else None

    def plain(self, value: str, key: str | Path) -> bool:
        """True if the text holds no ``${…}``, which stands in params only (AF2009)."""
        if "${" not in value:
            return True
        self.fail("AF2009", "${…} can stand in params only", key, "in output columns write {param}")
        return False

    def choice(self, key: str, allowed: Sequence[str], *, required: bool = False, default: str = "") -> str:
        value = self.raw(key, required=required, form=f"{key}: {allowed[0]}")
        if value is None:
            return default
        if not isinstance(value, str) or value not in allowed:
            options = " or ".join(allowed)
            help = did_you_mean(value, allowed, options) if isinstance(value, str) else ""
            self.fail("AF2004", f"'{key}' must be {options}, not {described(value)}", key, help)
            return default
        return value

    def number(
        self, key: str, *, above: float | None = None, least: float | None = None, below: float = math.inf
    ) -> float | None:
        """A finite number: greater than `above`, at least `least`, less than `below` (AF2004)."""
        value = self.raw(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            help = "write it without quotes" if _is_number(value) else ""
            self.wrong(key, "a number", value, help)
            return None
        fits = (above is None or value > above) and (least is None or value >= least) and value < below
        if not fits or abs(value) == math.inf:
            low = f"greater than {above:g}" if above is not None else ""
            low = f"at least {least:g}" if least is not None else low
            high = f"less than {below:g}" if below != math.inf else ""
            bounds = " and ".join(text for text in (low, high) if text) or "finite"
            self.fail("AF2004", f"'{key}' must be {bounds}, not {described(value)}", key)
            return None
        return float(value)

    def whole(self, key: str, *, least: int) -> int | None:
        """A whole number of at least `least` (AF2004)."""
        value = self.raw(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            self.wrong(key, "a whole number", value, "write it without quotes" if _is_number(value) else "")
            return None
        if value < least:
            self.fail("AF2004", f"'{key}' must be at least {least}, not {described(value)}", key)
            return None
        return value

    def mapping(self, key: str, *, required: bool = False, form: str = "") -> dict[str, Any] | None:
        value = self.raw(key, required=required, form=form)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.wrong(key, "a mapping", value, f"write {form}" if form else "")
            return None
        return value

    def items(self, key: str, *, required: bool = False, form: str = "") -> list[Any] | None:
        """A list of one item or more (AF2007)."""
        value = self.raw(key, required=required, form=form)
        if value is None:
            return None
        if not isinstance(value, list):
            self.wrong(key, "a list", value, f"write {form}" if form else "")
            return None
        if not value:
            self.fail("AF2007", f"'{key}' is empty", key, f"write {form}" if form else "")
            return None
        return value

    def texts(self, key: str, *, required: bool = False, form: str = "") -> tuple[str, ...] | None:
        """A list of texts, none twice (AF2004)."""
        items = self.items(key, required=required, form=form)
        if items is None:
            return None
        good: list[str] = []
        for n, item in enumerate(items):
            if not isinstance(item, str) or not item:
                self.wrong((key, n), "a text", item, _quoted(item))
            elif item in good:
                self.fail("AF2004", f"'{item}' stands twice in '{key}'", (key, n))
            elif self.plain(item, (key, n)):
                good.append(item)
        return tuple(good)


def _is_number(value: object) -> bool:
    from alpha_forge.dsl.scalars import resolve

    try:
        return isinstance(value, str) and isinstance(resolve(value), int | float)
    except ValueError:
        return False


def _quoted(item: object) -> str:
    if isinstance(item, dict) and list(item.values()) == [None]:
        return f'quote it: "{{{next(iter(item))}}}"'
    return f'quote it: "{item}"' if isinstance(item, bool | int | float) else ""
