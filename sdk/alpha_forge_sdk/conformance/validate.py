"""Names, packs or everything that is installed → verdicts. Nothing foreign runs in this process."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from alpha_forge.contracts.errors import did_you_mean
from alpha_forge.registry import Catalogue, PackRecord, PluginRecord, RegistryError
from alpha_forge.registry.installed import installed_offers
from alpha_forge.registry.records import BLOCKED, BROKEN, DUPLICATE, OK
from alpha_forge_sdk.conformance.check import Outcome, Verdict
from alpha_forge_sdk.conformance.fingerprint import sha256_of
from alpha_forge_sdk.conformance.isolation import Child, Ended, Late

IMPORT_SECONDS = 30.0
CHECK_SECONDS = 300.0


READABLE = "AF-S01"
"""The check that reads a sink's destination back: without it nothing is known of what arrives."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that an import, and that one check may take."""

    importing: float = IMPORT_SECONDS
    checking: float = CHECK_SECONDS


@dataclass(frozen=True, slots=True)
class Survey:
    """What is installed, found out in children: `unusable` packs (they hang, or crash) are blocked in all others."""

    catalogue: Catalogue
    unusable: Mapping[str, str] = field(default_factory=dict)
    """Pack → why."""


def survey(limits: Limits) -> Survey:
    """Every pack and plugin. A pack whose import hangs, or takes the process along, is ``broken`` with that cause."""
    try:
        return Survey(_ask({}, limits, ()))
    except (Late, Ended):
        pass  # one of them did it; which one is found by asking for each alone
    unusable: dict[str, str] = {}
    for name in sorted({offer.name for offer in installed_offers()}):
        try:
            _ask({"capabilities": [name]}, limits, ())
        except Late:
            unusable[name] = f"its import did not end within {limits.importing:g} s"
        except Ended as error:
            unusable[name] = str(error)
    catalogue = _ask({}, limits, unusable)
    packs = tuple(
        replace(p, status=BROKEN, cause=unusable[p.name]) if p.name in unusable else p
        for p in catalogue.packs
    )
    return Survey(replace(catalogue, packs=packs), unusable)


def _ask(argument: Mapping[str, Any], limits: Limits, block: Mapping[str, str] | Sequence[str]) -> Catalogue:
    with Child("survey", argument, block=block) as child:
        found = child.next(limits.importing)
    return Catalogue(
        plugins=tuple(PluginRecord(**p) for p in found["plugins"]),
        packs=tuple(PackRecord(**p) for p in found["packs"]),
        installed=tuple(found["installed"]),
        conformance={name: tuple(map(tuple, cases)) for name, cases in found["conformance"].items()},
    )


@dataclass(frozen=True, slots=True)
class Subject:
    """What gets a verdict: a plugin, or what stands in its place with a `problem` (a broken pack)."""

    name: str
    distribution: str
    version: str
    record: PluginRecord | None = None
    case: str = ""
    """``module:attribute`` of its conformance case; empty: the default one of its kind."""
    problem: str = ""


def subjects(catalogue: Catalogue, names: Sequence[str]) -> list[Subject]:
    """What `names` mean: plugins (``sinks.x``, ``acme:sinks.x``) and packs; without names, everything.

    What is broken is a subject too. Raises RegistryError for a name that nothing has.
    """
    if not names:
        packs = [p for p in catalogue.packs if p.status != BLOCKED]
        return [s for pack in packs for s in _of_pack(catalogue, pack)]
    found: dict[tuple[str, str, str], Subject] = {}
    for name in names:
        for subject in _named(catalogue, name):
            pack = subject.record.pack if subject.record is not None else ""
            found.setdefault((subject.name, pack, subject.distribution), subject)
    return list(found.values())


def _named(catalogue: Catalogue, name: str) -> list[Subject]:
    pack, _, plain = name.rpartition(":")
    if not pack and "." not in plain:
        packs = [p for p in catalogue.packs if p.name == plain and p.status != BLOCKED]
        if not packs:
            _refuse_pack(catalogue, plain)
        return [s for p in packs for s in _of_pack(catalogue, p)]
    records = [p for p in catalogue.plugins if p.name == plain and pack in ("", p.pack)]
    if len(records) == 1:
        return [_of_plugin(catalogue, records[0])]
    if pack and not records:
        faulty = [p for p in catalogue.packs if p.name == pack and p.status not in (OK, BLOCKED)]
        if faulty:
            return [s for p in faulty for s in _of_pack(catalogue, p)]
    # None, or several: the registry's own words.
    return [_of_plugin(catalogue, catalogue.find(name))]


def _refuse_pack(catalogue: Catalogue, name: str) -> None:
    """Raise the RegistryError for a word that is no pack's name; perhaps a plugin's without its kind was meant."""
    meant = [p.name for p in catalogue.plugins if p.name.partition(".")[2] == name]
    if meant:
        raise RegistryError("AF3002", f"no pack '{name}' is installed", did_you_mean(meant[0], meant))
    catalogue.require(name)


def _of_pack(catalogue: Catalogue, pack: PackRecord) -> Iterator[Subject]:
    if pack.status != OK:
        problem = f"pack '{pack.name}' is {pack.status}: {pack.cause}"
        yield Subject(pack.name, pack.distribution, pack.version, problem=problem)
        return
    own = [p for p in catalogue.plugins if p.pack == pack.name]
    for record in own:
        yield _of_plugin(catalogue, record)
    known = {p.name for p in catalogue.plugins}
    for name, cases in catalogue.conformance.items():
        if name not in known and any(giver == pack.name for giver, _ in cases):
            problem = (
                f"the hook alpha_forge_conformance of pack '{pack.name}' names a plugin that no pack gives"
            )
            close = did_you_mean(name, sorted(p.name for p in own))
            yield Subject(name, pack.distribution, pack.version, problem=f"{problem}\n{close}".strip())


def _of_plugin(catalogue: Catalogue, record: PluginRecord) -> Subject:
    name = record.qualified if record.status == DUPLICATE else record.name
    cases = catalogue.conformance.get(record.name, ())
    # The pack's own case; a pack that only tests another's plugins may give one as well.
    givers = {giver for giver, _ in cases}
    target = next((t for giver, t in cases if giver == record.pack or record.pack not in givers), "")
    problem = f"plugin '{record.name}' is broken: {record.cause}" if record.status == BROKEN else ""
    return Subject(name, record.distribution, record.version, record, target, problem)


def validate(
    names: Sequence[str] = (),
    *,
    jobs: int = 1,
    limits: Limits | None = None,
    told: Callable[[Verdict], None] = lambda verdict: None,
) -> list[Verdict]:
    """The kit over what `names` mean (without names: everything), each plugin in a process of its own.

    `jobs` of them side by side; `told` hears each verdict as it comes. Raises RegistryError for an unknown name.
    """
    limits = limits or Limits()
    surveyed = survey(limits)
    wanted = subjects(surveyed.catalogue, names)
    trees = _packages(surveyed.catalogue)

    def judged(subject: Subject) -> Verdict:
        verdict = Verdict(
            subject.name,
            subject.distribution,
            subject.version,
            sha256_of(subject.distribution, trees[subject.distribution]),
            problem=subject.problem,
        )
        if subject.record is not None and not subject.problem:
            _judge(subject, verdict, limits, surveyed.unusable)
            verdict.problem = verdict.problem or _unread(verdict)
        told(verdict)
        return verdict

    with ThreadPoolExecutor(max(1, jobs)) as pool:
        return list(pool.map(judged, wanted))


def _packages(catalogue: Catalogue) -> defaultdict[str, tuple[str, ...]]:
    """Distribution → the top-level packages that its plugins are in."""
    found: defaultdict[str, tuple[str, ...]] = defaultdict(tuple)
    for record in catalogue.plugins:
        package = record.target.partition(":")[0].partition(".")[0]
        if package and package not in found[record.distribution]:
            found[record.distribution] = tuple(sorted((*found[record.distribution], package)))
    return found


def _judge(subject: Subject, verdict: Verdict, limits: Limits, unusable: Mapping[str, str]) -> None:
    assert subject.record is not None
    argument = {"record": asdict(subject.record), "case": subject.case}
    running: Outcome | None = None
    seconds = limits.importing
    with Child("judge", argument, block=unusable) as child:
        while True:
            try:
                message = child.next(seconds)
            except (Late, Ended) as error:
                _give_up(verdict, running, str(error) or f"did not end within {seconds:g} s")
                return
            match message:
                case {"problem": str(problem)}:
                    verdict.problem = problem
                    return
                case {"check": str(id), "title": str(title)}:
                    running = Outcome(id, title, "error")
                case {"outcome": dict(outcome)}:
                    verdict.outcomes.append(Outcome(**outcome))
                    running = None
            seconds = limits.checking


def _unread(verdict: Verdict) -> str:
    """Why nothing of a sink was judged, though nothing failed: its destination is not there to be asked."""
    readable = next((o for o in verdict.outcomes if o.id == READABLE and o.status == "skip"), None)
    if readable is None or readable.detail.startswith("needs "):
        return ""
    return f"can't be judged here: {readable.detail}"


def _give_up(verdict: Verdict, running: Outcome | None, cause: str) -> None:
    """The child hangs or is gone: during the check that was `running`, or before any."""
    if running is None:
        verdict.problem = f"broken: its import {cause}" if cause.startswith("did") else f"broken: {cause}"
        return
    verdict.outcomes.append(
        replace(running, detail=cause, remedy="a check must never hang or end the process")
    )
    verdict.problem = f"{running.id} {cause.splitlines()[0]}; what comes after it was not checked"
