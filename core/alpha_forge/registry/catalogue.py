"""Which plugins there are, which of them a configuration means, and the one place that imports them."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from alpha_forge.contracts.errors import AlphaForgeError, did_you_mean, nearest
from alpha_forge.registry.quiet import describe, stdout_to_stderr
from alpha_forge.registry.records import (
    BLOCKED,
    BROKEN,
    DUPLICATE,
    INCOMPATIBLE,
    OK,
    PackRecord,
    PluginRecord,
    RegistryError,
)

if TYPE_CHECKING:
    from alpha_forge.contracts.plugin import Plugin

_PACK_CODES = {BROKEN: "AF3003", DUPLICATE: "AF3004", INCOMPATIBLE: "AF3005", BLOCKED: "AF3006"}


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Every plugin that discovery found. Made by `discover`."""

    plugins: tuple[PluginRecord, ...]
    """By name, then pack."""
    packs: tuple[PackRecord, ...]
    """By name, then distribution. With capabilities, only those that were asked for."""
    installed: tuple[str, ...] = ()
    """Names of all packs that are installed, also of those that were not asked for."""
    conformance: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    """Plugin name → (pack, ``module:attribute`` of a conformance case), as the packs' hooks gave them."""

    def require(self, capability: str) -> PackRecord:
        """The pack of this name.

        Raises RegistryError if it isn't installed (AF3002), is broken (AF3003), comes from two distributions
        (AF3004), asks for another version of Alpha Forge (AF3005), or is blocked (AF3006).
        """
        pack = next((p for p in self.packs if p.name == capability), None)
        if pack is None:
            known = self.installed or [p.name for p in self.packs]
            listing = f"installed: {', '.join(sorted(known))}" if known else "no pack is installed"
            raise RegistryError(
                "AF3002", f"no pack '{capability}' is installed", did_you_mean(capability, known, listing)
            )
        if pack.status != OK:
            raise RegistryError(
                _PACK_CODES[pack.status],
                f"pack '{pack.name}' is {pack.status}: {pack.cause}",
                _pack_help(pack),
            )
        return pack

    def find(self, name: str, capabilities: Collection[str] | None = None) -> PluginRecord:
        """The plugin that `name` means (``sinks.parquet``, or ``acme:sinks.parquet`` to say whose).

        With `capabilities`, only their packs are looked at. Raises RegistryError if no pack gives it
        (AF3001), if several do (AF3004), if it is broken (AF3007), or if the pack it is qualified with
        can't be used (as `require`).
        """
        pack, _, plain = name.rpartition(":")
        if pack:
            if capabilities is not None and pack not in capabilities:
                raise RegistryError(
                    "AF3009",
                    f"'{name}' is of pack '{pack}', which is not in using.capabilities",
                    f"add '{pack}' to using.capabilities",
                )
            self.require(pack)
        visible = [p for p in self.plugins if capabilities is None or p.pack in capabilities]
        found = [p for p in visible if p.name == plain and (not pack or p.pack == pack)]
        if not found:
            raise RegistryError(
                "AF3001", f"no plugin is named '{name}'", self._unknown(plain, visible, capabilities)
            )
        if len(found) > 1:
            packs = ", ".join(f"'{p.pack}'" for p in found)
            raise RegistryError(
                "AF3004",
                f"'{name}' is given by several packs: {packs}",
                "say whose: " + " or ".join(p.qualified for p in found),
            )
        record = found[0]
        if record.status == BROKEN:
            raise RegistryError(
                "AF3007",
                f"plugin '{record.name}' of pack '{record.pack}' is broken: {record.cause}",
                f"mend or upgrade {record.distribution or record.pack}",
            )
        # A name that two packs give is clear once only one of them is looked at.
        return replace(record, status=OK, cause="")

    def load(self, record: PluginRecord) -> type[Plugin]:
        """Import the class behind `record`. The only place where a plugin's module is imported.

        Raises RegistryError (AF3007) if the import fails or the attribute is missing, (AF3010) if what is
        there isn't a class of its kind with a ``Params`` model. A `MissingExtraError` of the plugin's
        passes as it is.
        """
        module, _, attribute = record.target.partition(":")
        with stdout_to_stderr():
            try:
                target: object = importlib.import_module(module)
                for part in attribute.split("."):
                    target = getattr(target, part)
            except (AlphaForgeError, KeyboardInterrupt):
                raise
            except BaseException as error:  # isolation: it is foreign code
                raise RegistryError(
                    "AF3007",
                    f"plugin '{record.name}' ({record.target}) can't be imported: {describe(error)}",
                    f"mend or upgrade {record.distribution or record.pack}, or install what it lacks",
                ) from error
        return _of_kind(record, target)

    def _unknown(self, name: str, visible: list[PluginRecord], capabilities: Collection[str] | None) -> str:
        """The help for a name that nobody in sight gives."""
        outside = sorted({p.pack for p in self.plugins if p.name == name})
        if outside:
            return f"pack '{outside[0]}' gives it: add it to using.capabilities"
        names = sorted({p.name for p in visible})
        kind = name.partition(".")[0]
        last = {n.partition(".")[2]: n for n in names}
        close = (
            nearest(name, [n for n in names if n.startswith(f"{kind}.")])
            or nearest(name, names)
            or last.get(name)
        )
        if close is not None:
            return f"did you mean '{close}'?"
        faulty = [
            p for p in self.packs if p.status != OK and (capabilities is None or p.name in capabilities)
        ]
        if faulty:
            return "; ".join(f"pack '{p.name}' is {p.status}: {p.cause}" for p in faulty)
        others = sorted(set(self.installed) - set(capabilities)) if capabilities is not None else []
        if others:
            return f"known: {', '.join(names)}; packs not in using.capabilities: {', '.join(others)}"
        return f"known: {', '.join(names)}" if names else "no pack that is in use gives any plugin"


def _pack_help(pack: PackRecord) -> str:
    match pack.status:
        case "duplicate":
            return "uninstall one of them, or name its distribution in ALPHA_FORGE_BLOCK"
        case "incompatible":
            return f"install a version of {pack.distribution} that fits, or another alpha-forge"
        case "blocked":
            return "take it out of the environment variable ALPHA_FORGE_BLOCK"
    return f"mend or upgrade {pack.distribution or pack.name}, or take it out of using.capabilities"


def _of_kind(record: PluginRecord, target: object) -> type[Plugin]:
    from alpha_forge.contracts.params import Params
    from alpha_forge.contracts.plugin import KINDS

    bases = KINDS[record.kind]
    wanted = " or ".join(base.__name__ for base in bases)
    if not isinstance(target, type):
        what = f"a {type(target).__name__}, not a class"
    elif not issubclass(target, bases):
        what = f"a class that does not derive from {wanted}"
    else:
        params: object = target.Params
        if isinstance(params, type) and issubclass(params, Params):
            return target
        what = "a class whose Params does not derive from alpha_forge_sdk.Params"
    raise RegistryError(
        "AF3010",
        f"plugin '{record.name}' ({record.target}) is {what}",
        f"plugins named {record.kind}.* derive from {wanted}",
    )
