"""The kit proves itself on its zoo: each broken plugin caught by its check alone, no false alarm."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from alpha_forge.registry.quiet import stdout_to_stderr
from alpha_forge_sdk.conformance.check import Outcome, Verdict


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one inhabitant of the zoo. ``check`` is the one that must fail on it; empty for a correct one."""

    name: str
    check: str
    outcomes: tuple[Outcome, ...]
    deviations: tuple[str, ...]
    seconds: float


@dataclass(slots=True)
class SelfTest:
    """Findings of the whole zoo, and what is wrong with the zoo itself."""

    findings: list[Finding] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)

    @property
    def deviations(self) -> list[str]:
        """Every deviation, in words; empty if the kit holds."""
        return [f"{f.name}: {text}" for f in self.findings for text in f.deviations] + self.gaps

    @property
    def summary(self) -> str:
        """One line with both counts."""
        broken = sum(1 for f in self.findings if f.check and not f.deviations)
        correct = sum(1 for f in self.findings if not f.check and not f.deviations)
        return (
            f"{broken} broken plugins caught, {correct} correct plugins passed, "
            f"{len(self.deviations)} deviations"
        )

    def as_text(self) -> str:
        return "\n".join([*(f"DEVIATION {text}" for text in self.deviations), self.summary])

    def as_json(self) -> dict[str, Any]:
        from alpha_forge import CONTRACT_VERSION
        from alpha_forge_sdk.conformance.suite import KIT_VERSION

        return {
            "contract": CONTRACT_VERSION,
            "kit": KIT_VERSION,
            "broken": [self._entry(f) for f in self.findings if f.check],
            "correct": [self._entry(f) for f in self.findings if not f.check],
            "deviations": self.deviations,
            "summary": self.summary,
        }

    @staticmethod
    def _entry(finding: Finding) -> dict[str, Any]:
        told = {"name": finding.name, "seconds": round(finding.seconds, 3)}
        return {**told, "check": finding.check} if finding.check else told

    def as_verdicts(self) -> list[Verdict]:
        """One verdict for each inhabitant, for the JUnit report: a deviation is a failure, nothing else is."""
        verdicts = []
        for finding in self.findings:
            title = f"caught by {finding.check} alone" if finding.check else "nothing is found wrong"
            status = "fail" if finding.deviations else "pass"
            outcome = Outcome(finding.check or "AF-ZOO", title, status, "\n".join(finding.deviations))
            verdicts.append(Verdict(finding.name, "", "", "", [outcome]))
        if self.gaps:
            verdicts.append(Verdict("zoo", "", "", "", problem="\n".join(self.gaps)))
        return verdicts


def selftest(
    modules: Sequence[str] | None = None,
    *,
    jobs: int = 1,
    told: Callable[[Finding], None] = lambda finding: None,
) -> SelfTest:
    """Run every check on every inhabitant of the zoo (or of `modules` of it), `jobs` processes side by side.

    `told` hears of each finding as it comes.
    """
    from alpha_forge_sdk.conformance.zoo import MODULES

    modules = MODULES if modules is None else modules
    result = SelfTest()
    for finding in _findings(list(_inhabitants(modules)), jobs):
        result.findings.append(finding)
        told(finding)
    if set(modules) == set(MODULES):
        result.gaps = _unproved(result.findings)
    return result


def _inhabitants(modules: Iterable[str]) -> Iterator[tuple[str, str, int]]:
    """(module, ``BROKEN`` or ``CORRECT``, place in it): what a child process finds it by."""
    for name in modules:
        module = _zoo(name)
        for group in ("BROKEN", "CORRECT"):
            for place in range(len(getattr(module, group))):
                yield name, group, place


def _zoo(name: str) -> Any:
    return import_module(f"alpha_forge_sdk.conformance.zoo.{name}")


def _findings(inhabitants: Sequence[tuple[str, str, int]], jobs: int) -> Iterator[Finding]:
    with ExitStack() as stack:
        if jobs <= 1:
            yield from map(_examine, inhabitants)
            return
        # Not forked: a copy of this process's threads and locks would be one more thing that could hang.
        pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))
        yield from stack.enter_context(pool).map(_examine, inhabitants)


def _examine(inhabitant: tuple[str, str, int]) -> Finding:
    from alpha_forge_sdk.conformance.runner import run_case

    module, group, place = inhabitant
    found = getattr(_zoo(module), group)[place]
    case, wanted, says = (found.case, found.check, found.says) if group == "BROKEN" else (found, "", "")
    name = f"{module}.{getattr(case.plugin, '__name__', case.__name__)}"
    begun = time.perf_counter()
    # Plugins print as they like; stdout is for the result.
    with stdout_to_stderr(), tempfile.TemporaryDirectory(prefix="alpha-forge-zoo-") as root:
        outcomes = tuple(run_case(case, Path(root)))
    seconds = time.perf_counter() - begun
    return Finding(name, wanted, outcomes, tuple(_deviations(outcomes, wanted, says)), seconds)


def _deviations(outcomes: Sequence[Outcome], wanted: str, says: str) -> Iterator[str]:
    if wanted and wanted not in {o.id for o in outcomes}:
        yield f"there is no check {wanted} of its kind"
    for outcome in outcomes:
        first = " / ".join(outcome.detail.splitlines()[:2])
        if outcome.id == wanted:
            if outcome.status != "fail":
                yield f"{wanted} must fail, but: {outcome.status} {first}".rstrip()
            elif says not in outcome.detail:
                yield f"{wanted} must say {says!r}, but says: {first}"
        elif outcome.status not in ("pass", "skip"):
            yield f"{outcome.id} {outcome.status}, though it is not to blame: {first}"
        elif outcome.status == "skip" and not outcome.detail:
            yield f"{outcome.id} is skipped without a reason"


def _unproved(findings: Iterable[Finding]) -> list[str]:
    """Checks that no broken plugin proves."""
    from alpha_forge_sdk.conformance.suite import all_checks

    proved = {f.check for f in findings}
    return [f"no broken plugin proves {c.id} {c.title}" for c in all_checks() if c.id not in proved]
