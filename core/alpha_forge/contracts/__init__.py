"""What plugins, packs and the runtime agree on.

Nothing is imported here: a pack's ``__init__`` needs only the hook marker, and listing plugins must not
pay for numpy. Import from the submodules, or, as an author, from ``alpha_forge_sdk``.
"""
