"""`alpha_forge sandbox`: the local exchange on its own."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from alpha_forge_sdk.sandbox import FaultScript, SandboxConfig, SandboxExchange


class _Refusal(click.ClickException):
    """Bad input: one line on stderr and exit code 2."""

    exit_code = 2


def _parse_start(context: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    """`--start` as exchange milliseconds; a time without a zone is UTC."""
    if text is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise _Refusal(f"--start {text!r} is no ISO 8601 time; write it as 2026-01-05T00:30:00Z") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return round(moment.timestamp() * 1000)


def _parse_symbols(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[str, ...] | None:
    """`--symbols` as names in capital letters."""
    if text is None:
        return None
    names = tuple(name.strip().upper() for name in text.split(",") if name.strip())
    if not names:
        raise _Refusal("--symbols is empty; name at least one symbol, as BTCUSDT,ETHUSDT")
    return names


@click.command("sandbox", context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--venue",
    type=click.Choice(("usdm", "spot")),
    default="usdm",
    show_default=True,
    help="USD-M futures or spot.",
)
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True, max=1e6),
    default=1.0,
    show_default=True,
    help="Exchange seconds that pass in a real second.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Play the recorded klines (feather, csv, csv.gz) under this folder instead of the synthetic market.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the synthetic market.")
@click.option(
    "--symbols",
    callback=_parse_symbols,
    help="Symbols to trade, separated by commas. Default: all there are.",
)
@click.option(
    "--start",
    "start_ms",
    callback=_parse_start,
    metavar="ISO-TIME",
    help="Exchange time at start. Default: 2026-01-05T00:30:00Z, or near the end of --data.",
)
@click.option(
    "--faults",
    type=click.Path(path_type=Path),
    help="Play the faults of this script (YAML).",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    help="Port to listen on; 0 takes any free one.",
)
@click.option("--hold", is_flag=True, help="Let the clock stand until the first kline subscription.")
@click.option(
    "--parent-watch", is_flag=True, help="Stop when standard input closes, as it does when a parent ends."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(("text", "json")),
    default="text",
    show_default=True,
    help="Form of the line that says the exchange is ready.",
)
@click.pass_context
def sandbox(
    context: click.Context,
    venue: str,
    speed: float,
    data: Path | None,
    seed: int,
    symbols: tuple[str, ...] | None,
    start_ms: int | None,
    faults: Path | None,
    host: str,
    port: int,
    hold: bool,
    parent_watch: bool,
    form: str,
) -> None:
    """Run a local exchange that speaks WebSocket, REST and bulk archive of Binance, USD-M or spot.

    Prints one line with its address when it is ready, and runs until SIGTERM (exit 0) or Ctrl-C (exit 130).
    """
    from alpha_forge_sdk.sandbox import FaultScript, SandboxConfig

    config = SandboxConfig(
        seed=seed, symbols=symbols, speed=speed, start_ms=start_ms, data=data, hold=hold, venue=venue
    )
    try:
        script = None if faults is None else FaultScript.load(faults)
        code = asyncio.run(_run(config, host, port, form, parent_watch, script))
    except ValueError as error:
        raise _Refusal(str(error)) from None
    except OSError as error:
        cause = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise _Refusal(
            f"can't listen on {host}:{port}: {cause}; choose another --host or --port (0 takes any free port)"
        ) from None
    except KeyboardInterrupt:
        code = 130
    context.exit(code)


async def _run(
    config: SandboxConfig,
    host: str,
    port: int,
    form: str,
    parent_watch: bool,
    faults: FaultScript | None,
) -> int:
    """Serve until a signal or, with `parent_watch`, the end of standard input; returns the exit code."""
    from alpha_forge_sdk.sandbox import serve

    loop = asyncio.get_running_loop()
    until = asyncio.Event()
    codes: list[int] = []

    def stop(code: int) -> None:
        codes.append(code)
        until.set()

    for number, code in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
        loop.add_signal_handler(number, stop, code)
    if parent_watch:
        threading.Thread(target=_await_parent, args=(loop, until), daemon=True).start()
    await serve(config, host, port, lambda exchange: click.echo(_ready_line(exchange, form)), until, faults)
    return codes[0] if codes else 0


def _await_parent(loop: asyncio.AbstractEventLoop, until: asyncio.Event) -> None:
    while os.read(0, 4096):
        pass
    loop.call_soon_threadsafe(until.set)


def _ready_line(exchange: SandboxExchange, form: str) -> str:
    moment = dt.datetime.fromtimestamp(exchange.clock.now_ms() / 1000, tz=dt.UTC)
    clock = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    symbols = list(exchange.market.symbols)
    speed = exchange.clock.speed
    if form == "json":
        return json.dumps({"url": exchange.url, "speed": speed, "clock": clock, "symbols": symbols})
    return f"sandbox exchange at {exchange.url} (speed {speed:g}, clock {clock}, {len(symbols)} symbols)"
