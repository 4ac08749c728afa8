"""What the sinks hold, compared with what was predicted. A destination is asked by the reader of the sink's
conformance case, never by the sink itself."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from pydantic import SecretStr

from alpha_forge.contracts.types import Prediction
from alpha_forge.plan.graph import EventFlowDAG, SinkSpec
from alpha_forge.registry import Catalogue
from alpha_forge.runtime.results import PredictedRow
from alpha_forge.runtime.verify.findings import Finding, Verdict
from alpha_forge.runtime.verify.values import Cells, Collector, Difference, differences

DELIVERED = "delivered"

Reader = Callable[[Mapping[str, Any]], Iterable[Prediction]]


def reader_of(spec: SinkSpec, catalogue: Catalogue) -> Reader | None:
    """How to read a sink's destination; None where its pack gives no conformance case."""
    found = catalogue.conformance.get(spec.using.rpartition(":")[2])
    if not found:
        return None
    module, _, attribute = found[0][1].partition(":")
    case = getattr(importlib.import_module(module), attribute)()
    reader: Reader = case.read_back
    return reader


def plain_params(spec: SinkSpec) -> dict[str, Any]:
    """A sink's parameters as the DSL has them, secrets in the clear: for the reader only, never to be shown."""
    shown: dict[str, Any] = spec.params.model_dump(mode="json")
    return {**shown, **_revealed(spec.params)}


def _revealed(params: Any) -> dict[str, Any]:
    values = {name: getattr(params, name) for name in type(params).model_fields}
    return {n: v.get_secret_value() for n, v in values.items() if isinstance(v, SecretStr)}


def check_sink(
    dag: EventFlowDAG, spec: SinkSpec, rows: Iterable[PredictedRow], reader: Reader | None, verdict: Verdict
) -> None:
    """Every prediction of the sink's column is at its destination with the same bits, and nothing besides.

    Records of other bars, of other columns and of other configurations that the destination holds are not looked at.
    """
    name = f"sink {spec.name} ({spec.using})"
    if reader is None:
        verdict.notes.append(f"{name} can't be read back: its pack gives no conformance case for it")
        return
    wanted = _emitted(dag, spec, rows)
    if not len(wanted.ts):
        return
    try:
        held = _held(dag, spec, reader(plain_params(spec)), wanted)
    except Exception as error:  # noqa: BLE001 - a reader is a pack's code, and it may need a service that is gone
        verdict.notes.append(f"{name} could not be read back: {type(error).__name__}: {error}")
        return
    verdict.checks.append(f"{DELIVERED} to {spec.name}")
    key = (spec.frame, spec.column)
    cells = held.cells().get(key)
    twice = held.twice.get(key, 0)
    found = next(differences({key: wanted}, {key: cells} if cells is not None else {}, [key]), None)
    if found is not None:
        symbol = dag.frames[spec.frame].symbols[found.symbol]
        said = "predicted / at the destination"
        verdict.findings.append(Finding(DELIVERED, name, found, symbol, said))
    elif twice and spec.plugin.idempotent_by:
        difference = Difference(*key, int(wanted.ts[0]), int(wanted.symbols[0]), None, None)
        symbol = dag.frames[spec.frame].symbols[difference.symbol]
        said = f"should be there twice / {twice} record(s) are there more than once"
        verdict.findings.append(Finding(DELIVERED, name, difference, symbol, said))
    elif twice:
        verdict.notes.append(f"{name}: {twice} record(s) more than once, as at_least_once allows")


def _emitted(dag: EventFlowDAG, spec: SinkSpec, rows: Iterable[PredictedRow]) -> Cells:
    """What of the rows left for the sink: its column's known values, on the schedule."""
    grid = dag.emit_interval
    gathered = Collector()
    for row in rows:
        if (row.frame, row.column) == (spec.frame, spec.column) and (grid is None or grid.on_grid(row.ts)):
            known = ~np.isnan(row.values)
            gathered.add(row.frame, row.column, row.ts, row.symbols[known], row.values[known])
    empty = np.empty(0, np.int64)
    return gathered.cells().get((spec.frame, spec.column), Cells(empty, empty, np.empty(0)))


def _held(dag: EventFlowDAG, spec: SinkSpec, records: Iterable[Prediction], wanted: Cells) -> Collector:
    """What the destination holds within the time of what was predicted."""
    place = {name: i for i, name in enumerate(dag.frames[spec.frame].symbols)}
    first, last = int(wanted.ts.min()), int(wanted.ts.max())
    held = Collector()
    for record in records:
        meta = record.metadata
        if record.symbol not in place or meta.get("column", spec.column) != spec.column:
            continue
        if meta.get("frame", spec.frame) != spec.frame or meta.get("dag_name", dag.name) != dag.name:
            continue
        whole = int(record.ts.replace(microsecond=0).timestamp())
        ts = whole * 1_000_000_000 + record.ts.microsecond * 1000
        if first <= ts <= last:
            symbol = np.array([place[record.symbol]])
            held.add(spec.frame, spec.column, ts, symbol, np.array([record.value]))
    return held
