"""What made a recording: the plan, the plugins, and the libraries whose bits they are. No parameter that is secret."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from alpha_forge import __version__
from alpha_forge.plan.graph import EventFlowDAG
from alpha_forge.plan.render import as_json
from alpha_forge.registry import Catalogue

LIBRARIES = ("numpy", "numba", "llvmlite", "torch")


def plan_digest(dag: EventFlowDAG) -> str:
    """SHA-256 of the frames, nodes, parameters and flows. Sinks and their destinations are not of it."""
    plan = {key: value for key, value in as_json(dag).items() if key not in ("sinks", "warmup")}
    # pydantic writes a secret as asterisks.
    params = {n.id: n.params.model_dump(mode="json") for n in dag.nodes.values() if n.kind != "data"}
    text = json.dumps([plan, params], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def plugin_versions(dag: EventFlowDAG, catalogue: Catalogue) -> dict[str, dict[str, str]]:
    """By DSL name: distribution, version, and the SHA-256 of the file that holds the plugin's class."""
    found: dict[str, dict[str, str]] = {}
    used = [(n.using, n.plugin) for n in dag.nodes.values()] + [(s.using, s.plugin) for s in dag.sinks]
    for using, plugin in used:
        record = catalogue.find(using, None)
        found[using] = {
            "distribution": record.distribution,
            "version": record.version,
            "sha256": _source_digest(plugin),
        }
    return dict(sorted(found.items()))


def _source_digest(plugin: type) -> str:
    try:
        return hashlib.sha256(Path(inspect.getfile(plugin)).read_bytes()).hexdigest()
    except (OSError, TypeError):
        return ""


def library_versions() -> dict[str, str]:
    """Versions of alpha-forge and of the libraries that compute; those not installed are left out."""
    found = {"alpha-forge": __version__}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def identity(
    dag: EventFlowDAG, catalogue: Catalogue, config: Path, overrides: tuple[str, ...]
) -> dict[str, Any]:
    """The head of a recording. ``overrides`` are named by their keys only: a value may be secret."""
    return {
        "name": dag.name,
        "config": str(config),
        "overrides": [text.partition("=")[0] for text in overrides],
        "plan": plan_digest(dag),
        "plugins": plugin_versions(dag, catalogue),
        "libraries": library_versions(),
        "frames": {
            f.name: {"interval": f.interval.name, "symbols": list(f.symbols)} for f in dag.frames.values()
        },
    }


def differences(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What is no longer as it was when the recording was made, one line each."""
    said = []
    if recorded["plan"] != now["plan"]:
        said.append("the plan: the configuration has other frames, steps or parameters")
    for kind in ("plugins", "libraries"):
        for name in sorted({*recorded[kind], *now[kind]}):
            before, after = recorded[kind].get(name), now[kind].get(name)
            if before != after:
                said.append(f"{name}: recorded with {_named(before)}, now {_named(after)}")
    return said


def _named(what: Any) -> str:
    if what is None:
        return "none"
    if isinstance(what, str):
        return what
    return f"{what['distribution']} {what['version']} (source {what['sha256'][:12] or 'unknown'})"
