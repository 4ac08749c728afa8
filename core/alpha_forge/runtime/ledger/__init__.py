"""The ledger of bars: where each processed bar came from, what it said, and the proof that none is missing."""
