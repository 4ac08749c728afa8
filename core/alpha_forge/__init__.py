"""Alpha Forge: a runtime that turns live market bars into predictions, and delivers them through plugins."""

__version__ = "0.1.0"

CONTRACT_VERSION = "1.0"
"""Version of the plugin contract (`alpha_forge.contracts`). A change that breaks a plugin raises the first number."""
