"""Transforms: frame → frame."""
