"""Verdicts as text for a terminal, as JSON that can be kept, and as JUnit XML for a CI server."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any
from xml.etree import ElementTree

from alpha_forge_sdk.conformance.check import Outcome, Verdict

_STATUSES = ("pass", "fail", "error", "waived", "skip")
_XML_FORBIDS = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DETAIL_LINES = 12


def as_json(verdicts: Iterable[Verdict]) -> dict[str, Any]:
    """``{"contract", "kit", "plugins": [{"name", "distribution", "version", "sha256", "verdict", "checks"}]}``.

    A plugin (or pack) that could not be judged also has ``problem``, which says why.
    """
    from alpha_forge import CONTRACT_VERSION
    from alpha_forge_sdk.conformance.suite import KIT_VERSION

    return {
        "contract": CONTRACT_VERSION,
        "kit": KIT_VERSION,
        "plugins": [verdict.as_json() for verdict in verdicts],
    }


def as_text(verdicts: Sequence[Verdict]) -> str:
    """A line for each plugin; under it each check that doesn't pass: promised, seen, mend. Counts at the end."""
    lines: list[str] = []
    width = max((len(v.name) for v in verdicts), default=0)
    for verdict in verdicts:
        lines.append(f"{verdict.verdict.upper():5}  {verdict.name:{width}}  {_counts(verdict)}".rstrip())
        if verdict.problem:
            lines += _indented("problem: ", verdict.problem)
        for outcome in verdict.outcomes:
            lines += _outcome_lines(outcome)
    counted = Counter(v.verdict for v in verdicts)
    told = [f"{counted[word]} {word}" for word in ("pass", "fail", "error") if counted[word]]
    lines.append(f"{len(verdicts)} plugin(s): {', '.join(told) or 'nothing to check'}")
    return "\n".join(lines)


def _counts(verdict: Verdict) -> str:
    counted = Counter(o.status for o in verdict.outcomes)
    return ", ".join(f"{counted[status]} {status}" for status in _STATUSES if counted[status])


def _outcome_lines(outcome: Outcome) -> list[str]:
    if outcome.status in ("pass", "skip"):
        # What was skipped because another check failed would only repeat it; figures stand in the JSON.
        return []
    lines = [f"    {outcome.status.upper()} {outcome.id} {outcome.title}"]
    detail = outcome.detail.splitlines()
    left_out = len(detail) - _DETAIL_LINES
    lines += [f"        {line}" for line in detail[:_DETAIL_LINES]]
    lines += [f"        … {left_out} more line(s), all of them with --format json"] if left_out > 0 else []
    if outcome.status != "waived" and outcome.remedy:
        lines += [f"        mend: {outcome.remedy}"]
    return lines


def _indented(head: str, text: str) -> list[str]:
    first, *rest = text.splitlines() or [""]
    return [f"    {head}{first}", *(f"        {line}" for line in rest)]


def as_junit(verdicts: Sequence[Verdict]) -> str:
    """A ``testsuite`` for each plugin, a ``testcase`` for each check. What can't be judged is an ``error``."""
    root = ElementTree.Element("testsuites", name="alpha_forge plugins validate")
    totals: Counter[str] = Counter()
    for verdict in verdicts:
        cases = [_testcase(verdict.name, o) for o in verdict.outcomes]
        if verdict.problem:
            problem = Outcome("AF-P00", "the plugin can be judged", "error", verdict.problem)
            cases.insert(0, _testcase(verdict.name, problem))
        counted = Counter(case[0].tag if len(case) else "pass" for case in cases)
        totalled = {"name": verdict.name, **_totals(counted, len(cases))}
        suite = ElementTree.SubElement(root, "testsuite", totalled)
        properties = ElementTree.SubElement(suite, "properties")
        for key in ("distribution", "version", "sha256"):
            ElementTree.SubElement(properties, "property", name=key, value=_clean(getattr(verdict, key)))
        suite.extend(cases)
        totals += counted
        totals["tests"] += len(cases)
    root.attrib.update(_totals(totals, totals["tests"]))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode")


def _totals(counted: Counter[str], tests: int) -> dict[str, str]:
    return {
        "tests": str(tests),
        "failures": str(counted["failure"]),
        "errors": str(counted["error"]),
        "skipped": str(counted["skipped"]),
    }


_TAGS = {"fail": "failure", "error": "error", "skip": "skipped", "waived": "skipped"}


def _testcase(plugin: str, outcome: Outcome) -> ElementTree.Element:
    case = ElementTree.Element("testcase", classname=_clean(plugin), name=f"{outcome.id} {outcome.title}")
    if outcome.status == "pass":
        return case
    first = next(iter(outcome.detail.splitlines()), outcome.status)
    message = f"waived: {first}" if outcome.status == "waived" else first
    result = ElementTree.SubElement(case, _TAGS[outcome.status], message=_clean(message))
    mend = f"\nmend: {outcome.remedy}" if outcome.remedy and outcome.status in ("fail", "error") else ""
    result.text = _clean(outcome.detail + mend)
    return case


def _clean(text: str) -> str:
    """Text that XML can hold: a plugin's message may have control characters."""
    return _XML_FORBIDS.sub("\N{REPLACEMENT CHARACTER}", text)


def write(text: str) -> None:
    """Write a report to stdout, whatever its encoding: a character that it lacks becomes an escape."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))
