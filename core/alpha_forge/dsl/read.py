"""YAML text → plain values, and the line and column of each value and key.

The composer is our own, over PyYAML's events (libyaml's where it is compiled in): it knows every place,
refuses duplicate keys, reads scalars by the core schema of YAML 1.2 (`scalars`), keeps keys as the texts
they are (``on`` is a key of the DSL), and bounds what a file can cost: size, depth, and values after
aliases are followed. Aliases and merge keys (``<<``) work; no tag constructs anything beyond YAML's own
kinds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

from alpha_forge.dsl import scalars
from alpha_forge.dsl.diagnostics import KEY, Diagnostics, Path
from alpha_forge.dsl.syntax import check_characters, note_syntax_error

MAX_CHARACTERS = 1_000_000
MAX_DEPTH = 50
MAX_VALUES = 100_000

Place = tuple[int, int]

_CORE = "tag:yaml.org,2002:"


class Unreadable:
    """Stands for the value of a text that is no YAML; the diagnostics say why."""


UNREADABLE = Unreadable()


def read(text: str, diagnostics: Diagnostics, *, shift: int = 0, loader: Any = None) -> Any:
    """The value of a YAML document as dicts (keys are texts), lists and scalars, or `UNREADABLE`.

    Marks go to ``diagnostics.source``, mistakes to `diagnostics` (AF1002 to AF1010). After a mistake that
    leaves the rest readable (a duplicate key: the first counts) the value is returned all the same. `shift`
    columns are added on the first line, for a text that is the tail of another. `loader` is a PyYAML loader
    class (tests).
    """
    if len(text) > MAX_CHARACTERS:
        message = f"the file has {len(text)} characters; the limit is {MAX_CHARACTERS}"
        help = "a configuration holds no data: name a file of it"
        diagnostics.error_at("AF1009", message, (1, 1), help=help)
        return UNREADABLE
    if not check_characters(text, diagnostics):
        return UNREADABLE
    events = (loader or _loader())(text)
    try:
        node = _Composer(events, diagnostics, shift).document()
        return _Builder(diagnostics).build(node, (), 0)
    except yaml.YAMLError as error:
        note_syntax_error(error, text, diagnostics, shift)
        return UNREADABLE
    except _Stop as stop:
        diagnostics.error_at(stop.code, stop.message, stop.place, help=stop.help)
        return UNREADABLE
    finally:
        events.dispose()


def _loader() -> Any:
    # The C parser is about ten times as fast; PyYAML can be built without it.
    return getattr(yaml, "CBaseLoader", yaml.BaseLoader)


class _Stop(Exception):
    """Reading can't go on."""

    def __init__(self, code: str, message: str, place: Place, help: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.place, self.help = code, message, place, help


@dataclass(slots=True)
class _Node:
    place: Place
    value: Any
    """A scalar's value, a list of nodes, or a dict of text → (place of the key, node)."""


@dataclass(slots=True)
class _Composer:
    events: Any
    diagnostics: Diagnostics
    shift: int
    anchors: dict[str, _Node] = field(default_factory=dict)
    open_anchors: list[str] = field(default_factory=list)

    def document(self) -> _Node:
        """The only document. Raises _Stop, or YAMLError for what the parser refuses."""
        events = self.events
        events.get_event()  # stream start
        if events.check_event(yaml.StreamEndEvent):
            return _Node((1, 1), None)
        events.get_event()  # document start
        node = self.node(0)
        events.get_event()  # document end
        if not events.check_event(yaml.StreamEndEvent):
            place = self.place(events.peek_event())
            raise _Stop("AF1007", "a second document begins here", place, "one file holds one configuration")
        return node

    def place(self, event: Any) -> Place:
        line, column = event.start_mark.line, event.start_mark.column
        return line + 1, column + 1 + (self.shift if line == 0 else 0)

    def node(self, depth: int) -> _Node:
        event = self.events.get_event()
        place = self.place(event)
        if depth > MAX_DEPTH:
            raise _Stop("AF1009", f"nested deeper than {MAX_DEPTH} levels", place)
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event, place)
        if event.anchor is not None:
            self.open_anchors.append(event.anchor)
        if isinstance(event, yaml.ScalarEvent):
            node = _Node(place, self.scalar(event, place))
        elif isinstance(event, yaml.SequenceStartEvent):
            self.check_tag(event, "seq", place)
            items = []
            while not self.events.check_event(yaml.SequenceEndEvent):
                items.append(self.node(depth + 1))
            self.events.get_event()
            node = _Node(place, items)
        else:
            self.check_tag(event, "map", place)
            node = _Node(place, self.mapping(depth))
        if event.anchor is not None:
            self.anchors[self.open_anchors.pop()] = node
        return node

    def alias(self, event: Any, place: Place) -> _Node:
        name = event.anchor
        if name in self.open_anchors:
            raise _Stop("AF1008", f"*{name} stands within &{name} itself", place)
        if name not in self.anchors:
            known = ", ".join(sorted(self.anchors))
            help = f"defined above: {known}" if known else f"quote the text if it is none: '*{name}'"
            raise _Stop("AF1008", f"*{name} refers to nothing: no &{name} comes before it", place, help)
        return self.anchors[name]

    def scalar(self, event: Any, place: Place) -> scalars.Scalar:
        text: str = event.value
        if event.implicit[1] or event.tag in ("!", f"{_CORE}str"):
            return text  # quoted, or said to be a text
        try:
            value = scalars.resolve(text)
        except ValueError as error:
            message = f"{error} is too long to read"
            self.diagnostics.error_at("AF1010", message, place, help="quote it if it is a text")
            return None
        if event.tag is not None:
            return self.tagged(event.tag, text, value, place)
        return value

    def tagged(self, tag: str, text: str, value: scalars.Scalar, place: Place) -> scalars.Scalar:
        kind = tag.removeprefix(_CORE)
        if kind == "float" and type(value) is int:
            return float(value)
        wanted = {"int": int, "float": float, "bool": bool, "null": type(None)}.get(kind)
        if wanted is None or type(value) is not wanted:
            shown = f"!!{kind}" if kind != tag else tag
            message = f"the tag {shown} is not allowed"
            if wanted is not None:
                message = f"the tag {shown} does not fit {text!r}"
            self.diagnostics.error_at("AF1010", message, place, help="leave the tag out")
        return value

    def check_tag(self, event: Any, kind: str, place: Place) -> None:
        if event.tag not in (None, "!", f"{_CORE}{kind}"):
            shown = event.tag.replace(_CORE, "!!")
            self.diagnostics.error_at(
                "AF1010", f"the tag {shown} is not allowed", place, help="leave the tag out"
            )

    def mapping(self, depth: int) -> dict[str, tuple[Place, _Node]]:
        entries: dict[str, tuple[Place, _Node]] = {}
        merged: list[tuple[Place, _Node]] = []
        while not self.events.check_event(yaml.MappingEndEvent):
            event = self.events.peek_event()
            place = self.place(event)
            if not isinstance(event, yaml.ScalarEvent):
                raise _Stop("AF1010", "a key must be a text", place, _key_help(event))
            self.events.get_event()
            if event.anchor is not None:
                self.anchors[event.anchor] = _Node(place, event.value)
            value = self.node(depth + 1)
            if event.value == "<<" and event.implicit[0]:
                merged.append((place, value))
            elif event.value in entries:
                first = entries[event.value][0][0]
                message = f"'{event.value}' stands twice in one mapping, first at line {first}"
                self.diagnostics.error_at("AF1005", message, place, help="keep one of them")
            else:
                entries[event.value] = (place, value)
        self.events.get_event()
        for place, source in merged:
            self.merge(entries, place, source)
        return entries

    def merge(self, entries: dict[str, tuple[Place, _Node]], place: Place, source: _Node) -> None:
        """What the mapping itself says wins, then the first of several sources."""
        for node in source.value if isinstance(source.value, list) else [source]:
            if not isinstance(node.value, dict):
                help = "write <<: *NAME, where &NAME marks a mapping"
                self.diagnostics.error_at("AF1008", "<< merges mappings only", place, help=help)
                return
            for key, entry in node.value.items():
                entries.setdefault(key, entry)


def _key_help(event: Any) -> str:
    if isinstance(event, yaml.MappingStartEvent):
        return 'quote a template: "{name}"'
    return "write the key as plain text"


@dataclass(slots=True)
class _Builder:
    """Nodes → values. An aliased node is built anew at each use, so that no two paths share a container."""

    diagnostics: Diagnostics
    count: int = 0

    def build(self, node: _Node, path: Path, depth: int) -> Any:
        self.count += 1
        if self.count > MAX_VALUES or depth > MAX_DEPTH:
            limit = f"{MAX_VALUES} values" if self.count > MAX_VALUES else f"{MAX_DEPTH} levels"
            message = f"the file unfolds to more than {limit}"
            raise _Stop("AF1009", message, node.place, "check its aliases")
        marks = self.diagnostics.source.marks
        marks[path] = node.place
        if isinstance(node.value, list):
            return [self.build(item, (*path, n), depth + 1) for n, item in enumerate(node.value)]
        if isinstance(node.value, dict):
            built = {}
            for key, (place, value) in node.value.items():
                marks[(*path, key, KEY)] = place
                built[key] = self.build(value, (*path, key), depth + 1)
            return built
        return node.value
