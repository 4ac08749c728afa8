"""``python -m tests.soak.campaign --seed N``: play one run of the campaign again, or some: ``--seed N --runs COUNT``."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable

from tests.soak.campaign.running import Outcome, execute
from tests.soak.campaign.scenario import draw


def line(outcome: Outcome) -> str:
    """One run on one line."""
    s = outcome.scenario
    return (
        f"seed {s.seed}: {s.venue} {s.interval} × {s.symbols}, {s.profile}, speed {s.speed:g}: {outcome.bars} bars, "
        f"{outcome.streamed} of them streamed, {outcome.holes} absent, {outcome.revisions} revisions, "
        f"{sum(outcome.faults.values())} faults, {outcome.seconds:.1f} s: "
        + (f"{len(outcome.problems)} PROBLEMS" if outcome.problems else "holds")
    )


def told(outcome: Outcome) -> str:
    """What does not fit, the script, and how to see it again."""
    problems = "\n".join(f"  {problem}" for problem in outcome.problems[:12])
    return (
        f"{line(outcome)}\n{problems}\n{outcome.scenario}\n{outcome.script}\n"
        f"again: python -m tests.soak.campaign --seed {outcome.scenario.seed}"
    )


def summary(outcomes: Iterable[Outcome]) -> str:
    """The whole campaign in figures."""
    outcomes = list(outcomes)
    faults: Counter[str] = sum((o.faults for o in outcomes), Counter())
    origins: Counter[str] = sum((o.origins for o in outcomes), Counter())
    violations: Counter[str] = sum((o.violations for o in outcomes), Counter())
    lines = [
        f"{len(outcomes)} runs, {sum(o.bars for o in outcomes):,} bars "
        f"({', '.join(f'{count:,} {name}' for name, count in origins.most_common())}), "
        f"{sum(o.streamed for o in outcomes):,} processed live, {sum(o.holes for o in outcomes):,} certified absent, "
        f"{sum(o.revisions for o in outcomes):,} revisions, in {sum(o.seconds for o in outcomes):.0f} s",
        f"{sum(faults.values()):,} faults: "
        + ", ".join(f"{count} {kind}" for kind, count in faults.most_common()),
        f"violations: {dict(violations) or 'none'}",
        f"failed seeds: {[o.scenario.seed for o in outcomes if o.problems] or 'none'}",
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.campaign", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the (first) seed")
    parser.add_argument("--runs", type=int, default=1, help="so many seeds from there on")
    arguments = parser.parse_args()
    outcomes = []
    for seed in range(arguments.seed, arguments.seed + arguments.runs):
        outcomes.append(execute(draw(seed)))
        print(told(outcomes[-1]) if outcomes[-1].problems else line(outcomes[-1]), flush=True)
    print(summary(outcomes))
    return 1 if any(outcome.problems for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
