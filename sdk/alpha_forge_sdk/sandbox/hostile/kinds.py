"""Every kind of fault: where it strikes, what it does, its options. Parser, player and page read this one table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from alpha_forge_sdk.sandbox.hostile.values import Option

#: What a client can be expected to make of a fault.
EFFECTS: Final[dict[str, str]] = {
    "lossless": "every bar of the market can still be had, with its value",
    "holes": "the market itself lacks bars, in every channel alike",
    "revises": "two channels, or two messages, tell one bar differently",
    "fatal": "the exchange is of no use while it lasts",
}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault. `place` is what it strikes: `publication`, `connection`, `subscription`, `handshake`, `http`,
    `rest`, `archive` or `market`."""

    place: str
    about: str
    options: dict[str, Option] = field(default_factory=dict)
    effect: str = "lossless"


def _duration(default: int, about: str, least: float = 0) -> Option:
    return Option("duration", default, about, least=least)


_LIFE: Final = Option(
    "choice",
    "subscription",
    "silent until the client subscribes to the stream again, or for the life of the connection",
    choices=("subscription", "connection"),
)
_INSIDE: Final = Option("flag", False, "strike at a drawn point inside the bar, not at its close")
_ROWS: Final = Option("whole", 3, "rows concerned, at most", least=1)
_SPAN: Final = _duration(500, "real time that the body takes", least=1)

STREAM_KINDS: Final[dict[str, Kind]] = {
    "disconnect": Kind(
        "connection",
        "The TCP connection is cut inside the frame of a close.",
        {
            "share": Option("share", None, "part of the frame that is still sent; drawn by default"),
            "reset": Option("flag", False, "end with a TCP reset"),
            "inside": _INSIDE,
        },
    ),
    "close": Kind(
        "connection",
        "The exchange closes the connection in place of a bar's close.",
        {
            "code": Option("whole", 1001, "close code", least=1000, most=4999),
            "reason": Option("text", "Going away", "reason given"),
            "inside": _INSIDE,
        },
    ),
    "too_many_requests": Kind(
        "connection", "The connection is closed with 1008 in place of a bar's close.", {"inside": _INSIDE}
    ),
    "stall": Kind(
        "connection",
        "From a bar's close on the connection says nothing more, no pong either; it stays open.",
        {"inside": _INSIDE},
    ),
    "silent_stream": Kind(
        "connection",
        "From a bar's close on its stream is silent while the others go on.",
        {"life": _LIFE, "inside": _INSIDE},
    ),
    "silent_subscription": Kind(
        "subscription", "A subscription is acknowledged and never delivers.", {"life": _LIFE}
    ),
    "garbage": Kind(
        "connection",
        "A message that is no kline event comes before a bar's close.",
        {
            "form": Option(
                "choice",
                None,
                "what is wrong with it; drawn by default",
                choices=("malformed", "truncated", "types", "unknown", "list", "binary", "utf8"),
            ),
            "replaces": Option("flag", False, "the message comes in place of the close"),
            "inside": _INSIDE,
        },
    ),
    "oversized": Kind(
        "connection",
        "A huge frame comes before a bar's close.",
        {"bytes": Option("whole", 1_500_000, "its size", least=1, most=48_000_000), "inside": _INSIDE},
    ),
    "server_shutdown": Kind(
        "connection",
        "The event serverShutdown comes after a bar's close, and later the end of the connection.",
        {"lead": _duration(10_000, "exchange time between the two"), "inside": _INSIDE},
    ),
    "daily_disconnect": Kind(
        "handshake",
        "The connection ends at a fixed age, as after 24 hours.",
        {"lifetime": _duration(3_600_000, "exchange time that it lives", least=1)},
    ),
    "refuse_connect": Kind(
        "handshake",
        "The WebSocket handshake is answered with an HTTP error.",
        {
            "status": Option("whole", 503, "HTTP status", least=400, most=599),
            "retry_after": Option("whole", None, "Retry-After in real seconds; none by default"),
        },
    ),
    "duplicate_close": Kind(
        "publication",
        "A bar's close is sent more than once.",
        {
            "copies": Option("whole", 1, "copies beyond the first", least=1, most=100),
            "delay": _duration(0, "exchange time until the copies"),
        },
    ),
    "late_close": Kind(
        "publication",
        "A bar's close is sent late; REST has the bar in time.",
        {"delay": _duration(5000, "exchange time by which it is late", least=1)},
    ),
    "missing_close": Kind("publication", "A bar's close is never sent; the next push is of the next bar."),
    "changed_close": Kind(
        "publication",
        "A second close with other values follows.",
        {"delay": _duration(5000, "exchange time until the second")},
        effect="revises",
    ),
    "out_of_order": Kind(
        "publication",
        "A stream's messages are held back, so that symbols overtake each other.",
        {"window": _duration(2000, "longest exchange time that a message is held", least=1)},
    ),
}

HTTP_KINDS: Final[dict[str, Kind]] = {
    "http_429": Kind(
        "rest",
        "Status 429.",
        {"retry_after": Option("whole", 1, "Retry-After in real seconds; 0 leaves it out")},
    ),
    "http_418": Kind(
        "rest",
        "A ban: status 418 for every REST request until it ends. A request during the ban prolongs it.",
        {
            "ban": _duration(120_000, "exchange time that the ban lasts after the last request", least=1),
            "retry_after": Option("flag", True, "send Retry-After"),
        },
    ),
    "http_5xx": Kind(
        "http",
        "A server error.",
        {"status": Option("whole", 503, "HTTP status", least=500, most=599)},
    ),
    "http_451": Kind("http", "Status 451: a restricted location.", effect="fatal"),
    "http_403": Kind("http", "Status 403 with the page of a firewall.", effect="fatal"),
    "html_200": Kind("http", "Status 200 with the page of a proxy.", effect="fatal"),
    "truncated_body": Kind(
        "http",
        "The connection ends inside the body.",
        {"share": Option("share", None, "part of the body that is sent; drawn by default")},
    ),
    "slow_body": Kind("http", "The body comes in small pieces.", {"span": _SPAN}),
    "reset": Kind("http", "The TCP connection is reset in place of an answer."),
    "rest_lag": Kind(
        "rest",
        "REST lacks the newest closed bars for a while after the stream has sent them.",
        {"lag": _duration(5000, "exchange time after a bar's end", least=1)},
    ),
    "wrong_clock": Kind(
        "rest",
        "The server time that REST tells is off.",
        {"offset": Option("duration", -5000, "by so much; may be negative", least=float("-inf"))},
    ),
    "stale_listing": Kind(
        "archive",
        "The archive's listing lacks what was published of late.",
        {"lag": _duration(86_400_000, "exchange time since publication", least=1)},
    ),
}

ARCHIVE_KINDS: Final[dict[str, Kind]] = {
    "wrong_checksum": Kind("archive", "A checksum file names another digest."),
    "missing_file": Kind(
        "archive",
        "A file is not there.",
        {"listed": Option("flag", True, "the listing and the checksum still show it")},
    ),
    "missing_checksum": Kind("archive", "A file's checksum is not there."),
    "reuploaded": Kind(
        "archive",
        "A file's values differ from those of REST; its checksum is right.",
        {"rows": _ROWS},
        "revises",
    ),
    "cut_day": Kind(
        "archive",
        "A file ends early; its checksum is right.",
        {"share": Option("share", 0.3, "part of the rows that is left")},
    ),
    "header": Kind("archive", "A file has a header where its kind has none, or the other way round."),
    "microseconds": Kind(
        "archive", "A file counts in microseconds where its kind doesn't, or the other way round."
    ),
    "corrupt_zip": Kind("archive", "A zip is damaged; its checksum is right."),
    "zip_bomb": Kind(
        "archive",
        "A small zip unpacks to very much.",
        {
            "bytes": Option("whole", 1 << 29, "unpacked size", least=1 << 20, most=1 << 32),
            "lies": Option("flag", False, "its directory tells a small size"),
        },
    ),
    "off_grid_rows": Kind("archive", "Some rows open off the interval's grid.", {"rows": _ROWS}),
    "duplicate_rows": Kind("archive", "Some rows come twice.", {"rows": _ROWS}),
}

MARKET_KINDS: Final[dict[str, Kind]] = {
    "outage": Kind("market", "No trades from `from` until `until`: a hole in every channel.", effect="holes"),
    "list": Kind("market", "A symbol is listed at `from`; it has no bars before.", effect="holes"),
    "delist": Kind("market", "A symbol is delisted at `from`; it has no bars after.", effect="holes"),
}

KINDS: Final[dict[str, Kind]] = {**STREAM_KINDS, **HTTP_KINDS, **ARCHIVE_KINDS, **MARKET_KINDS}

#: The kinds by what they strike, for readers.
SECTIONS: Final[dict[str, tuple[str, ...]]] = {
    "WebSocket": tuple(STREAM_KINDS),
    "HTTP": tuple(HTTP_KINDS),
    "Archive files": tuple(ARCHIVE_KINDS),
    "The market": tuple(MARKET_KINDS),
}
