"""Proof that what ran is what a replay computes: bit for bit, or the first place where it is not."""
