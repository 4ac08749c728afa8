"""Property tests draw the same examples each time, so that what is green stays green until somebody changes something.
``AF_HYPOTHESIS=searching`` looks for new ones."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True)
settings.register_profile("searching")
settings.load_profile(os.environ.get("AF_HYPOTHESIS", "repeatable"))
