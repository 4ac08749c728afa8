"""Benchmarks: ours beside peers and beside the limit, in turn, after the answers agree. ``make bench`` runs them."""
