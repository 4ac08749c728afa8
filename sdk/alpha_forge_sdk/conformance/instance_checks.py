"""AF-P, third part: what holds for every instance: made without I/O, telling no secret, pickled, sharing nothing."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import logging
import pickle
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from alpha_forge_sdk.conformance.case import Conformance
from alpha_forge_sdk.conformance.check import Broken, Check, NotApplicable, check
from alpha_forge_sdk.conformance.params_checks import EVERY_KIND
from alpha_forge_sdk.conformance.params_subject import Field, Subject, an_example, given
from alpha_forge_sdk.conformance.watching import watched


@check(
    "AF-P10",
    "making an instance does no I/O",
    *EVERY_KIND,
    remedy="keep the params in __init__; files, sockets, threads and the environment are for open() or load()",
    needs=("AF-P06",),
)
def no_io(case: Conformance, tmp_path: Path) -> None:
    """Plugins are made to check a configuration, to draw its plan and to show parameters, on machines that
    have no database and no right to write. Resources belong to `open` or `load`, whose end is in `close`."""
    plugin: Any = case.plugin_class()
    values = given(case, tmp_path)
    promised = (
        "validating params and making an instance touch no file, socket, thread or environment variable"
    )

    def make() -> None:
        plugin(plugin.Params.model_validate(dict(values)))

    # A first use may read what is then kept (time zones, lazy imports); it never writes, connects or starts anything.
    with watched() as first:
        make()
    if first.lasting:
        raise Broken(promised, first.lasting[0])
    with watched() as second:
        make()
    if second.all:
        raise Broken(promised, second.all[0])


_SECRET = re.compile(r"passwords?|passwd|pwd|passphrase|secrets?|tokens?|credentials?|api_?keys?|keys?")
_PLAIN_KEYS = frozenset(
    {
        "partition",
        "sort",
        "primary",
        "foreign",
        "hash",
        "range",
        "routing",
        "row",
        "group",
        "cache",
        "index",
        "join",
        "dedup",
        "deduplication",
        "idempotency",
        "shard",
        "sharding",
        "message",
        "column",
        "record",
        "object",
        "lookup",
        "stream",
        "public",
        "field",
        "order",
        "unique",
        "natural",
        "surrogate",
    }
)
"""Words that make a key a name: ``partition_key`` is no secret."""


def sounds_secret(name: str) -> bool:
    """True for a parameter named like password, secret, token or key (``api_key``, but not ``partition_key``)."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_")
    # What the last word names is what the value is: the `token_url` is a URL.
    if _SECRET.fullmatch(words[-1]) is None:
        return False
    return not (words[-1] in ("key", "keys") and any(word in _PLAIN_KEYS for word in words[:-1]))


def _takes_text(field: Field) -> bool:
    return any(o.get("type") == "string" and "enum" not in o and "const" not in o for o in field.options)


@check(
    "AF-P14",
    "parameters that hold secrets are SecretStr",
    *EVERY_KIND,
    remedy="type it pydantic.SecretStr, and ask .get_secret_value() only where it is used",
    needs=("AF-P06",),
)
def secrets_typed(case: Conformance, tmp_path: Path) -> None:
    """A `SecretStr` hides itself in every repr, log and error message. A plain string shows up in the first
    traceback."""
    from alpha_forge.dsl.param_errors import is_secret

    subject, example = an_example(case)
    secret = []
    for field in subject.fields(example):
        name = str(field.place[-1])
        if not sounds_secret(name) or not _takes_text(field):
            continue
        secret.append(name)
        if not all(is_secret(o) for o in field.options if o.get("type") == "string"):
            raise Broken(
                "a parameter named like password, secret, token or key is a SecretStr",
                f"'{field.name}' is a plain text: it would show in logs and errors",
            )
    if not secret:
        raise NotApplicable("no parameter is named like a secret")


_CANARY = "canary5ecret"


@check(
    "AF-P15",
    "secrets are never shown",
    *EVERY_KIND,
    remedy="keep the SecretStr itself on the instance; put no secret into messages, repr or logs",
    needs=("AF-P14",),
)
def secrets_hidden(case: Conformance, tmp_path: Path) -> None:
    """A `SecretStr` hides only itself: a copy of its text in an attribute, in a log line or in an error's
    message ends up in logs that many can read."""
    from alpha_forge.dsl.param_errors import is_secret

    subject = Subject(case)
    values = given(case, tmp_path)
    places = [field for field in subject.fields(values) if is_secret(field.schema)]
    if not places:
        raise NotApplicable("no parameter is a secret")
    planted = values
    for field in places:
        planted = subject.put(planted, field.place, _CANARY)
    promised = "the value of a secret is in no repr, str, log line, output or error"
    for where, text in [*_of_instance(subject, planted), *_of_errors(subject, planted, places)]:
        if _CANARY in text:
            shown = text[max(0, text.index(_CANARY) - 40) :][:80].replace(_CANARY, "*** (the secret)")
            raise Broken(promised, f"{where}: …{shown}…")


def _of_instance(subject: Subject, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(where, text) of what params and an instance say of themselves, and of what was said while they were made."""
    from pydantic import ValidationError

    try:
        with _overheard() as heard:
            params = subject.model.model_validate(dict(values))
            instance = subject.plugin(params)
    except ValidationError as error:
        # The made-up secret has not the form that is asked for; how it was refused is all there is to read.
        yield "the error that refuses a secret", str(error)
        return
    yield "what was printed or logged while the instance was made", heard()
    for what, thing in (("params", params), ("the instance", instance)):
        yield f"repr of {what}", repr(thing)
        yield f"str of {what}", str(thing)
        with contextlib.suppress(Exception):  # whether it can be pickled is another check's question
            yield f"repr of {what} after a pickle round trip", repr(pickle.loads(pickle.dumps(thing)))  # noqa: S301


def _of_errors(
    subject: Subject, values: Mapping[str, Any], secrets: list[Field]
) -> Iterator[tuple[str, str]]:
    """(where, text) of the errors for parameters that are wrong beside the secret, or whose secret is wrong itself."""
    wrong = {"an unknown parameter": {**values, "no_such_parameter": 1}}
    for name in subject.model.model_fields:
        wrong[f"a missing '{name}'"] = {k: v for k, v in values.items() if k != name}
        if all(name != field.place[0] for field in secrets):
            wrong[f"a wrong '{name}'"] = {**values, name: object()}
    for field in secrets:
        for how, bad in (("a list", [_CANARY]), ("long", _CANARY * 1000), ("spaced", f" {_CANARY}\n")):
            wrong[f"a secret that is {how}"] = subject.put(values, field.place, bad)
    for what, changed in wrong.items():
        try:
            with _overheard() as heard:
                subject.plugin(subject.model.model_validate(changed))
        except Exception as error:  # noqa: BLE001 - whatever it raises must not tell
            yield f"the error for {what}", f"{error} {error!r}"
        yield f"what was printed or logged with {what}", heard()


@contextlib.contextmanager
def _overheard() -> Iterator[Callable[[], str]]:
    """What is printed, and logged at any level, inside."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    root = logging.getLogger()
    level, disabled = root.level, logging.root.manager.disable
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    logging.disable(logging.NOTSET)
    try:
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            yield text.getvalue
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        logging.disable(disabled)


@check(
    "AF-P16",
    "an unopened instance survives a pickle round trip",
    *EVERY_KIND,
    remedy="make locks, connections and caches in open() or load(); define the class at the top of its module",
    needs=("AF-P06",),
)
def pickles(case: Conformance, tmp_path: Path) -> None:
    """Work that moves to another process takes the plugin with it, unopened. Locks, connections, lambdas and
    local classes can't travel."""
    plugin: Any = case.plugin_class()
    params = plugin.Params.model_validate(given(case, tmp_path))
    instance = plugin(params)
    promised = "workers get params and unopened instances by pickle, unchanged"
    for what, thing in (("Params", params), (plugin.__name__, instance)):
        try:
            copied = pickle.loads(pickle.dumps(thing))  # noqa: S301 - what was pickled the line before
        except Exception as error:
            raise Broken(promised, f"{what}: {type(error).__name__}: {error}") from error
        if type(copied) is not type(thing):
            raise Broken(promised, f"{what} came back as {type(copied).__qualname__}")
        before, after = (getattr(x, "params", x) for x in (thing, copied))
        if after != before:
            raise Broken(promised, f"{what} came back with other params: {after!r}, not {before!r}")


_CONTAINERS = (list, dict, set, bytearray, deque)


def _mutable(value: Any) -> bool:
    import numpy as np

    return isinstance(value, _CONTAINERS) or (isinstance(value, np.ndarray) and value.flags.writeable)


@check(
    "AF-P17",
    "two instances share no state",
    *EVERY_KIND,
    remedy="make what changes in __init__: self.buffer = []; nothing mutable in the class or in a default argument",
    needs=("AF-P16",),
)
def nothing_shared(case: Conformance, tmp_path: Path) -> None:
    """The same plugin stands in a configuration several times, with other parameters or for other symbols.
    What one instance keeps on the class, or in a default argument, another one reads."""
    plugin: Any = case.plugin_class()
    promised = "an instance is independent of every other one"
    before = _of_class(plugin)
    one, other = (case.make(tmp_path) for _ in range(2))
    held = {id(value): name for name, value in _attributes(one) if _mutable(value)}
    for name, value in _attributes(other):
        if id(value) in held:
            raise Broken(promised, f"both instances hold the same {type(value).__name__} as '{name}'")
    _use(case, one, tmp_path)
    for name, text in _of_class(plugin).items():
        if before.get(name, text) != text:
            raise Broken(promised, f"using one instance changed the class's '{name}', which all others see")


def _attributes(instance: Any) -> Iterator[tuple[str, Any]]:
    names = {**getattr(instance, "__dict__", {})}
    for base in type(instance).__mro__:
        slots = vars(base).get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if hasattr(instance, slot):
                names[slot] = getattr(instance, slot)
    # Equal params are shared by whoever hands them in; they are frozen.
    return ((name, value) for name, value in names.items() if name != "params")


def _of_class(plugin: type) -> dict[str, str]:
    """The class's own mutable attributes, and those of its bases, as text."""
    import numpy as np

    found: dict[str, str] = {}
    for base in plugin.__mro__:
        if base.__module__.startswith("alpha_forge.contracts"):
            break
        for name, value in vars(base).items():
            if _mutable(value) and not name.startswith("__"):
                # numpy's own repr leaves out the middle.
                found.setdefault(name, repr(value.tolist() if isinstance(value, np.ndarray) else value))
    return found


def _use(case: Any, instance: Any, tmp_path: Path) -> None:
    """Put the instance to its ordinary use once. Whether that works is for the checks of its kind."""
    with contextlib.suppress(Exception):
        match case.kind:
            case "features":
                columns = case.columns(200, 2, 0)
                state = (instance.start(2),) if hasattr(instance, "advance") else ()
                work = instance.advance if state else instance.compute
                work(*state, *(columns[name].copy() for name in type(instance).input_names()))
            case "models":
                import numpy as np

                case.checkpoint(tmp_path)
                spec = instance.describe()
                instance.load()
                instance.predict(np.zeros((instance.batch, spec.window, len(spec.columns)), dtype=np.float32))
            case "sinks":
                asyncio.run(_deliver(instance))


async def _deliver(sink: Any) -> None:
    import datetime as dt

    from alpha_forge.contracts.plugin import Sink
    from alpha_forge.contracts.types import Prediction

    metadata = {"frame": "ohlcv", "column": "prediction", "dag_name": "conformance"}
    record = Prediction("BTCUSDT", dt.datetime(2026, 1, 5, tzinfo=dt.UTC), 0.5, metadata)
    whole = type(sink).emit_batch is not Sink.emit_batch
    try:
        for call in (
            sink.open,
            (lambda: sink.emit_batch([record]))
            if whole
            else (lambda: sink.emit(record.symbol, record.ts, record.value, record.metadata)),
        ):
            result = call()
            if inspect.isawaitable(result):
                await result
    finally:
        result = sink.close()
        if inspect.isawaitable(result):
            await result


CHECKS: tuple[Check, ...] = (no_io, secrets_typed, secrets_hidden, pickles, nothing_shared)
