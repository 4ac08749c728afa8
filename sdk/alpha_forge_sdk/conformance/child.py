"""The tasks of a conformance child process: discovery, and the checks of one plugin. See `isolation`."""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from alpha_forge.contracts.errors import AlphaForgeError
from alpha_forge.registry import Catalogue, PluginRecord, discover
from alpha_forge.registry.quiet import describe
from alpha_forge_sdk.conformance.case import CASES, Conformance
from alpha_forge_sdk.conformance.check import Outcome

Tell = Callable[[dict[str, Any]], None]

INDISPENSABLE = {"sinks": "read_back", "models": "checkpoint"}
"""Kind → the method without which its case can judge nothing that matters: the verdict is then never ``pass``."""


class _CaseFault(Exception):
    """A conformance class can't be used; the text says why."""


def main(task: str, argument: Mapping[str, Any]) -> None:
    """Run a task, telling each message as a line of JSON on what was stdout.

    stdout itself is turned to stderr for good: whatever plugins print, the messages stay readable.
    """
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr

    def tell(message: dict[str, Any]) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    _TASKS[task](argument, tell)
    channel.flush()
    # Threads that a plugin left must not keep the process: the verdict is told.
    os._exit(0)


def _survey(argument: Mapping[str, Any], tell: Tell) -> None:
    """Every pack and plugin, or those of ``capabilities`` alone."""
    catalogue = discover(argument.get("capabilities"))
    tell(
        {
            "plugins": [asdict(p) for p in catalogue.plugins],
            "packs": [asdict(p) for p in catalogue.packs],
            "installed": list(catalogue.installed),
            "conformance": {name: list(cases) for name, cases in catalogue.conformance.items()},
        }
    )


def _judge(argument: Mapping[str, Any], tell: Tell) -> None:
    """All checks of the plugin of ``record`` with the case at ``case`` (default: its kind's)."""
    record = PluginRecord(**argument["record"])
    try:
        plugin = Catalogue(plugins=(record,), packs=()).load(record)
        case = case_of(record, plugin, argument["case"])
    except AlphaForgeError as error:
        tell({"problem": f"{error.message}\n{error.help}" if error.help else error.message})
        return
    except _CaseFault as error:
        tell({"problem": str(error)})
        return
    tell({"ready": True})
    with tempfile.TemporaryDirectory(prefix="alpha-forge-conformance-") as root:
        outcomes = _run_checks(case, Path(root), tell)
    tell({"problem": missing_method(case) or unjudged(outcomes)})


def _run_checks(case: type[Conformance], root: Path, tell: Tell) -> list[Outcome]:
    from alpha_forge_sdk.conformance.runner import Session

    session = Session(case, root)
    for check in case.checks():
        tell({"check": check.id, "title": check.title})
        tell({"outcome": session.outcome(check).as_json()})
    return session.all()


def case_of(record: PluginRecord, plugin: Any, target: str) -> type[Conformance]:
    """The case at `target`, made to speak of `plugin`; the default one of the kind where `target` is empty."""
    base = CASES[record.kind]
    found: Any = base
    if target:
        module, _, attribute = target.partition(":")
        try:
            found = importlib.import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
        except (Exception, SystemExit) as error:
            raise _CaseFault(f"its conformance class {target} can't be loaded: {describe(error)}") from error
        if not (isinstance(found, type) and issubclass(found, base)):
            raise _CaseFault(f"its conformance class {target} does not derive from {base.__name__}")
    try:
        # The record's class, not whatever a search by name would find now.
        case = type(found.__name__, (found,), {"plugin": plugin, "__module__": found.__module__})
        case()
    except (Exception, SystemExit) as error:
        raise _CaseFault(f"its conformance class {target} can't be made: {describe(error)}") from error
    return case


def missing_method(case: type[Conformance]) -> str:
    """Why this case can't give ``pass``: the method that it lacks; empty if it lacks none."""
    needed = INDISPENSABLE.get(case.kind)
    if needed is None or getattr(case, needed) is not getattr(CASES[case.kind], needed):
        return ""
    return (
        f"its conformance case has no {needed}(), so what matters most was not judged; "
        f"subclass {CASES[case.kind].__name__}, and name it in the hook alpha_forge_conformance"
    )


def unjudged(outcomes: Sequence[Outcome]) -> str:
    """Why ``pass`` would say too much: of what its kind promises nothing could be judged. Empty if something was."""
    of_kind = [o for o in outcomes if not o.id.startswith("AF-P")]
    # What failed before them, if that is the reason, is told by its own outcome.
    if any(o.status != "skip" or o.detail.startswith("needs AF-P") for o in of_kind):
        return ""
    reasons = "; ".join(dict.fromkeys(o.detail for o in of_kind if not o.detail.startswith("needs ")))
    return f"none of the checks of its kind could be judged: {reasons}" if of_kind else ""


_TASKS: dict[str, Callable[[Mapping[str, Any], Tell], None]] = {"survey": _survey, "judge": _judge}
