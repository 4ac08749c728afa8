"""The installed distributions that offer packs, read without importing anything of theirs."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from alpha_forge.contracts.hookspecs import ENTRY_POINT_GROUP
from alpha_forge.registry.quiet import describe

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

_OWN_NAME = "alpha-forge"
_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(.*)", re.DOTALL)


class Offer(NamedTuple):
    """An entry point of our group, and what its distribution says of itself.

    ``fault`` is set where that can't be read; nothing may then be imported.
    """

    name: str
    value: str
    distribution: str
    version: str
    requires: tuple[str, ...] = ()
    fault: str = ""


def installed_offers() -> list[Offer]:
    """Every pack on ``sys.path``, by capability name. Of a distribution found twice, the first counts, as
    for imports.

    Never raises for what a distribution holds: one with unreadable metadata gives an `Offer` with a
    ``fault``.
    """
    offers: list[Offer] = []
    seen: set[str] = set()
    for distribution in importlib.metadata.distributions():
        found, key = _offers_of(distribution)
        # The key comes from the folder's name where it can: parsing the metadata of everything installed is
        # slow.
        if key in seen:
            continue
        seen.add(key)
        offers.extend(found)
    return sorted(offers, key=lambda offer: (offer.name, offer.distribution))


def offers_from(entry_points: Iterable[EntryPoint]) -> list[Offer]:
    """The same for entry points that are handed in; those without a distribution are of no version."""
    offers = []
    for point in entry_points:
        if point.dist is None:
            offers.append(Offer(point.name, point.value, "", ""))
        else:
            offers.append(_offer(point.name, point.value, point.dist))
    return sorted(offers, key=lambda offer: (offer.name, offer.distribution))


def incompatibility(offer: Offer, version: str) -> str:
    """Why the running `version` of Alpha Forge is not one that the pack's distribution asks for; empty if
    it is.

    Raises ValueError if the requirement can't be read.
    """
    for requirement in offer.requires:
        match = _NAME.fullmatch(requirement)
        if match is None or _canonical(match[1]) != _OWN_NAME or not match[2].strip():
            continue
        # Late: only a pack that sets a bound on our version has to pay for the import.
        from packaging.requirements import InvalidRequirement, Requirement

        try:
            parsed = Requirement(requirement)
        except InvalidRequirement as error:
            raise ValueError(f"its requirement {requirement!r} can't be read") from error
        if parsed.marker is not None and not parsed.marker.evaluate({"extra": ""}):
            continue
        if not parsed.specifier.contains(version, prereleases=True):
            return f"needs alpha-forge {parsed.specifier}, this is {version}"
    return ""


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _offers_of(distribution: Distribution) -> tuple[list[Offer], str]:
    """The offers of one distribution, and a key by which a second copy of it is known."""
    try:
        text = distribution.read_text("entry_points.txt") or ""
        key = _key(distribution)
    except Exception as error:  # noqa: BLE001 - the files of a distribution are anybody's
        name = _folder(distribution)
        fault = f"its metadata can't be read: {describe(error)}"
        return [Offer(name, "", name, "", fault=fault)], name
    return [_offer(name, value, distribution) for name, value in _entries(text)], key


def _entries(text: str) -> Iterator[tuple[str, str]]:
    """(name, value) of our group's lines. By hand: importlib's parser raises for a line without '='."""
    inside = False
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            inside = line.strip("[] ") == ENTRY_POINT_GROUP
        elif inside:
            name, _, value = line.partition("=")
            yield name.strip(), value.strip()


def _offer(name: str, value: str, distribution: Distribution) -> Offer:
    try:
        headers = _headers(distribution)
    except Exception as error:  # noqa: BLE001 - the files of a distribution are anybody's
        return Offer(
            name, value, _folder(distribution), "", fault=f"its metadata can't be read: {describe(error)}"
        )
    title = headers.get("Name", [_folder(distribution)])[0]
    version = headers.get("Version", [""])[0]
    return Offer(name, value, title, version, tuple(headers.get("Requires-Dist", ())))


def _headers(distribution: Distribution) -> dict[str, list[str]]:
    """The metadata's headers. Not `distribution.metadata`: that parses the whole README each time."""
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    headers: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if not line.strip():
            break  # the README begins
        if line[0].isspace():
            continue  # a header goes on; of those that matter here none does
        if colon:
            headers.setdefault(name, []).append(value.strip())
    return headers


def _key(distribution: Distribution) -> str:
    # The normalized name from the folder's name, as importlib.metadata itself tells copies apart; private, so
    # that its absence is provided for.
    name = getattr(distribution, "_normalized_name", None)
    return str(name) if name else _canonical(_headers(distribution)["Name"][0])


def _folder(distribution: Distribution) -> str:
    path: Any = getattr(distribution, "_path", None)
    return str(getattr(path, "stem", "") or "unknown").split("-")[0]
