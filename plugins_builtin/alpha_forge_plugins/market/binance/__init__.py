"""Binance USD-M futures: the protocol as functions of bytes, and thin loops around sockets and HTTP.

Sans-I/O: ``messages``, ``rest``, ``budget``, ``archive``, ``planner``. With I/O: ``rest_client``,
``archive_client``, ``history``, ``connection``, ``feed``. Nothing here is imported before a source is opened,
except ``endpoints``.
"""
