"""The fault script: YAML to rules and back. Bad scripts are refused with the line and the cure."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from alpha_forge_sdk.sandbox.hostile.kinds import KINDS
from alpha_forge_sdk.sandbox.hostile.values import (
    Moment,
    ValueFault,
    duration_text,
    parse_duration,
    parse_moment,
)
from alpha_forge_sdk.sandbox.intervals import SPOT_INTERVALS

_COMMON: Final = ("kind", "from", "after", "until", "rate", "times", "symbols", "intervals", "paths")

#: Kinds that need a beginning, and those that need an end.
_BEGIN: Final = ("outage", "list", "delist")
_END: Final = ("outage",)


class FaultScriptError(ValueError):
    """A fault script that can't be played; the message names the line and the cure."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a script: what happens, when, how often and to whom.

    It holds in `[start, end)` of the exchange clock (None: open), for each thing concerned with probability `rate`,
    for at most `times` things (None: no limit). Empty `symbols`, `intervals` and `paths` stand for all (HTTP kinds:
    all of REST). `options` are those given; `option` knows the defaults.
    """

    kind: str
    start: Moment | None = None
    end: Moment | None = None
    rate: float = 1.0
    times: int | None = None
    symbols: tuple[str, ...] = ()
    intervals: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def option(self, name: str) -> Any:
        """The option's value, or its default; durations in milliseconds."""
        return self.options.get(name, KINDS[self.kind].options[name].default)

    def dump(self) -> dict[str, Any]:
        """The rule as a script writes it."""
        said: dict[str, Any] = {"kind": self.kind}
        if self.start is not None and self.start.relative:
            said["after"] = duration_text(self.start.ms)
        elif self.start is not None:
            said["from"] = str(self.start)
        if self.end is not None:
            said["until"] = str(self.end)
        if self.rate != 1.0:
            said["rate"] = self.rate
        if self.times is not None:
            said["times"] = self.times
        for name in ("symbols", "intervals", "paths"):
            if getattr(self, name):
                said[name] = list(getattr(self, name))
        known = KINDS[self.kind].options
        return {**said, **{name: known[name].text(value) for name, value in self.options.items()}}


@dataclass(frozen=True, slots=True)
class FaultScript:
    """Rules and the seed of their draws. The same script, market and requests give the same faults."""

    seed: int = 0
    rules: tuple[Rule, ...] = ()

    @classmethod
    def parse(cls, text: str, name: str = "fault script") -> FaultScript:
        """The script in `text` (YAML). Raises FaultScriptError; `name` stands in its message."""
        return _parse(text, name)

    @classmethod
    def load(cls, path: Path) -> FaultScript:
        """The script in a file. Raises FaultScriptError, also if the file can't be read."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            cause = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise FaultScriptError(f"{path}: can't be read: {cause}") from None
        return _parse(text, str(path))

    @classmethod
    def random(
        cls,
        seed: int,
        *,
        symbols: Iterable[str],
        interval_ms: int,
        start_ms: int,
        until_ms: int,
        profile: str = "mixed",
    ) -> FaultScript:
        """A script drawn from `seed`, for a run over bars of `interval_ms` in `[start_ms, until_ms)`.

        Profiles: `lossless` (every bar can still be had), `mixed` (those and holes of the market), `revisions`
        (lossless and channels that disagree), `stream`, `rest`, `archive` (the lossless ones of one side). Every kind
        of the profile is in the script of some seed among any so many in a row as the profile has kinds. Raises
        ValueError for an unknown profile.
        """
        from alpha_forge_sdk.sandbox.hostile.draw import draw_rules

        rules = draw_rules(seed, tuple(symbols), interval_ms, start_ms, until_ms, profile)
        return cls(seed, rules)

    def dump(self) -> str:
        """The script as YAML that parses back to an equal script."""
        import yaml

        value = {"seed": self.seed, "faults": [rule.dump() for rule in self.rules]}
        return str(yaml.safe_dump(value, sort_keys=False, default_flow_style=None, width=110))


def make_rule(said: Mapping[str, Any]) -> Rule:
    """The rule of a mapping, as a script has it or `inject` is given it. Raises FaultScriptError."""
    return _make_rule(dict(said), lambda name: name)


def _parse(text: str, name: str) -> FaultScript:
    import yaml

    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark is not None else ""
        raise FaultScriptError(f"{name}{where}: no YAML: {getattr(error, 'problem', error)}") from None
    reader = _Reader(loader, name)
    parts = reader.entries(root, "a mapping with `seed` and `faults`")
    for key, node in parts.items():
        if key not in ("seed", "faults"):
            raise FaultScriptError(
                f"{reader.at(node)}: unknown key {key!r}; {_meant(key, ('seed', 'faults'))}"
            )
    seed = reader.value(parts["seed"]) if "seed" in parts else 0
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise FaultScriptError(f"{reader.at(parts['seed'])}: seed: expected a whole number")
    listed = parts.get("faults")
    if listed is None or reader.value(listed) is None:
        return FaultScript(seed)
    if not isinstance(listed, yaml.SequenceNode):
        raise FaultScriptError(f"{reader.at(listed)}: faults: expected a list of rules")
    return FaultScript(seed, tuple(reader.rule(node) for node in listed.value))


class _Reader:
    """Values of YAML nodes, and where they stand."""

    def __init__(self, loader: Any, name: str) -> None:
        self._loader = loader
        self._name = name

    def at(self, node: Any) -> str:
        """The place of a node: `faults.yaml:3`."""
        return f"{self._name}:{1 if node is None else node.start_mark.line + 1}"

    def entries(self, node: Any, what: str) -> dict[str, Any]:
        """Key → node of a mapping; `what` was expected."""
        import yaml

        if not isinstance(node, yaml.MappingNode):
            raise FaultScriptError(f"{self.at(node)}: expected {what}")
        return {str(key.value): value for key, value in node.value}

    def value(self, node: Any) -> Any:
        import yaml

        try:
            return self._loader.construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError) as error:
            raise FaultScriptError(f"{self.at(node)}: {getattr(error, 'problem', None) or error}") from None

    def rule(self, node: Any) -> Rule:
        fields = self.entries(node, "a rule, as `kind: disconnect`")

        def place(key: str) -> str:
            return f"{self.at(fields[key])}: {key}" if key in fields else self.at(node)

        return _make_rule({key: self.value(child) for key, child in fields.items()}, place)


def _make_rule(said: dict[str, Any], place: Callable[[str], str]) -> Rule:
    """`place(key)` is what an error about that key begins with."""
    kind = said.get("kind")
    if kind is None:
        raise FaultScriptError(f"{place('')}: a rule needs a `kind`")
    if not isinstance(kind, str) or kind not in KINDS:
        raise FaultScriptError(f"{place('kind')}: no kind {kind!r}; {_meant(str(kind), KINDS)}")
    known = KINDS[kind].options
    options: dict[str, Any] = {}
    for key, value in said.items():
        if key in known:
            # None is the default that stands for "drawn" or "none".
            if value is not None or known[key].default is not None:
                options[key] = _checked(place(key), known[key].parse, value)
        elif key not in _COMMON:
            raise FaultScriptError(
                f"{place(key)}: {kind} has no option {key!r}; {_meant(key, (*known, *_COMMON))}"
            )
    if "from" in said and "after" in said:
        raise FaultScriptError(f"{place('after')}: give `from` or `after`, not both")
    start = _checked(place("from"), parse_moment, said["from"]) if "from" in said else None
    if "after" in said:
        start = Moment(_checked(place("after"), parse_duration, said["after"]), relative=True)
    end = _checked(place("until"), parse_moment, said["until"]) if "until" in said else None
    if (kind in _BEGIN and start is None) or (kind in _END and end is None):
        needs = "`from` and `until`" if kind in _END else "`from` (or `after`)"
        raise FaultScriptError(f"{place('kind')}: {kind} needs {needs}")
    if start is not None and end is not None and start.relative == end.relative and end.ms <= start.ms:
        raise FaultScriptError(f"{place('until')}: {end} is not after {start}")
    return Rule(
        kind,
        start,
        end,
        _checked(place("rate"), _share, said.get("rate", 1.0)),
        _checked(place("times"), _times, said.get("times")),
        _checked(place("symbols"), _symbols, said.get("symbols")),
        _checked(place("intervals"), _intervals, said.get("intervals")),
        _checked(place("paths"), _paths, said.get("paths")),
        options,
    )


def _checked(where: str, parse: Any, value: Any) -> Any:
    try:
        return parse(value)
    except ValueFault as fault:
        raise FaultScriptError(f"{where}: {value!r}: {fault}") from None


def _share(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise ValueFault("expected a probability from 0 to 1")
    return float(value)


def _times(value: Any) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ValueFault("expected a whole number from 1")
    return value


def _texts(value: Any, example: str) -> tuple[str, ...]:
    if value is None:
        return ()
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not all(isinstance(item, str) and item for item in items):
        raise ValueFault(f"expected a list, as {example}")
    return tuple(items)


def _symbols(value: Any) -> tuple[str, ...]:
    return tuple(item.upper() for item in _texts(value, "[BTCUSDT, ETHUSDT]"))


def _intervals(value: Any) -> tuple[str, ...]:
    items = _texts(value, "[1m, 1h]")
    for item in items:
        if item not in SPOT_INTERVALS:
            raise ValueFault(f"no interval {item!r}; they are {', '.join(SPOT_INTERVALS)}")
    return items


def _paths(value: Any) -> tuple[str, ...]:
    items = _texts(value, "[/fapi/v1/klines]")
    if any(not item.startswith("/") for item in items):
        raise ValueFault("expected paths that start with a slash, as /fapi/v1/klines or /data/")
    return items


def _meant(name: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(names))}"
