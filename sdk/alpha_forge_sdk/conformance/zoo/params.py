"""Plugins that each break one promise of every kind (AF-P), and correct ones that a hasty check would blame."""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib
import io
import logging
import os
import tempfile
import threading
import zoneinfo
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from alpha_forge.contracts.functions import feature
from alpha_forge.contracts.params import Params as BaseParams
from alpha_forge.contracts.plugin import Feature
from alpha_forge_sdk.conformance.case import Conformance, FeatureConformance
from alpha_forge_sdk.conformance.zoo import Specimen
from alpha_forge_sdk.conformance.zoo.change import Change, case_for

log = logging.getLogger(__name__)


class ParamsOfItsOwn(Change):
    """Its parameters are pydantic's, without what the SDK's own promise."""

    class Params(BaseModel):
        window: int = Field(5, ge=1, le=500, description="bars between the two closes")


class NeedsASecondArgument(Change):
    """Can't be made from its params alone."""

    def __init__(self, params: Any, exchange: str) -> None:
        super().__init__(params)
        self.exchange = exchange


class MisspellsItsScope(Change):
    """Declares a scope that there is not."""

    scope = "symbols"


class SaysNothing(Change):
    pass


class BreaksItsSchema(Change):
    """Puts a bound into the schema that is no number."""

    class Params(Change.Params):
        shift: int = Field(0, description="not used", json_schema_extra={"minimum": "zero"})


class ForgetsDescriptions(Change):
    """Has a parameter that nobody explains."""

    class Params(Change.Params):
        shift: int = 0


class ShowsAWrongExample(Change):
    """Its example is out of bounds."""

    examples = ({"window": 0},)


class DefaultsOutOfBounds(Change):
    """A default that its own bound forbids, hidden by examples that never use it."""

    class Params(Change.Params):
        model_config = ConfigDict(validate_default=False)

        shift: int = Field(-1, ge=0, description="not used")

    examples = ({"window": 3, "shift": 0},)


class IgnoresUnknown(Change):
    """A misspelt parameter is silently left out."""

    class Params(Change.Params):
        model_config = ConfigDict(extra="ignore")


class IgnoresUnknownInside(Change):
    """A misspelt key of a nested model is silently left out."""

    class Params(Change.Params):
        class Limits(BaseModel):
            """Bounds of the result."""

            most: float = Field(1e9, description="largest value")

        limits: Limits = Field(Limits(most=1e9), description="not used")


class ThawsItsParams(Change):
    """Params that anybody may change after validation."""

    class Params(Change.Params):
        model_config = ConfigDict(frozen=False)


class ClampsSilently(Change):
    """A window out of bounds is quietly brought back into them."""

    class Params(Change.Params):
        @field_validator("window", mode="before")
        @classmethod
        def clamp(cls, value: int) -> int:
            return min(max(value, 1), 500)


class RefusesItsSmallest(Change):
    """The schema allows a window of one bar, the constructor doesn't."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        if params.window < 2:
            raise ValueError("window must be at least 2")


class MakesAFolderAtOnce(Change):
    """Makes its directory when it is made itself."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        (Path(tempfile.gettempdir()) / "alpha-forge-zoo").mkdir(exist_ok=True)


class ReadsTheEnvironment(Change):
    """Takes a setting from the environment, past its params."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.quiet = os.environ.get("ALPHA_FORGE_ZOO_QUIET", "")


class StartsAThread(Change):
    """Has a thread from the start."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        threading.Thread(target=int, name="zoo", daemon=True).start()


class TakesAPlainPassword(Change):
    """Its password is a text like any other."""

    class Params(Change.Params):
        password: str = Field("", description="of the reference data; not used")


class WithSecret(Change):
    """A correct plugin with a secret, and with names that only sound like one."""

    class Params(Change.Params):
        api_key: SecretStr = Field(SecretStr(""), description="of the reference data; not used")
        partition_key: str = Field("symbol", description="a name, not a secret; not used")
        token_url: str = Field("", description="a place, not a secret; not used")

    examples = ({"window": 3, "api_key": "not-a-real-key"},)


class LogsItsSecret(WithSecret):
    """Tells the log what it was given."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        log.debug("using the key %s", params.api_key.get_secret_value())


class ShowsItsSecret(WithSecret):
    """Shows its secret where it is printed."""

    def __repr__(self) -> str:
        return f"ShowsItsSecret({self.params.api_key.get_secret_value()!r})"


class QuotesItsSecret(WithSecret):
    """Quotes the secret that it refuses."""

    class Params(WithSecret.Params):
        @field_validator("api_key")
        @classmethod
        def short(cls, value: SecretStr) -> SecretStr:
            if len(value.get_secret_value()) > 64:
                raise ValueError(f"{value.get_secret_value()} is too long")
            return value


class KeepsALock(Change):
    """Holds a lock before it is opened: no worker can be handed one."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.lock = threading.Lock()


class SharesABuffer(Change):
    """Every instance writes to one list."""

    last: ClassVar[list[int]] = [0]

    def compute(self, close: Any, **_: Any) -> Any:
        self.last[0] = len(close)
        return super().compute(close)


class SharesADefault(Change):
    """A mutable default argument: one dict for all instances."""

    def __init__(self, params: Any, cache: dict[str, Any] = {}) -> None:  # noqa: B006 - the defect itself
        super().__init__(params)
        self.cache = cache


class DependentBounds(Feature):
    """Correct: the fast window must be shorter than the slow one, so neither bound holds for every other value."""

    class Params(BaseParams):
        fast: int = Field(3, ge=1, le=99, description="bars of the shorter window")
        slow: int = Field(6, ge=2, le=100, description="bars of the longer window")
        weights: list[Annotated[float, Field(ge=0, le=1)]] = Field(
            [0.5, 1.0], min_length=1, description="not used"
        )

        @model_validator(mode="after")
        def ordered(self) -> Any:
            if self.fast >= self.slow:
                raise ValueError("fast must be less than slow")
            if len(set(self.weights)) < len(self.weights):
                raise ValueError("a weight stands twice")
            return self

    def lookback(self) -> int:
        return int(self.params.slow) + 1

    def compute(self, close: Any, **_: Any) -> Any:
        slow, fast = self.params.slow, self.params.fast
        values = np.full(close.shape, np.nan)
        with np.errstate(all="ignore"):
            values[slow:] = close[slow - fast : len(close) - fast] - close[:-slow]
        return values


class LazyZone(Change):
    """Correct: a time zone is read from the disk once, by whoever asks first."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.zone: dt.tzinfo = zoneinfo.ZoneInfo("UTC")


@feature("difference", lookback=lambda bars: bars + 1)
def difference(close: Any, bars: Annotated[int, Field(ge=1, le=64, description="bars back")] = 2) -> Any:
    """Correct: a plain function; change of the close over some bars."""
    values = np.full(close.shape, np.nan)
    with np.errstate(all="ignore"):
        values[bars:] = close[bars:] - close[:-bars]
    return values


def _imported(name: str) -> type[FeatureConformance]:
    """The case of a plugin whose module must not be imported with this one."""

    class ImportedCase(FeatureConformance):
        plugin = f"zoo.{name}"

        @classmethod
        def plugin_class(cls) -> Any:
            words = name[0].lower() + "".join(f"_{c.lower()}" if c.isupper() else c for c in name[1:])
            with contextlib.redirect_stdout(io.StringIO()):
                return getattr(importlib.import_module(f"{__package__}.{words}"), name)

    ImportedCase.__name__ = ImportedCase.__qualname__ = f"{name}Case"
    return ImportedCase


BROKEN: tuple[Specimen, ...] = (
    Specimen(case_for(ParamsOfItsOwn), "AF-P01", "Params derives from pydantic.main.BaseModel"),
    Specimen(case_for(NeedsASecondArgument), "AF-P01", "exchange"),
    Specimen(case_for(MisspellsItsScope), "AF-P02", "'scope' is 'symbols', not one of symbol, panel"),
    Specimen(case_for(SaysNothing), "AF-P03", "no docstring of its own"),
    Specimen(case_for(BreaksItsSchema), "AF-P04", "properties/shift/minimum"),
    Specimen(case_for(ForgetsDescriptions), "AF-P05", "Params.shift has none"),
    Specimen(case_for(ShowsAWrongExample), "AF-P06", "examples[0]: window: 0 is less than the minimum"),
    Specimen(case_for(DefaultsOutOfBounds), "AF-P06", "the default of 'shift'"),
    Specimen(case_for(IgnoresUnknown), "AF-P07", "no_such_parameter"),
    Specimen(case_for(IgnoresUnknownInside), "AF-P07", "the nested model Limits"),
    Specimen(case_for(ThawsItsParams), "AF-P08", "'window' could be assigned to"),
    Specimen(case_for(ClampsSilently), "AF-P09", "window = 0 was accepted"),
    Specimen(case_for(RefusesItsSmallest), "AF-P09", "window = 1 was refused"),
    Specimen(case_for(MakesAFolderAtOnce), "AF-P10", "made a directory"),
    Specimen(case_for(ReadsTheEnvironment), "AF-P10", "ALPHA_FORGE_ZOO_QUIET"),
    Specimen(case_for(StartsAThread), "AF-P10", "started the thread 'zoo'"),
    Specimen(_imported("ImportsHeavily"), "AF-P11", "pyarrow ("),
    Specimen(_imported("ImportsSlowly"), "AF-P12", "ms over the SDK"),
    Specimen(_imported("ImportsLoudly"), "AF-P13", "thank you for choosing"),
    Specimen(case_for(TakesAPlainPassword), "AF-P14", "'password' is a plain text"),
    Specimen(case_for(LogsItsSecret), "AF-P15", "printed or logged"),
    Specimen(case_for(ShowsItsSecret), "AF-P15", "repr of the instance"),
    Specimen(case_for(QuotesItsSecret), "AF-P15", "the error for a secret that is long"),
    Specimen(case_for(KeepsALock), "AF-P16", "lock"),
    Specimen(case_for(SharesABuffer), "AF-P17", "changed the class's 'last'"),
    Specimen(case_for(SharesADefault), "AF-P17", "the same dict as 'cache'"),
)
CORRECT: tuple[type[Conformance], ...] = (
    case_for(Change),
    case_for(WithSecret),
    case_for(DependentBounds),
    case_for(LazyZone),
    case_for(difference),
)
