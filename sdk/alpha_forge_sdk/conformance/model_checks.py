"""Placeholder until its checks are written."""

from alpha_forge_sdk.conformance.check import Check

CHECKS: tuple[Check, ...] = ()
