"""A campaign of hostile runs: made-up markets, random fault scripts, and every bar compared with the truth.

``market`` and ``expected`` are the truth, and import nothing of the product.
"""
