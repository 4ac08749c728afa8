"""New packs from templates: what ``alpha_forge plugins new`` calls.

>>> from alpha_forge_sdk.scaffold import new_pack
>>> new_pack("sinks", "kafka", options={"style": "async"}).folder      # doctest: +SKIP
PosixPath('alpha-forge-kafka')
"""

from __future__ import annotations

from alpha_forge_sdk.scaffold.packs import NewPack, ScaffoldError, new_pack, options_of

__all__ = ["NewPack", "ScaffoldError", "new_pack", "options_of"]
