"""``python -m benchmarks [CASE …] [--quick]``: run cases, print their tables, keep the figures."""

from __future__ import annotations

import argparse
import os
import sys
import time
from importlib import import_module
from pathlib import Path

from benchmarks import results

CASES = (
    "feature_stage",
    "history",
    "replay_bars",
    "tick",
    "outbox",
    "gate",
    "ingest",
    "warmup",
    "archive_month",
    "archive_warmup",
    "file_sinks",
    "server_sinks",
    "startup",
    "demo",
)
HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
RESULTS_HELP = "default: %(default)s, whose tables then go into the document; others' don't"
DOCUMENT = HERE.parent / "docs" / "performance.md"


def main() -> int:
    """Exit code 1 if a promise doesn't hold and ``--strict`` asks for it; a disagreement raises."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; default: all")
    parser.add_argument("--quick", action="store_true", help="few rounds, and no table into the document")
    parser.add_argument("--strict", action="store_true", help="exit code 1 if a promise does not hold")
    parser.add_argument("--results", type=Path, default=RESULTS, help=RESULTS_HELP)
    chosen = parser.parse_args()
    if unknown := [c for c in chosen.cases if c not in CASES]:
        parser.error(f"unknown case {', '.join(unknown)}; known are {', '.join(CASES)}")
    kept = True
    for name in chosen.cases or CASES:
        start, load = time.perf_counter(), os.getloadavg()[0]
        result = import_module(f"benchmarks.{name}").run(quick=chosen.quick)
        result.load = load
        print("\n".join(result.markdown()), flush=True)
        print(f"({time.perf_counter() - start:.0f} s)\n", file=sys.stderr, flush=True)
        content = results.merge(chosen.results, [result])
        if not chosen.quick and chosen.results == RESULTS:
            # After each case: a run that is broken off leaves the document and the figures alike.
            results.write_tables(DOCUMENT, content, CASES)
        kept = kept and all(goal.holds for goal in result.goals)
    return 0 if kept or not chosen.strict else 1


if __name__ == "__main__":
    sys.exit(main())
