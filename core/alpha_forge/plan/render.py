"""The compiled graph as text and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from alpha_forge.plan.graph import EventFlowDAG, Node

DAY_NS = 86_400 * 10**9


def as_text(dag: EventFlowDAG, histories: Mapping[str, Sequence[str]] = MappingProxyType({})) -> str:
    """What an operator reads: frames, flows with their steps, warm-up per path with its reason, sinks.

    ``histories`` are each data frame's lines on how its warm-up would be fetched.
    """
    lines = [f"{dag.name}", "", "frames"]
    for frame in dag.frames.values():
        lines.append(f"  {frame.name}  {frame.interval}  {len(frame.symbols)} symbol(s)  on {frame.event}")
        lines.append(f"    {', '.join(frame.columns)}")
    lines += ["", "flows"]
    for flow in dag.flows:
        when = "once per ts, all symbols in" if flow.panel else "for the bars at hand"
        lines.append(f"  {flow.name}  on {flow.event}  ({when})")
        lines += [f"    {_step_text(dag.nodes[i])}" for i in flow.nodes]
        lines += [
            f"    {n.using} → {n.frame}"
            for n in dag.transforms_from(flow.frame)
            if dag.frames[flow.frame].event == flow.event
        ]
    if dag.emit_interval is not None:
        lines.append(f"  predictions leave on closes of {dag.emit_interval}")
    lines += ["", f"warm-up (epsilon {dag.epsilon:g})"]
    for spec in dag.warmup.values():
        interval = dag.frames[spec.frame].interval
        lines.append(
            f"  {spec.frame}: {spec.need} bars of {interval} needed ({spec.need * interval.ns / DAY_NS:.2f} days), "
            f"{spec.fetch} fetched"
        )
        width = max((len(str(n.bars)) for n in spec.needs), default=1)
        lines += [f"    {n.bars:>{width}}  {' ← '.join(n.chain)}" for n in spec.needs]
        if said := histories.get(spec.frame):
            lines += ["    fetched now:", *(f"      {line}" for line in said)]
    if dag.sinks:
        lines += ["", "sinks"]
        lines += [f"  {s.name}  {s.using} ← {s.frame}.{s.column}" for s in dag.sinks]
    return "\n".join(lines)


def _step_text(node: Node) -> str:
    text = f"{node.using}({', '.join(node.inputs)}) → {', '.join(node.outputs)}"
    if node.emits:
        text += f"  emits {', '.join(node.emits)}"
    return text


def as_json(
    dag: EventFlowDAG, histories: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> dict[str, Any]:
    """The same for programs."""
    return {
        "name": dag.name,
        "epsilon": dag.epsilon,
        "frames": [
            {
                "name": f.name,
                "interval": f.interval.name,
                "symbols": list(f.symbols),
                "event": f.event,
                "columns": list(f.columns),
                "warmup_bars": f.warmup_bars,
            }
            for f in dag.frames.values()
        ],
        "nodes": [
            {
                "id": n.id,
                "kind": n.kind,
                "using": n.using,
                "frame": n.frame,
                "inputs": list(n.inputs),
                "outputs": list(n.outputs),
                "sources": list(n.source_frames),
                "lookback": n.lookback,
                "settle": n.settle,
                "scope": n.scope,
                "on": list(n.on),
                "emits": list(n.emits),
            }
            for n in dag.nodes.values()
        ],
        "flows": [
            {"name": f.name, "event": f.event, "frame": f.frame, "nodes": list(f.nodes), "panel": f.panel}
            for f in dag.flows
        ],
        "warmup": [
            {
                "frame": w.frame,
                "need": w.need,
                "fetch": w.fetch,
                "paths": [{"bars": n.bars, "chain": list(n.chain)} for n in w.needs],
                "history": list(histories.get(w.frame, ())),
            }
            for w in dag.warmup.values()
        ],
        "sinks": [
            {"name": s.name, "using": s.using, "frame": s.frame, "column": s.column} for s in dag.sinks
        ],
        "emit_interval": dag.emit_interval.name if dag.emit_interval else None,
    }
