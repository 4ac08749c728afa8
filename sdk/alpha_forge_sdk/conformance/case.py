"""Conformance cases: what an author writes to have a plugin proved. pytest collects one test for each check."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from alpha_forge_sdk.conformance.check import Check, NotApplicable

if TYPE_CHECKING:
    from alpha_forge.contracts.plugin import Plugin
    from alpha_forge.contracts.types import Bar, Prediction
    from alpha_forge_sdk.conformance.faults import Injection


@cache
def _installed(name: str) -> type[Plugin]:
    """The class behind a name of the DSL: every check asks for it, discovery happens once."""
    from alpha_forge.registry import discover

    catalogue = discover()
    return catalogue.load(catalogue.find(name, None))


class Conformance:
    """Base of the case classes. Subclass the one of your plugin's kind, and set ``plugin``.

    ``plugin`` is the class itself, or its name in the DSL (``sinks.parquet``), looked up among what is installed.
    ``waivers`` maps a check's id to the reason why it may fail here; a waived check that passes fails: strict.
    """

    kind: ClassVar[str] = ""
    plugin: ClassVar[type[Plugin] | str]
    waivers: ClassVar[Mapping[str, str]] = {}

    def params(self, tmp_path: Path) -> Mapping[str, Any]:
        """Parameters to check with, as in the DSL. Default: the plugin's first example."""
        return dict(self.plugin_class().examples[0])

    @classmethod
    def plugin_class(cls) -> type[Plugin]:
        """The plugin's class. Raises RegistryError if it is not installed or can't be loaded."""
        if isinstance(cls.plugin, str):
            return _installed(cls.plugin)
        return cls.plugin

    def make(self, tmp_path: Path, **changed: Any) -> Any:
        """A fresh, unopened instance with `params`, some of them ``changed``."""
        plugin = self.plugin_class()
        return plugin(plugin.Params.model_validate({**self.params(tmp_path), **changed}))

    @classmethod
    def checks(cls) -> tuple[Check, ...]:
        """Every check of this kind, in order. Whether it applies is known by ``check.applies(case)``."""
        from alpha_forge_sdk.conformance.suite import checks_of

        return checks_of(cls.kind)

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """One test for each check, with its id and title as the test's id. pytest calls this on the class."""
        if "conformance_check" in metafunc.fixturenames:
            found = self.checks() if getattr(type(self), "plugin", None) is not None else ()
            metafunc.parametrize("conformance_check", found, ids=[f"{c.id} {c.title}" for c in found])

    def test_conformance(self, conformance_check: Check, tmp_path: Path) -> None:
        """Run by pytest. The same outcome as in the report, told the way pytest tells it."""
        import pytest

        from alpha_forge_sdk.conformance.runner import Session

        session = Session.of(type(self), tmp_path)
        outcome = session.outcome(conformance_check)
        if outcome.status in ("skip", "waived"):
            pytest.skip(f"{outcome.status}: {outcome.detail}")
        if outcome.status != "pass":
            pytest.fail(
                f"{outcome.id} {outcome.title}\n{outcome.detail}\nmend: {outcome.remedy}", pytrace=False
            )


class FeatureConformance(Conformance):
    """Proves a `Feature` or `RecursiveFeature`. Override ``columns`` if its inputs are not bar-like."""

    kind = "features"

    def columns(self, bars: int, symbols: int, seed: int) -> dict[str, Any]:
        """Inputs by name, (bars, symbols) float64: positive, and varying. Default: made-up bars."""
        from alpha_forge_sdk.testing.bars import input_columns

        return input_columns(self.plugin_class().input_names(), bars, symbols, seed)  # type: ignore[attr-defined]


class TransformConformance(Conformance):
    """Proves a `Transform`. ``interval`` is that of the (first) input frame, ``other_interval`` that of the second."""

    kind = "transforms"
    interval: ClassVar[str] = "15m"
    other_interval: ClassVar[str] = "1h"

    def columns(self, frame: str, bars: int, symbols: int, seed: int) -> dict[str, Any]:
        """Columns of an input frame, (bars, symbols) float64 each, with ``close`` among them. Default: made-up bars."""
        from alpha_forge_sdk.testing.bars import made_bars

        return dict(made_bars(bars, symbols, seed))


class ModelConformance(Conformance):
    """Proves a `Model`. Override ``checkpoint`` to put a small checkpoint where ``params`` point to."""

    kind = "models"

    def checkpoint(self, tmp_path: Path) -> None:
        """Write a small checkpoint for ``params(tmp_path)``: by ``fit``, or from files that the pack ships."""
        raise NotApplicable("the case has no checkpoint(): give it one")


class DataSourceConformance(Conformance):
    """Proves a `DataSource` against what ``truth`` says it should deliver."""

    kind = "data"
    stream_bars: ClassVar[int] = 3
    """Closed bars of each symbol that the checks take from the stream."""
    patience: ClassVar[float] = 60.0
    """Real seconds that those may take."""

    @contextmanager
    def running(self, tmp_path: Path) -> Iterator[Mapping[str, Any]]:
        """Whatever the source connects to, for as long as the block; yields the parameters. Default: `params`."""
        yield self.params(tmp_path)

    def truth(self, params: Mapping[str, Any]) -> Iterable[tuple[str, Bar]]:
        """Every closed bar that the source should deliver, history and stream: (symbol, Bar) pairs, in any order."""
        raise NotApplicable("the case has no truth(): nothing to compare with")

    def disconnect(self, params: Mapping[str, Any]) -> None:
        """Cut the connections of the sources that are at work now, and take new ones. Called on the event loop."""
        raise NotApplicable("the case has no disconnect(): its connections can't be cut")

    def inject(self, params: Mapping[str, Any], fault: str, *, times: int | None = 1) -> Injection:
        """Put a fault of `FAULTS` into play for the source at work, soon; called on the event loop.

        It strikes `times` things (closes, connections, requests, files: whatever it happens to), or all of them until
        it is lifted. Raise NotApplicable for one that can't be had: the checks do without it, and say so.
        """
        raise NotApplicable("the case has no inject(): nothing goes wrong around its source")

    def violations(self, params: Mapping[str, Any]) -> int:
        """How often the source has done so far what its server forbids: requests during a ban, too many messages."""
        raise NotApplicable("the case has no violations(): what the source may not do is not counted")


class SinkConformance(Conformance):
    """Proves a `Sink`. ``read_back`` must ask the destination itself, without the sink's help.

    ``params(tmp_path)`` must name a destination of its own for each `tmp_path` (a file in it, a table named after it),
    empty at first: checks make many. Values are what JSON can hold, for the sink is made in child processes too.
    """

    kind = "sinks"
    timeout: ClassVar[float | None] = None
    """Seconds in which a call ends with the case's parameters, whatever the destination does. Default: the sink's."""
    recovery: ClassVar[float] = 10.0
    """Seconds in which the sink must be of use again after a fault or a crash."""
    crashes: ClassVar[int] = 40
    """How many places the sink is killed at; each takes an open, a batch and a read_back."""

    def read_back(self, params: Mapping[str, Any]) -> Iterable[Prediction]:
        """Everything that the destination holds, in its order, with a fresh reader; nothing if it does not exist yet.

        Raise whatever tells of a record that is torn or can't be understood.
        """
        raise NotApplicable("the case has no read_back(): what arrives can't be judged")

    def culprit(self) -> Prediction | None:
        """A record that the destination will never take, so that `Rejected` can be judged; None if there is none."""
        return None

    def destination(self, params: Mapping[str, Any]) -> tuple[str, int] | None:
        """Host and port of a network destination, to be put behind the kit's fault proxy; None if there is none."""
        return None

    def through(self, params: Mapping[str, Any], host: str, port: int) -> Mapping[str, Any]:
        """The same parameters with the destination at `host` and `port`. Needed where ``destination`` is given."""
        raise NotApplicable("the case has no through(): the sink can't be put behind the fault proxy")


CASES: dict[str, type[Conformance]] = {
    c.kind: c
    for c in (
        FeatureConformance,
        TransformConformance,
        ModelConformance,
        DataSourceConformance,
        SinkConformance,
    )
}
"""Kind → the case class of that kind."""
