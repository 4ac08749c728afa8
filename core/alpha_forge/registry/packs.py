"""A pack is imported and its hooks are read; whatever it does wrong becomes a cause, never an exception."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Mapping
from typing import Any

import pluggy

from alpha_forge.contracts.errors import nearest
from alpha_forge.contracts.hookspecs import KIND_OF_HOOK, PROJECT, PackHooks
from alpha_forge.registry.quiet import describe, stdout_to_stderr

CONFORMANCE_HOOK = "alpha_forge_conformance"
HOOKS = (*KIND_OF_HOOK, CONFORMANCE_HOOK)
TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_ENTRY = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*)(?::([^\W\d]\w*(?:\.[^\W\d]\w*)*))?(?:\s*\[.*\])?")
_PLUGIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class PackFault(Exception):
    """A pack can't be used; the text is the cause."""


class PackContents:
    """What the hooks of one pack returned."""

    def __init__(self) -> None:
        self.targets: dict[str, object] = {}
        """DSL name → ``module:attribute`` as given (not yet known to be a text of that form)."""
        self.conformance: dict[str, str] = {}


def read_pack(name: str, value: str) -> PackContents:
    """Import the pack behind the entry point ``name = value`` and call its hooks.

    Raises PackFault with the cause for whatever goes wrong in it, ``SystemExit`` included;
    KeyboardInterrupt passes. What the pack prints goes to stderr.
    """
    with stdout_to_stderr():
        try:
            return _read(name, value)
        except (PackFault, KeyboardInterrupt):
            raise
        except BaseException as error:  # isolation: no pack may take the others down
            raise PackFault(describe(error)) from error


def _read(name: str, value: str) -> PackContents:
    pack = _import(value)
    # A manager for each pack: `check_pending` then speaks of this one alone, and hooks can't meet another's.
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(PackHooks)
    _check_names(pack)
    try:
        manager.register(pack, name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PackFault(" ".join(str(error).split())) from error
    contents = PackContents()
    for hook in HOOKS:
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            if implementation.wrapper or implementation.hookwrapper:
                raise PackFault(f"hook {hook} is a wrapper; it must simply return its plugins")
            _take(contents, hook, implementation.function())
    return contents


def _import(value: str) -> Any:
    match = _ENTRY.fullmatch(value)
    if match is None:
        raise PackFault(f"its entry point {value!r} does not name a module, for example 'acme_pack'")
    pack: Any = importlib.import_module(match[1])
    for attribute in (match[2] or "").split("."):
        pack = getattr(pack, attribute) if attribute else pack
    return pack


def _check_names(pack: Any) -> None:
    """Raise PackFault for a function that was meant as a hook but will not be called as one."""
    for name in dir(pack):
        function = getattr(pack, name, None)
        if not inspect.isroutine(function):
            continue
        options = getattr(function, f"{PROJECT}_impl", None)
        if isinstance(options, dict):
            hook = options.get("specname") or name
            if hook not in HOOKS and not options.get("optionalhook"):
                raise PackFault(f"there is no hook {hook!r}{_meant(hook)}")
        elif name in HOOKS:
            raise PackFault(f"{name} is not marked with @hookimpl")
        elif name.startswith(f"{PROJECT}_") and (meant := nearest(name, HOOKS)) is not None:
            raise PackFault(f"there is no hook {name!r}; did you mean {meant!r} (marked with @hookimpl)?")


def _meant(name: str) -> str:
    close = nearest(name, HOOKS)
    return f"; did you mean {close!r}?" if close is not None else f"; the hooks are {', '.join(HOOKS)}"


def _take(contents: PackContents, hook: str, returned: object) -> None:
    if not isinstance(returned, Mapping):
        raise PackFault(f"hook {hook} returned {_kind(returned)}, not {{name: 'module:attribute'}}")
    for name, target in returned.items():
        if hook == CONFORMANCE_HOOK:
            if not (isinstance(name, str) and isinstance(target, str) and TARGET.fullmatch(target)):
                raise PackFault(f"hook {hook} returned {name!r}, not {{'sinks.x': 'module:attribute'}}")
            contents.conformance[name] = target
            continue
        if not isinstance(name, str) or _PLUGIN_NAME.fullmatch(name) is None:
            raise PackFault(f"hook {hook} names a plugin {name!r}; a name is letters, digits and _")
        full = f"{KIND_OF_HOOK[hook]}.{name}"
        if full in contents.targets:
            raise PackFault(f"two of its hooks give '{full}'")
        contents.targets[full] = target


def _kind(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
