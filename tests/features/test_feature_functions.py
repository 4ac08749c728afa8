"""`@feature`: what becomes of a plain function."""

from __future__ import annotations

import pickle
from typing import Annotated

import numpy as np
import pytest
from pydantic import Field

from alpha_forge_sdk import feature


@feature("gap", lookback=lambda back: back + 1, outputs=("gap",))
def gap(open, close, back: Annotated[int, Field(ge=1, description="bars between the two")] = 1):
    """Open over the close `back` bars ago."""
    out = np.full_like(close, np.nan)
    out[back:] = open[back:] / close[:-back]
    return out


def test_its_class_says_what_the_function_says():
    made = gap(gap.Params(back=3))
    assert gap.input_names() == ("open", "close")
    assert gap.outputs == ("gap",)
    assert made.lookback() == 4
    assert gap.Params.model_fields["back"].description == "bars between the two"
    assert gap.__doc__ == "Open over the close `back` bars ago."
    ones = np.ones((5, 2))
    assert np.isnan(made.compute(ones, ones)[:3]).all()
    assert (made.compute(ones, ones)[3:] == 1).all()


def test_it_travels_to_a_worker():
    """The class and its parameters are found under their names."""
    made = pickle.loads(pickle.dumps(gap(gap.Params(back=2))))  # noqa: S301 - what was pickled a moment ago
    assert type(made) is gap
    assert made.params == gap.Params(back=2)


def test_a_parameter_needs_a_type_and_a_feature_a_column():
    with pytest.raises(TypeError, match="parameter 'window' needs a type"):
        feature("untyped", lookback=1)(lambda close, window=3: close)
    with pytest.raises(TypeError, match="takes no column"):
        feature("empty", lookback=1)(lambda: None)
