"""Faults of the WebSocket side: what is published, and what each connection makes of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from websockets.frames import Frame as WireFrame
from websockets.frames import Opcode

from alpha_forge_sdk.sandbox.faults import Deed, Frame, Hangup, Later, Mute
from alpha_forge_sdk.sandbox.feed import Push
from alpha_forge_sdk.sandbox.hostile.dice import Armed, Arsenal
from alpha_forge_sdk.sandbox.hostile.kinds import STREAM_KINDS
from alpha_forge_sdk.sandbox.http import Response, json_response
from alpha_forge_sdk.sandbox.intervals import next_ms

_GARBAGE: Final = ("malformed", "truncated", "types", "unknown", "list", "binary", "utf8")
_PUBLICATION: Final = tuple(name for name, kind in STREAM_KINDS.items() if kind.place == "publication")
_CONNECTION: Final = tuple(name for name, kind in STREAM_KINDS.items() if kind.place == "connection")


class StreamFaults:
    """Plays the rules that concern streams and connections. One event loop only."""

    def __init__(self, arsenal: Arsenal) -> None:
        self._arsenal = arsenal
        #: (connection, stream) → whether a new subscription ends the silence
        self._silent: dict[tuple[int, str], bool] = {}
        self._asked: dict[str, int] = {}
        self._handshakes = 0
        self._connections = 0
        self._held: dict[str, float] = {}
        #: What was struck inside a bar: the connection that takes the place of this one is spared.
        self._inside: set[tuple[Armed, str, int]] = set()
        self._deeds: dict[str, Callable[[Armed, int, Push], list[Deed]]] = {
            "server_shutdown": self._server_shutdown,
            "silent_stream": self._silence,
            "stall": lambda armed, connection, push: [Mute()],
            "disconnect": self._disconnect,
            "close": lambda armed, connection, push: [
                Hangup(armed.rule.option("code"), armed.rule.option("reason"))
            ],
            "too_many_requests": lambda armed, connection, push: [Hangup(1008, "Too many requests")],
        }

    # Publication: the same for every connection.

    def publish(self, push: Push) -> Sequence[Push | Later]:
        """What is published in place of `push`."""
        if not self._arsenal.has(_PUBLICATION):
            return (push,)
        found: list[Push | Later] = [push]
        if push.closed:
            for armed in self._struck("missing_close", push):
                return self._done(armed, [])
            for armed in self._struck("late_close", push):
                due = push.event_ms + armed.rule.option("delay")
                found = self._done(armed, [Later(_stamped(push, due), due)])
            for armed in self._struck("duplicate_close", push):
                due = push.event_ms + armed.rule.option("delay")
                copies = [_delayed(push, due)] * armed.rule.option("copies")
                found = self._done(armed, [*found, *copies])
            for armed in self._struck("changed_close", push):
                due = push.event_ms + armed.rule.option("delay")
                found = self._done(armed, [*found, _delayed(_changed(push), due)])
        return self._shuffled(push, found)

    def _shuffled(self, push: Push, found: list[Push | Later]) -> list[Push | Later]:
        """The messages held back, each stream's in their own order."""
        if not self._arsenal.of("out_of_order"):
            return found
        due = float(push.event_ms)
        for armed in self._arsenal.of("out_of_order"):
            thing = (push.stream, push.open_ms, push.event_ms if not push.closed else "close")
            if armed.concerns(push.symbol, push.interval) and armed.strikes(push.event_ms, *thing):
                due = max(due, push.event_ms + armed.draw("held", *thing) * armed.rule.option("window"))
                self._arsenal.count("out_of_order")
        due = max(due, self._held.get(push.stream, due))
        if due <= push.event_ms:
            return found
        self._held[push.stream] = due
        held: list[Push | Later] = []
        for item in found:
            inner, at = (item.item, item.due_ms) if isinstance(item, Later) else (item, due)
            held.append(Later(inner, max(at, due)))
        return held

    # Connections: each on its own.

    def accept(self, path: str, now_ms: float) -> Response | None:
        """A refusal of the handshake, or None."""
        self._handshakes += 1
        for armed in self._arsenal.of("refuse_connect"):
            if armed.concerns(None, None, path) and armed.strikes(now_ms, "handshake", self._handshakes):
                self._arsenal.count("refuse_connect")
                wait = armed.rule.option("retry_after")
                headers = {} if wait is None else {"Retry-After": str(wait)}
                status = armed.rule.option("status")
                return json_response({"code": -1000, "msg": "refused"}, status, headers)
        return None

    def connected(self, connection: int, now_ms: float) -> Sequence[Later]:
        """The end of a connection whose life is bounded."""
        self._connections += 1
        for armed in self._arsenal.of("daily_disconnect"):
            if armed.strikes(now_ms, "connection", self._connections):
                self._arsenal.count("daily_disconnect")
                due = now_ms + armed.rule.option("lifetime")
                return [Later(Hangup(1001, "Connection lifetime reached"), due)]
        return ()

    def subscribed(self, connection: int, stream: str, now_ms: float) -> None:
        """A subscription: it ends a silence that lasts until then, and may be born silent."""
        if self._silent.get((connection, stream)):
            del self._silent[connection, stream]
        rules = self._arsenal.of("silent_subscription")
        if not rules:
            return
        time = self._asked[stream] = self._asked.get(stream, 0) + 1
        symbol, _, tail = stream.partition("@")
        interval = tail.rpartition("_")[2]
        for armed in rules:
            if armed.concerns(symbol.upper(), interval) and armed.strikes(now_ms, stream, time):
                self._silent[connection, stream] = armed.rule.option("life") == "subscription"
                self._arsenal.count("silent_subscription")

    def ended(self, connection: int) -> None:
        """Forget a connection."""
        for key in [key for key in self._silent if key[0] == connection]:
            del self._silent[key]

    def deliver(self, connection: int, push: Push) -> Sequence[Deed]:
        """What is sent on a connection in place of `push`."""
        if self._silent and (connection, push.stream) in self._silent:
            return ()
        if not (push.closed or self._arsenal.inside) or not self._arsenal.has(_CONNECTION):
            return (push,)
        found: list[Deed] = [push]
        for armed in self._hit("garbage", push):
            before = _garbage(armed, push)
            found = self._done(armed, [before] if armed.rule.option("replaces") else [before, *found])
        for armed in self._hit("oversized", push):
            size = armed.rule.option("bytes")
            found = self._done(armed, [_text_frame('{"e":"padding","pad":"' + "0" * size + '"}'), *found])
        for kind, deed in self._deeds.items():
            for armed in self._hit(kind, push):
                self._arsenal.count(kind)
                deeds = deed(armed, connection, push)
                # The end of the connection comes in place of the close; a farewell comes after it.
                return [*found, *deeds] if kind == "server_shutdown" else [*_without(found, push), *deeds]
        return found

    def _server_shutdown(self, armed: Armed, connection: int, push: Push) -> list[Deed]:
        due = push.event_ms + armed.rule.option("lead")
        text = f'{{"e":"serverShutdown","E":{push.event_ms}}}'
        farewell = Push("!serverShutdown", text, push.event_ms, False)
        return [farewell, Later(Hangup(1001, "Server shutdown"), due)]

    def _silence(self, armed: Armed, connection: int, push: Push) -> list[Deed]:
        self._silent[connection, push.stream] = armed.rule.option("life") == "subscription"
        return []

    def _disconnect(self, armed: Armed, connection: int, push: Push) -> list[Deed]:
        share = armed.rule.option("share")
        if share is None:
            share = armed.draw("share", push.stream, push.open_ms)
        return [Hangup(torn=push, share=share, reset=armed.rule.option("reset"))]

    def _struck(self, kind: str, push: Push) -> list[Armed]:
        """The first rule of the kind that strikes this close, in a list; none: an empty one."""
        for armed in self._arsenal.of(kind):
            if armed.concerns(push.symbol, push.interval) and armed.strikes(
                push.event_ms, push.stream, push.open_ms
            ):
                return [armed]
        return []

    def _hit(self, kind: str, push: Push) -> list[Armed]:
        """The first rule of the kind that strikes a connection with this push, in a list.

        A rule strikes every connection with a close; or, if it says inside, one, with the stream's first push after a
        drawn point of the bar.
        """
        for armed in self._arsenal.of(kind):
            if not armed.concerns(push.symbol, push.interval):
                continue
            inside = armed.rule.option("inside")
            if not push.closed and not inside:
                continue
            if not armed.strikes(push.event_ms, push.stream, push.open_ms):
                continue
            if inside:
                length = next_ms(push.open_ms, push.interval) - push.open_ms
                point = push.open_ms + armed.draw("point", push.stream, push.open_ms) * length
                key = (armed, push.stream, push.open_ms)
                if push.event_ms < point or key in self._inside:
                    continue
                self._inside.add(key)
            return [armed]
        return []

    def _done(self, armed: Armed, result: list[Any]) -> list[Any]:
        self._arsenal.count(armed.rule.kind)
        return result


def _without(found: list[Deed], push: Push) -> list[Deed]:
    return [item for item in found if item is not push]


def _delayed(push: Push, due: float) -> Push | Later:
    return push if due <= push.event_ms else Later(_stamped(push, int(due)), due)


def _stamped(push: Push, event_ms: int) -> Push:
    """The push with another event time."""
    text = push.text.replace(f'"E":{push.event_ms}', f'"E":{event_ms}', 1)
    return Push(push.stream, text, event_ms, push.closed, push.open_ms, push.symbol, push.interval)


def _changed(push: Push) -> Push:
    """The close with another closing price (still within low and high) and a larger volume."""
    bar = json.loads(push.text)["k"]
    other = next((bar[name] for name in ("h", "l", "o") if bar[name] != bar["c"]), bar["c"])
    text = push.text.replace(f'"c":"{bar["c"]}"', f'"c":"{other}"', 1)
    text = re.sub(r'"v":"(\d)', r'"v":"1\1', text, count=1)
    return Push(push.stream, text, push.event_ms, True, push.open_ms, push.symbol, push.interval)


def _garbage(armed: Armed, push: Push) -> Frame:
    """A message that no kline parser can use."""
    form = armed.rule.option("form")
    if form is None:
        form = _GARBAGE[int(armed.draw("form", push.stream, push.open_ms) * len(_GARBAGE))]
    share = armed.draw("cut", push.stream, push.open_ms)
    if form == "malformed":
        return _text_frame(push.text.replace(":", ";", 3))
    if form == "truncated":
        return _text_frame(push.text[: 1 + int(share * (len(push.text) - 1))])
    if form == "types":
        text = re.sub(r'"t":\d+', '"t":"soon"', push.text, count=1)
        return _text_frame(re.sub(r'"c":"[^"]*"', '"c":null', text, count=1))
    if form == "unknown":
        return _text_frame(f'{{"e":"liquidityReport","E":{push.event_ms},"s":"{push.symbol}","z":[1,2]}}')
    if form == "list":
        return _text_frame(f"[{push.text}]")
    if form == "binary":
        return Frame(WireFrame(Opcode.BINARY, push.text.encode()[::-1]).serialize(mask=False))
    return Frame(WireFrame(Opcode.TEXT, b'{"e":"\xff\xfe\x80"}').serialize(mask=False))


def _text_frame(text: str) -> Frame:
    return Frame(WireFrame(Opcode.TEXT, text.encode()).serialize(mask=False))
