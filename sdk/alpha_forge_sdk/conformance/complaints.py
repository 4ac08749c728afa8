"""What a plugin's code says when it is called with something awkward."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np


def complaint(call: Callable[[], object]) -> str | None:
    """What a call raises or warns of; None if nothing."""

    # NumPy's own default, whatever the process has set: a division by zero is told, an underflow is not.
    with warnings.catch_warnings(record=True) as told, np.errstate(all="warn", under="ignore"):
        warnings.simplefilter("always")
        try:
            call()
        except Exception as error:  # noqa: BLE001 - a third party's code; whatever it raises is the finding
            return f"it raised {type(error).__name__}: {error}"
    return f"it warned: {told[0].category.__name__}: {told[0].message}" if told else None
