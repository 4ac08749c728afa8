"""Conformance cases of the built-in plugins that need more than their examples; found by the pack's hook."""
