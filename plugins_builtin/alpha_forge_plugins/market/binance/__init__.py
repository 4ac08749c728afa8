"""Binance, USD-M futures and spot: the protocol as functions of bytes and instants, and thin loops around it.

Sans-I/O: ``venue``, ``messages``, ``session``, ``shard``, ``connects``, ``rest``, ``budget``, ``archive``,
``planner``. With I/O: ``rest_client``, ``archive_client``, ``history``, ``connection``, ``feed``. Nothing here is
imported before a source is opened, except ``source``, ``endpoints`` and ``venue``.
"""
