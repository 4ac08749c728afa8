"""``python -m tests.soak.chaos --seed N``: play one run of the campaign again, or some: ``--seed N --runs COUNT``."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable

from tests.soak.chaos.running import Outcome, execute
from tests.soak.chaos.scenario import draw
from tests.soak.chaos.world import engines

DESTINATIONS = ("CSV", "SQLite", "ClickHouse", "DynamoDB", "replay")


def line(outcome: Outcome) -> str:
    """One run on one line."""
    s = outcome.scenario
    what = ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in
                     (outcome.ends + outcome.done).items())  # fmt: skip
    stored = "/".join(str(outcome.verdicts[n].stored) for n in DESTINATIONS if n in outcome.verdicts)
    return (
        f"seed {s.seed}: {'twins, ' if s.twins else ''}{s.symbols} symbol(s): {what}: {stored} records, "
        f"{outcome.caught_up} caught up, {outcome.seconds:.1f} s: "
        + (f"{len(outcome.problems)} PROBLEMS" if outcome.problems else "holds")
    )


def told(outcome: Outcome) -> str:
    """What is not as promised, and how to see it again."""
    problems = "\n".join(f"  {problem}" for problem in outcome.problems[:6])
    return (
        f"{line(outcome)}\n{problems}\n{outcome.scenario}\n"
        f"again: python -m tests.soak.chaos --seed {outcome.scenario.seed}"
    )


def summary(outcomes: Iterable[Outcome]) -> str:
    """The whole campaign in figures."""
    outcomes = list(outcomes)
    ends = sum((o.ends for o in outcomes), Counter[str]())
    done = sum((o.done for o in outcomes), Counter[str]())
    lines = [
        f"{len(outcomes)} runs in {sum(o.seconds for o in outcomes):.0f} s, {sum(ends.values())} disturbed processes, "
        f"{sum(done.values())} troubles, {sum(o.caught_up for o in outcomes):,} records caught up at starts",
        "| destination | records | lost | duplicated | torn | wrong | invented | out of order |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in DESTINATIONS:
        its = [o.verdicts[name] for o in outcomes if name in o.verdicts]
        cells = [sum(getattr(v, field) for v in its) for field in
                 ("stored", "lost", "duplicated", "torn", "wrong", "invented", "unordered")]  # fmt: skip
        lines.append(f"| {name} | " + " | ".join(f"{cell:,}" for cell in cells) + " |")
    lines += [
        f"ClickHouse rows left to merges: {sum(o.unmerged for o in outcomes)}",
        "ends: " + ", ".join(f"{count} {kind}" for kind, count in ends.most_common()),
        "troubles: " + ", ".join(f"{count} {kind}" for kind, count in done.most_common()),
        f"failed seeds: {[o.scenario.seed for o in outcomes if o.problems] or 'none'}",
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the (first) seed")
    parser.add_argument("--runs", type=int, default=1, help="so many seeds from there on")
    arguments = parser.parse_args()
    outcomes = []
    with engines() as both:
        for seed in range(arguments.seed, arguments.seed + arguments.runs):
            outcomes.append(execute(draw(seed), both))
            print(told(outcomes[-1]) if outcomes[-1].problems else line(outcomes[-1]), flush=True)
    print(summary(outcomes))
    return 1 if any(outcome.problems for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
