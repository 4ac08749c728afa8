"""``--set KEY=VALUE``: single values of a configuration replaced from the command line."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from alpha_forge.contracts.errors import UsageError, did_you_mean
from alpha_forge.dsl.diagnostics import KEY, Diagnostics, Path, Source, path_text
from alpha_forge.dsl.read import UNREADABLE, read

_SHOWN = 8


def apply(data: dict[str, Any], options: Iterable[str], diagnostics: Diagnostics, top: Iterable[str]) -> None:
    """Set each ``KEY=VALUE`` of `options` in `data`, in their order; later ones win.

    KEY is a dotted path from the top (``pipeline.0.data.params.interval``). If its first part is none of the
    `top` keys, the longest beginning of KEY that exists anywhere is looked up: ``warmup.epsilon`` is then
    ``signal_generation.warmup.epsilon``. VALUE is YAML. A VALUE that isn't goes to `diagnostics`.

    Raises UsageError for an option without ``=`` (AF1011), a KEY that leads nowhere (AF1012), and one that
    fits several places (AF1013), which it names.
    """
    known = frozenset(top)
    for option in options:
        key, equals, text = option.partition("=")
        key = key.strip()
        if not equals or not key:
            raise UsageError(
                "AF1011", f"--set {option}: it must be KEY=VALUE", "for example --set warmup.epsilon=1e-4"
            )
        path = _resolve(data, key, known)
        source = Source(f"--set {key}", option, secrets=diagnostics.source.secrets)
        collected = Diagnostics(source)
        value = read(text, collected, shift=len(option) - len(text))
        diagnostics.found.extend(collected.found)
        if value is UNREADABLE:
            continue
        source.marks[(KEY,)] = (1, 1)
        _put(data, path, key, value)
        overrides = diagnostics.source.overrides
        # What an earlier option said of values under this one is gone with them.
        for old in [p for p in overrides if p[: len(path)] == path]:
            del overrides[old]
        overrides[path] = source


def _resolve(data: dict[str, Any], key: str, top: frozenset[str]) -> Path:
    parts = re.sub(r"\[(\d+)\]", r".\1", key).split(".")
    if parts[0] in top:
        return _typed(data, parts, key)
    paths = list(_paths(data, ()))
    for length in range(len(parts), 0, -1):
        head = parts[:length]
        fits = [p for p in paths if [str(part) for part in p[-length:]] == head]
        if len(fits) > 1:
            shown = ", ".join(".".join(map(str, p)) for p in fits[:_SHOWN])
            more = ", …" if len(fits) > _SHOWN else ""
            raise UsageError(
                "AF1013",
                f"--set {key}: '{'.'.join(head)}' fits {len(fits)} places",
                f"say which: {shown}{more}",
            )
        if fits:
            return _typed(data, [*fits[0], *parts[length:]], key)
    names = sorted({str(p[-1]) for p in paths if isinstance(p[-1], str)} | top)
    raise UsageError(
        "AF1012",
        f"--set {key}: nothing in the configuration is named '{parts[0]}'",
        did_you_mean(parts[0], names, "write the whole path, for example pipeline.0.data.params.interval"),
    )


def _paths(value: Any, path: Path) -> Iterable[Path]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from _paths(item, (*path, key))


def _typed(data: dict[str, Any], parts: Iterable[str | int], key: str) -> Path:
    """The path with positions of lists as numbers. Raises UsageError where it runs into something else."""
    path: list[str | int] = []
    value: Any = data
    for part in parts:
        where = path_text(tuple(path))
        if isinstance(value, list):
            if not str(part).isdecimal() or int(part) >= len(value):
                raise UsageError(
                    "AF1012",
                    f"--set {key}: '{where}' is a list of {len(value)}, it has no '{part}'",
                    f"positions go from 0 to {len(value) - 1}" if value else "set the whole list",
                )
            path.append(int(part))
            value = value[int(part)]
        elif isinstance(value, dict) or value is None:
            path.append(str(part))
            value = value.get(str(part)) if value else None
        else:
            raise UsageError("AF1012", f"--set {key}: '{where}' is a single value, it has no '{part}'")
    return tuple(path)


def _put(data: dict[str, Any], path: Path, key: str, value: Any) -> None:
    container: Any = data
    for part in path[:-1]:
        inner: Any = container[part] if isinstance(part, int) else container.get(part)
        if inner is None:
            inner = container[part] = {}
        container = inner
    container[path[-1]] = value
