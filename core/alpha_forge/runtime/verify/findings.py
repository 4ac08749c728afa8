"""What verification finds, and whose doing it is: the first node, in dependency order, that differs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from alpha_forge.contracts.interval import iso
from alpha_forge.plan.graph import EventFlowDAG
from alpha_forge.runtime.verify.values import Cells, Column, Difference, differences


@dataclass(frozen=True, slots=True)
class Finding:
    """One way in which a run does not hold. ``node`` is the step, or the sink, where it shows first."""

    check: str
    node: str
    difference: Difference
    symbol: str
    said: str
    """What was compared with what."""

    def text(self) -> str:
        d = self.difference
        return (
            f"{self.check}: {self.node}, {self.symbol} at {iso(d.ts)}, {d.frame}.{d.column}: "
            f"{_value(d.expected)} {self.said.split(' / ')[0]}, {_value(d.got)} {self.said.split(' / ')[1]}"
        )

    def as_json(self) -> dict[str, Any]:
        d = self.difference
        return {
            "check": self.check,
            "node": self.node,
            "symbol": self.symbol,
            "ts": iso(d.ts),
            "frame": d.frame,
            "column": d.column,
            "expected": _exact(d.expected),
            "got": _exact(d.got),
        }


@dataclass(slots=True)
class Verdict:
    """The outcome for one run."""

    predictions: int = 0
    bars: int = 0
    checks: list[str] = field(default_factory=list)
    """Checks that were made, with what they compared."""
    notes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.findings


def columns_in_order(dag: EventFlowDAG) -> list[tuple[str, Column]]:
    """(node id, column) of everything that transforms and steps make, in dependency order."""
    return [(n.id, (n.frame, c)) for n in dag.nodes.values() if n.kind != "data" for c in n.outputs]


def culprit(
    dag: EventFlowDAG,
    check: str,
    said: str,
    expected: Mapping[Column, Cells],
    got: Mapping[Column, Cells],
    fallback: Difference,
) -> Finding:
    """The first node whose values differ; the delivered column's own difference if no node's do."""
    nodes = columns_in_order(dag)
    node_of = {column: node for node, column in nodes}
    order: Iterable[Column] = [column for _, column in nodes]
    first = next(differences(expected, got, order), fallback)
    node = node_of.get((first.frame, first.column), f"the bars of {first.frame}")
    return Finding(check, node, first, dag.frames[first.frame].symbols[first.symbol], said)


def _value(value: float | None) -> str:
    return "nothing" if value is None else f"{value!r} ({value.hex()})"


def _exact(value: float | None) -> dict[str, str] | None:
    return None if value is None else {"value": repr(value), "hex": value.hex()}
