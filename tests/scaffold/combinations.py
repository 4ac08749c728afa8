"""Every combination of kind and options that a template has, and a defect to put into each."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

from alpha_forge_sdk.conformance.suite import checks_of
from tests.scaffold.layered import GREEN


@dataclass(frozen=True)
class Defect:
    """One replacement in one file of the installed package, and words of the title of the check that must see it."""

    seen_by: str
    file: str
    was: str
    becomes: str


@dataclass(frozen=True)
class Combination:
    kind: str
    name: str
    defect: Defect
    options: dict[str, str] = field(default_factory=dict)
    validated: bool = False
    """Whether `plugins validate` runs too: the same checks once more, so that only some have it."""
    needs_training: bool = False
    """Whether the README's configuration can be checked only once a checkpoint has been trained."""

    @property
    def green(self) -> tuple[str, ...]:
        """Steps that must succeed."""
        more = {"validate": self.validated, "check": not self.needs_training}
        return (*GREEN, *(step for step, done in more.items() if done))

    @property
    def check(self) -> str:
        """Id of the check that must see the defect."""
        (check,) = (c.id for c in checks_of(self.kind) if self.defect.seen_by in c.title)
        return check

    @property
    def id(self) -> str:
        return "-".join((self.kind, *self.options.values()))


COMMIT = "            with self._db:\n                self._db.executemany(_PUT, rows)"
ACKS_BEFORE_COMMIT = Defect(
    "what arrives can be read back", "destination.py", COMMIT, "            self._db.executemany(_PUT, rows)"
)
KEEPS_OLD_VALUE = Defect(
    "follows on_conflict",
    "destination.py",
    "DO UPDATE SET value = excluded.value, metadata = excluded.metadata",
    "DO NOTHING",
)
ROUNDS = Defect(
    "the same float64",
    "destination.py",
    "return moment, symbol, value,",
    "return moment, symbol, round(value, 9),",
)
SWALLOWS = Defect(
    "an unreachable destination",
    "destination.py",
    'raise RetryLater(f"{host}:{port}: {type(error).__name__}: {error}") from error',
    "return",
)
CUTS_TIME = Defect(
    "the same microsecond", "destination.py", 'timespec="microseconds"', 'timespec="milliseconds"'
)
LOSES_DIGITS = Defect("the same float64", "destination.py", '"value": value', '"value": round(value, 9)')
ACKS_BEFORE_SENT = Defect(
    "what arrives can be read back", "sink.py", "await endpoint.put(records)", "endpoint.put(records).close()"
)

SINK_DEFECTS = {
    ("sync", "batch", "local"): ACKS_BEFORE_COMMIT,
    ("sync", "single", "local"): KEEPS_OLD_VALUE,
    ("async", "batch", "local"): ACKS_BEFORE_COMMIT,
    ("async", "single", "local"): ROUNDS,
    ("sync", "batch", "network"): SWALLOWS,
    ("sync", "single", "network"): CUTS_TIME,
    ("async", "batch", "network"): ACKS_BEFORE_SENT,
    ("async", "single", "network"): LOSES_DIGITS,
}
LONGEST = "a_name_that_is_thirty_letters_"
SINKS = [
    Combination(
        "sinks",
        # Names of all lengths: what is rendered must be formatted with any.
        (LONGEST + "x" if form == "batch" else "q")[-30:].lstrip("_"),
        SINK_DEFECTS[style, form, destination],
        {"style": style, "form": form, "destination": destination},
        validated=(style, form, destination) == ("sync", "batch", "local"),
    )
    for destination, style, form in product(("network", "local"), ("sync", "async"), ("batch", "single"))
]
OTHERS = [
    Combination(
        "data",
        "my_data",
        Defect(
            "each bar of its range once",
            "source.py",
            "self._interval.floor(start) + self._interval.ns",
            "self._interval.floor(start)",
        ),
    ),
    Combination(
        "transforms",
        "w",
        Defect(
            "no later input row",
            "transform.py",
            '"close": columns["close"]',
            '"close": np.roll(columns["close"], -1, axis=0)',
        ),
    ),
    Combination(
        "features",
        "distance_from_mean",
        Defect(
            "no future bar", "feature.py", "return close / mean", "return np.roll(close, -1, axis=0) / mean"
        ),
        validated=True,
    ),
    Combination(
        "models",
        "m" * 30,
        Defect(
            "a window with an unknown value",
            "model.py",
            "return np.where(known, values, np.nan)",
            "return values",
        ),
        needs_training=True,
    ),
]
COMBINATIONS = [*SINKS, *OTHERS]
