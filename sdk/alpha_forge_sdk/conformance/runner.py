"""Runs checks on a case, in order, each once; and tells what came of it."""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from alpha_forge_sdk.conformance.case import Conformance
from alpha_forge_sdk.conformance.check import Broken, Check, NotApplicable, Outcome

FOUNDATION = ("AF-P01", "AF-P06")
"""A class of its kind, with examples to make it from: without these every other check would only repeat the fault."""


class Session:
    """The outcomes of one case class. Each check runs once, however often it is asked for or needed."""

    _sessions: ClassVar[dict[type[Conformance], Session]] = {}

    def __init__(self, case: type[Conformance], root: Path) -> None:
        self.case = case()
        self._root = root
        self._outcomes: dict[str, Outcome] = {}
        self._checks = {c.id: c for c in case.checks()}

    @classmethod
    def of(cls, case: type[Conformance], root: Path) -> Session:
        """The session of a case class, made at the first call: in pytest each check is a test of its own."""
        if case not in cls._sessions:
            cls._sessions[case] = cls(case, root)
        return cls._sessions[case]

    def outcome(self, check: Check) -> Outcome:
        """Run the check, unless it has run or may not."""
        if check.id not in self._outcomes:
            self._outcomes[check.id] = self._judge(check)
        return self._outcomes[check.id]

    def all(self) -> list[Outcome]:
        """Every check of the kind, in order."""
        return [self.outcome(c) for c in self._checks.values()]

    def _judge(self, check: Check) -> Outcome:
        for needed in (*self._foundation(check), *check.needs):
            if needed not in self._checks:
                continue
            before = self.outcome(self._checks[needed])
            if before.status in ("fail", "error"):
                return Outcome(check.id, check.title, "skip", f"needs {needed}")
            if before.status == "skip" and before.detail.startswith("needs "):
                return Outcome(check.id, check.title, "skip", before.detail)
        outcome = self._run(check)
        reason = self.case.waivers.get(check.id)
        if reason is None:
            return outcome
        if outcome.status == "fail":
            return Outcome(check.id, check.title, "waived", reason)
        if outcome.status == "pass":
            return Outcome(
                check.id, check.title, "fail", f"waived ({reason}), but it passes", "take the waiver away"
            )
        return outcome

    def _foundation(self, check: Check) -> tuple[str, ...]:
        """What must hold before a check of the plugin's work means anything; AF-P checks name it themselves."""
        return () if check.id.startswith("AF-P") else FOUNDATION

    def _run(self, check: Check) -> Outcome:
        reason: str | None
        try:
            reason = check.applies(self.case)
            if reason is not None:
                return Outcome(check.id, check.title, "skip", reason)
            with tempfile.TemporaryDirectory(prefix=f"{check.id}-", dir=self._directory()) as folder:
                figures = check.run(self.case, Path(folder))
        except NotApplicable as skip:
            return Outcome(check.id, check.title, "skip", str(skip))
        except Broken as broken:
            detail = f"promised: {broken.promised}\nseen: {broken.seen}"
            return Outcome(check.id, check.title, "fail", detail, broken.remedy or check.remedy)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a third party's code, isolated check by check
            where = traceback.format_exception(error)[-3:]
            detail = f"{type(error).__name__}: {error}\n{''.join(where)}"
            return Outcome(check.id, check.title, "error", detail, check.remedy)
        return Outcome(check.id, check.title, "pass", figures or "")

    def _directory(self) -> Path:
        self._root.mkdir(parents=True, exist_ok=True)
        return self._root


def run_case(case: type[Conformance], root: Path, only: Iterable[str] = ()) -> list[Outcome]:
    """All outcomes of a case (or those of the ids in `only`), in order."""
    session = Session(case, root)
    wanted = set(only)
    return [session.outcome(c) for c in case.checks() if not wanted or c.id in wanted]
