"""Journals of runs: every bar in the order it was processed, and what was predicted of it."""
