"""Discovery: entry points → catalogue. Packs are imported one by one, in isolation; plugins never are."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from alpha_forge import __version__
from alpha_forge.registry.catalogue import Catalogue
from alpha_forge.registry.installed import Offer, incompatibility, installed_offers, offers_from
from alpha_forge.registry.packs import TARGET, PackContents, PackFault, read_pack
from alpha_forge.registry.records import (
    BLOCKED,
    BROKEN,
    DUPLICATE,
    INCOMPATIBLE,
    OK,
    PackRecord,
    PluginRecord,
)
from alpha_forge.registry.targets import Targets

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

BLOCK_VARIABLE = "ALPHA_FORGE_BLOCK"


def discover(
    capabilities: Collection[str] | None = None,
    *,
    entry_points: Iterable[EntryPoint] | None = None,
    block: Collection[str] | None = None,
    version: str = __version__,
) -> Catalogue:
    """Find every pack and what it gives. Never raises for what a pack does: that becomes its status and
    cause.

    With `capabilities`, only the packs they name are looked at and imported. `entry_points` stand in for the
    installed ones (tests). `block` names packs (or distributions) that are not imported; default: the
    comma-separated environment variable ``ALPHA_FORGE_BLOCK``. `version` is the running version that packs'
    requirements are held to.
    """
    offers = installed_offers() if entry_points is None else offers_from(entry_points)
    blocked = _block_list() if block is None else set(block)
    names = tuple(sorted({offer.name for offer in offers}))
    if capabilities is not None:
        offers = [offer for offer in offers if offer.name in capabilities]
    packs: list[PackRecord] = []
    plugins: list[PluginRecord] = []
    conformance: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    rivals, lookup = _rivals(offers, blocked), Targets()
    for offer in offers:
        record, contents = _pack(offer, blocked, rivals, version)
        packs.append(record)
        plugins.extend(_plugin(record, name, target, lookup) for name, target in contents.targets.items())
        for name, case in contents.conformance.items():
            conformance[name].append((record.name, case))
    return Catalogue(
        plugins=tuple(sorted(_marked(plugins), key=lambda p: (p.name, p.pack))),
        packs=tuple(packs),
        installed=names,
        conformance={name: tuple(cases) for name, cases in sorted(conformance.items())},
    )


def _block_list() -> set[str]:
    return {name.strip() for name in os.environ.get(BLOCK_VARIABLE, "").split(",") if name.strip()}


def _is_blocked(offer: Offer, blocked: Collection[str]) -> bool:
    return offer.name in blocked or (bool(offer.distribution) and offer.distribution in blocked)


def _rivals(offers: Iterable[Offer], blocked: Collection[str]) -> dict[str, list[str]]:
    """Pack name → the distributions that offer it, of those that aren't blocked."""
    rivals: defaultdict[str, list[str]] = defaultdict(list)
    for offer in offers:
        if not _is_blocked(offer, blocked):
            rivals[offer.name].append(offer.distribution or offer.value)
    return rivals


def _pack(
    offer: Offer, blocked: Collection[str], rivals: dict[str, list[str]], version: str
) -> tuple[PackRecord, PackContents]:
    record = PackRecord(offer.name, offer.distribution, offer.version)
    nothing = PackContents()
    if _is_blocked(offer, blocked):
        return replace(record, status=BLOCKED, cause=f"named in {BLOCK_VARIABLE}"), nothing
    if offer.fault:
        return replace(record, status=BROKEN, cause=offer.fault), nothing
    if len(rivals[offer.name]) > 1:
        # Which of them is meant can't be known, and importing either would be a guess.
        cause = f"offered by several distributions: {', '.join(sorted(rivals[offer.name]))}"
        return replace(record, status=DUPLICATE, cause=cause), nothing
    try:
        unfit = incompatibility(offer, version)
        if unfit:
            return replace(record, status=INCOMPATIBLE, cause=unfit), nothing
        return record, read_pack(offer.name, offer.value)
    except (PackFault, ValueError) as error:
        return replace(record, status=BROKEN, cause=str(error)), nothing


def _plugin(pack: PackRecord, name: str, target: object, lookup: Targets) -> PluginRecord:
    status, cause, summary = OK, "", ""
    if not isinstance(target, str) or TARGET.fullmatch(target) is None:
        status = BROKEN
        cause = f"its target must be a text 'module:attribute', not {target!r}"
    else:
        found = lookup.look_up(target)
        summary = found.summary
        if found.cause:
            status, cause = BROKEN, found.cause
    return PluginRecord(
        name=name,
        kind=name.partition(".")[0],
        pack=pack.name,
        distribution=pack.distribution,
        version=pack.version,
        status=status,
        cause=cause,
        summary=summary,
        target=target if isinstance(target, str) else "",
    )


def _marked(plugins: Iterable[PluginRecord]) -> list[PluginRecord]:
    """The records; one whose name another pack gives too is marked duplicate. What is broken stays so."""
    givers: defaultdict[str, list[str]] = defaultdict(list)
    plugins = list(plugins)
    for plugin in plugins:
        givers[plugin.name].append(plugin.pack)
    marked = []
    for plugin in plugins:
        others = [pack for pack in givers[plugin.name] if pack != plugin.pack]
        if others and plugin.status == OK:
            cause = f"also given by {', '.join(sorted(others))}; write {plugin.qualified}"
            plugin = replace(plugin, status=DUPLICATE, cause=cause)
        marked.append(plugin)
    return marked
