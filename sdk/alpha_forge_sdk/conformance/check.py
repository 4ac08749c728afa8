"""What a check is: data with a function. And how a check speaks: `Broken`, `NotApplicable`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alpha_forge_sdk.conformance.case import Conformance


class Broken(AssertionError):
    """A promise that the plugin does not keep.

    ``promised`` says what its declarations promise, ``seen`` what happened (the smallest case that shows it),
    ``remedy`` how to mend it.
    """

    def __init__(self, promised: str, seen: str, remedy: str = "") -> None:
        super().__init__(f"promised: {promised}\nseen: {seen}" + (f"\nmend: {remedy}" if remedy else ""))
        self.promised = promised
        self.seen = seen
        self.remedy = remedy


class NotApplicable(Exception):
    """Raised by a check that finds, only while it runs, that the plugin promises nothing it could judge."""


def _always(case: Conformance) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Check:
    """One promise of the contract, and how it is tried.

    ``run`` gets the case and a fresh directory; it returns if the promise holds (None, or figures to be told with
    the pass) and raises `Broken` if not. Any other exception is an error of the plugin at this check (status
    ``error``). ``applies`` gives None, or the reason why the check is skipped: it reads declarations only. ``needs``
    are ids of checks without which this one can't be judged: where one of them failed, this one is skipped as
    ``needs AF-…``.
    """

    id: str
    title: str
    kinds: tuple[str, ...]
    """Of `KINDS`: ``data``, ``transforms``, ``features``, ``models``, ``sinks``."""
    remedy: str
    run: Callable[[Any, Any], str | None]
    applies: Callable[[Any], str | None] = _always
    needs: tuple[str, ...] = ()


def check(
    id: str,
    title: str,
    *kinds: str,
    remedy: str,
    applies: Callable[[Any], str | None] = _always,
    needs: tuple[str, ...] = (),
) -> Callable[[Callable[[Any, Any], str | None]], Check]:
    """Make a `Check` of a function ``(case, tmp_path)``. A module lists its checks in ``CHECKS``; nothing registers."""

    def make(function: Callable[[Any, Any], str | None]) -> Check:
        return Check(id, title, kinds, remedy, function, applies, needs)

    return make


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one check came to. ``status``: pass, fail, skip, waived, error."""

    id: str
    title: str
    status: str
    detail: str = ""
    remedy: str = ""

    def as_json(self) -> dict[str, str]:
        return {
            "id": self.id,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "remedy": self.remedy,
        }


@dataclass(slots=True)
class Verdict:
    """All outcomes of one plugin, or of a pack that can't be used. ``verdict``: pass, fail, error."""

    name: str
    distribution: str
    version: str
    sha256: str
    outcomes: list[Outcome] = field(default_factory=list)
    problem: str = ""
    """Why it can't be judged, in part or at all (broken, no ``read_back``): the verdict is ``error`` then."""

    @property
    def verdict(self) -> str:
        if self.problem or any(o.status == "error" for o in self.outcomes):
            return "error"
        return "fail" if any(o.status == "fail" for o in self.outcomes) else "pass"

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "distribution": self.distribution,
            "version": self.version,
            "sha256": self.sha256,
            "verdict": self.verdict,
            "checks": [o.as_json() for o in self.outcomes],
            **({"problem": self.problem} if self.problem else {}),
        }
