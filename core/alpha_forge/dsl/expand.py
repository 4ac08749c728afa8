"""Templates in params: ``${expand.NAME}`` makes copies of a step, ``${env:NAME}`` stands for a secret."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alpha_forge.contracts.errors import did_you_mean, nearest
from alpha_forge.dsl.diagnostics import Diagnostics, Path
from alpha_forge.dsl.document import EnvRef

MAX_COPIES = 10_000

_TOKEN = re.compile(r"\$\$\{|\$\{(?P<inside>[^}]*)\}|\$\{")
_EXPAND = re.compile(r"expand\.([^\W\d][\w-]*)")
_ENV = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")


@dataclass(frozen=True, slots=True)
class _List:
    """``${expand.NAME}`` in a text."""

    name: str


_Part = str | _List | EnvRef


@dataclass(slots=True)
class Template:
    """The params of one step, or of one sink, with their references found and checked."""

    params: Mapping[str, Any]
    path: Path
    """Of the params."""
    lists: Mapping[str, Sequence[Any]] | None
    """``expand``; None where copies can't be made (sinks)."""
    diagnostics: Diagnostics
    names: tuple[str, ...] = ()
    """The lists that are used, in the order of their first use."""
    ok: bool = True

    def check(self) -> bool:
        """Note every reference that means nothing (AF2008, AF2009), and too many copies (AF2010)."""
        found: list[str] = []
        self._walk(self.params, self.path, found)
        self.names = tuple(dict.fromkeys(found))
        if self.ok and self.lists is not None:
            copies = math.prod(len(self.lists[name]) for name in self.names)
            if copies > MAX_COPIES:
                message = f"this step would expand to {copies} copies; the limit is {MAX_COPIES}"
                self._fail("AF2010", message, self.path)
        return self.ok

    def copies(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """(params, what the expansion gave by name) of each copy. The same list zips, different ones
        multiply.

        The first list used is the outermost. Call after `check` returned True.
        """
        lists = self.lists or {}
        made = []
        for values in itertools.product(*(lists[name] for name in self.names)):
            given: dict[str, Any] = {}
            bound = dict(zip(self.names, values, strict=True))
            made.append((_filled(self.params, bound, given, ""), given))
        return made

    def _walk(self, value: Any, path: Path, found: list[str]) -> None:
        if isinstance(value, str):
            self._text(value, path, found)
        elif isinstance(value, Mapping):
            for key, item in value.items():
                if "${" in key:
                    self._fail("AF2009", "${…} can't stand in a key", (*path, key), key=True)
                self._walk(item, (*path, key), found)
        elif isinstance(value, list):
            for n, item in enumerate(value):
                self._walk(item, (*path, n), found)

    def _text(self, text: str, path: Path, found: list[str]) -> None:
        for match in _TOKEN.finditer(text):
            inside = match["inside"]
            if match[0] == "$${":
                continue
            expand = _EXPAND.fullmatch(inside or "")
            if expand is not None:
                self._list(expand[1], path, found)
            elif not _ENV.fullmatch(inside or ""):
                shown = match[0] if inside is not None else "${"
                self._fail("AF2009", f"'{shown}' is no reference", path, self._meant(inside))

    def _list(self, name: str, path: Path, found: list[str]) -> None:
        if self.lists is None:
            self._fail("AF2009", "${expand.…} can stand in the params of pipeline steps only", path)
        elif name not in self.lists:
            known = sorted(self.lists)
            help = did_you_mean(name, known) if known else f"add expand: {{{name}: […]}} at the top level"
            self._fail("AF2008", f"there is no list '{name}' under 'expand'", path, help)
        else:
            found.append(name)

    def _meant(self, inside: str | None) -> str:
        if inside is None:
            return "close it with }, or write $${ for a literal ${"
        close = nearest(inside.removeprefix("expand:").removeprefix("env.").strip(), list(self.lists or ()))
        if close is not None:
            return f"did you mean '${{expand.{close}}}'?"
        if inside.lower().startswith("env"):
            return "write ${env:NAME}"
        return "write ${expand.NAME} or ${env:NAME}, or $${ for a literal ${"

    def _fail(self, code: str, message: str, path: Path, help: str = "", *, key: bool = False) -> None:
        self.ok = False
        self.diagnostics.error(code, message, path, help, key=key)


def _filled(value: Any, bound: Mapping[str, Any], given: dict[str, Any], name: str) -> Any:
    """`value` with every reference replaced; what the expansion gave goes to `given`, by dotted name."""
    if isinstance(value, str):
        return _text_filled(value, bound, given, name)
    if isinstance(value, Mapping):
        return {k: _filled(v, bound, given, f"{name}.{k}" if name else k) for k, v in value.items()}
    if isinstance(value, list):
        return [_filled(item, bound, given, f"{name}.{n}") for n, item in enumerate(value)]
    return value


def _text_filled(text: str, bound: Mapping[str, Any], given: dict[str, Any], name: str) -> Any:
    parts = _parts(text)
    if any(isinstance(part, _List) for part in parts):
        only = parts[0]
        if len(parts) == 1 and isinstance(only, _List):
            given[name] = bound[only.name]
            return bound[only.name]
        parts = [_written(bound[part.name]) if isinstance(part, _List) else part for part in parts]
        joined = _joined(parts)
        given[name] = joined
        return joined
    return _joined(parts)


def _parts(text: str) -> list[_Part]:
    parts: list[_Part] = []
    end = 0
    for match in _TOKEN.finditer(text):
        parts.append(text[end : match.start()])
        end = match.end()
        inside = match["inside"] or ""
        expand, env = _EXPAND.fullmatch(inside), _ENV.fullmatch(inside)
        parts.append(_List(expand[1]) if expand else EnvRef(env[1]) if env else "${")
    parts.append(text[end:])
    return [part for part in parts if part != ""] or [""]


def _joined(parts: Sequence[_Part]) -> str | EnvRef:
    result: str | EnvRef = ""
    for part in reversed(parts):
        if isinstance(part, EnvRef):
            result = EnvRef(part.name, "", result)
        elif isinstance(result, EnvRef):
            result = EnvRef(result.name, f"{part}{result.before}", result.after)
        else:
            result = f"{part}{result}"
    return result


def _written(value: Any) -> str:
    """A value of a list as YAML writes it, where it stands within a text."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)
