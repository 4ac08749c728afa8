"""Which packs are installed and which plugins they give, found without importing any plugin."""

from __future__ import annotations

from alpha_forge.registry.catalogue import Catalogue
from alpha_forge.registry.discovery import BLOCK_VARIABLE, discover
from alpha_forge.registry.records import PackRecord, PluginRecord, RegistryError

__all__ = ["BLOCK_VARIABLE", "Catalogue", "PackRecord", "PluginRecord", "RegistryError", "discover"]
