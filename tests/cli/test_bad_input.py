"""Bad input through the command line: each is told with its code, its place and its cure, none by a traceback."""

from __future__ import annotations

import csv
import json
import logging
import os
import re
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from alpha_forge.cli import main

COMMAND = (sys.executable, "-m", "alpha_forge")
DEADLINE = 60.0

CONFIG = """name: bad_input

using:
  capabilities: [shared, middlefreq]

signal_generation:
  mode: stream
  warmup: {lookback_days: 30}
  on_prediction:
    - using: sinks.csv_append
      column: ohlcv.rsi_14
      params: {path: out/predictions.csv}

pipeline:
  - data:
      using: data.binance_futures
      outputs: {frame: ohlcv}
      params: {universe: [BTCUSDT, ETHUSDT], interval: 15m}
  - transform:
      using: transforms.resample
      inputs: {frame: ohlcv}
      outputs: {frame: longer}
      params: {interval: 1h}
  - features:
      using: features.momentum
      inputs: {column: ohlcv.close}
      outputs: {columns: [mom_20]}
      params: {window: 20}
  - features:
      using: features.rsi
      inputs: {column: ohlcv.close}
      outputs: {columns: [rsi_14]}
      params: {window: 14}
"""

MODEL = """  - model:
      using: models.pytorch_bilstm_predictor
      inputs: {frame: ohlcv, model_ref: small.unified}
      outputs: {columns: [model.prediction]}
      params: {window_size: 4, checkpoint_dir: checkpoints}
"""


@pytest.fixture(autouse=True)
def _forget_packs():
    """Packs of these tests are imported in this process: the next test's of the same name must not meet them."""
    yield
    for name in [n for n in sys.modules if n.split(".")[0] == "acme_pack"]:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def _workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test works in a folder of its own, and leaves the loggers as they were."""
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def place(text: str, snippet: str, offset: int = 0) -> str:
    """``LINE:COL`` of a snippet that stands once in the text."""
    assert text.count(snippet) == 1, snippet
    before = text[: text.index(snippet) + offset]
    return f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


def refused(text: str, code: str | None, where: str | None, says: str, command: str = "check") -> str:
    """The configuration is refused with exactly one error, of this code, at this place; returns what was printed."""
    Path("config.yaml").write_text(text, encoding="utf-8")
    result = CliRunner().invoke(main, [command, "config.yaml"], prog_name="alpha_forge")
    output = result.output
    assert result.exit_code == 2, output
    assert "Traceback" not in output
    assert output.count("error[AF") == 1, output
    assert output.startswith(f"config.yaml:{where}: error[" if where else "config.yaml:"), output
    assert f"error[{code or 'AF'}" in output, output
    assert says in output, output
    assert re.search(r"^ +\^$", output, re.MULTILINE)
    # Before anything is lost, or made.
    assert not Path("out").exists()
    return output


def changed(old: str, new: str, text: str = CONFIG) -> str:
    assert text.count(old) == 1, old
    return text.replace(old, new)


# what is changed → into what; the place of the error within what it is changed into; its code; what it must say
CASES = {
    "unknown plugin": ("features.momentum", "features.momntum", "features.momntum", "AF3001", "did you mean 'features.momentum'?"),
    "plugin of another kind": ("features.momentum", "sinks.csv_append", None, "AF2006", "help: "),
    "column that nobody makes": ("inputs: {column: ohlcv.close}\n      outputs: {columns: [mom_20]}", "inputs: {column: ohlcv.colse}\n      outputs: {columns: [mom_20]}", "ohlcv.colse", "AF4002", "did you mean 'close'?"),
    "frame that nobody makes": ("inputs: {column: ohlcv.close}\n      outputs: {columns: [mom_20]}", "inputs: {column: ohlc.close}\n      outputs: {columns: [mom_20]}", "ohlc.close", "AF4001", "did you mean 'ohlcv'?"),
    "column for a sink that nobody makes": ("column: ohlcv.rsi_14", "column: ohlcv.rsi_41", "ohlcv.rsi_41", "AF4012", "did you mean 'ohlcv.rsi_14'?"),
    "column written twice": ("columns: [mom_20]", "columns: [rsi_14]", None, "AF4003", "written twice"),
    "column that makes itself": ("inputs: {column: ohlcv.close}\n      outputs: {columns: [mom_20]}", "inputs: {column: ohlcv.mom_20}\n      outputs: {columns: [mom_20]}", None, "AF4007", "help: "),
    "frame that makes itself": ("inputs: {frame: ohlcv}\n      outputs: {frame: longer}", "inputs: {frame: longer}\n      outputs: {frame: longer}", "longer}\n      outputs", "AF4007", "help: "),
    "lookback_days too short": ("lookback_days: 30", "lookback_days: 3", "3", "AF4008", "help: set lookback_days to 4 or more, or to auto"),
    "interval that doesn't divide": ("params: {interval: 1h}", "params: {interval: 40m}", "{interval: 40m}", "AF4009", "whole multiple of 15m"),
    "interval of no exchange": ("interval: 15m", "interval: 7m", "7m", "AF3014", "help: "),
    "empty universe": ("[BTCUSDT, ETHUSDT]", "[]", "[]", "AF3014", "empty"),
    "symbol in lower case": ("[BTCUSDT, ETHUSDT]", "[BTCUSDT, ethusdt]", "[BTC", None, "ETHUSDT"),
    "syntax error": ("params: {window: 14}", "params: {window: 14", None, "AF1", "help: "),
    "duplicate key": ("  mode: stream\n", "  mode: stream\n  mode: stream\n", None, "AF1005", "help: "),
    "tab": ("      params: {window: 14}", "\tparams: {window: 14}", None, "AF1004", "help: indent with spaces"),
    "wrong type": ("window: 14", "window: many", "many", "AF3013", "whole number"),
    "unknown parameter": ("window: 14", "windw: 14", "windw", None, "did you mean 'window'?"),
    "unknown expansion": ("window: 14", 'window: "${expand.windows}"', '"${expand.windows}"', "AF2008", "help: add expand:"),
    "unset variable": ("path: out/predictions.csv", 'path: "${env:ALPHA_FORGE_TEST_UNSET}"', '"${env:', None, "ALPHA_FORGE_TEST_UNSET"),
    "interval of predictions": ("  on_prediction:", "  scheduling: {interval: 1x}\n  on_prediction:", "1x", None, "is not an interval"),
    "negative buffer": ("  on_prediction:", "  scheduling: {buffer_minutes: -1}\n  on_prediction:", "-1", None, "buffer_minutes"),
    "no destination": ("    - using: sinks.csv_append\n      column: ohlcv.rsi_14\n      params: {path: out/predictions.csv}\n", "    []\n", None, None, "on_prediction"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("case", "command"),
    [
        *((case, "check") for case in CASES),
        # Every command reads configurations the same way.
        *(
            (case, command)
            for case in ("lookback_days too short", "tab")
            for command in ("signal", "plan", "train")
        ),
    ],
)
def test_the_configuration_is_refused(case, command):
    old, new, at, code, says = CASES[case]
    text = changed(old, new)
    refused(text, code, place(text, new, new.index(at)) if at else None, says, command)


def test_all_mistakes_come_at_once_and_none_because_of_another(tmp_path):
    text = changed("features.momentum", "features.momntum")
    text = changed("window: 14", "window: many", text)
    text = changed("interval: 15m", "interval: 7m", text)
    Path("config.yaml").write_text(text, encoding="utf-8")
    result = CliRunner().invoke(main, ["check", "config.yaml", "--format", "json"], prog_name="alpha_forge")
    assert result.exit_code == 2
    errors = json.loads(result.stdout)["errors"]
    assert [(e["code"], e["line"]) for e in errors] == [("AF3014", 18), ("AF3001", 25), ("AF3013", 33)]
    assert all(e["file"] == "config.yaml" and e["path"] and e["column"] > 1 for e in errors)


def test_a_failed_data_step_does_not_blame_those_who_read_it():
    refused(changed("interval: 15m", "interval: 7m"), "AF3014", place(CONFIG, "15m"), "interval")


def test_a_file_that_is_not_there():
    result = CliRunner().invoke(main, ["check", "absent.yaml"], prog_name="alpha_forge")
    assert result.exit_code == 2
    assert "absent.yaml" in result.output
    assert "error[AF" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", ["check", "signal"])
def test_an_output_directory_that_cannot_be_written(command):
    Path("file").write_text("in the way", encoding="utf-8")
    text = changed("out/predictions.csv", "file/deeper/predictions.csv")
    refused(text, "AF6003", place(text, "{path: file"), "help: ", command)
    assert Path("file").read_text(encoding="utf-8") == "in the way"


# Packs.


def pack(monkeypatch: pytest.MonkeyPatch, folder: Path, init: str, **modules: str) -> None:
    """Install a pack `acme` in a folder on the path."""
    package = folder / "acme_pack"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(init, encoding="utf-8")
    for name, source in modules.items():
        (package / f"{name}.py").write_text(source, encoding="utf-8")
    info = folder / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[alpha_forge]\nacme = acme_pack\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    for name in [n for n in sys.modules if n.split(".")[0] == "acme_pack"]:
        monkeypatch.delitem(sys.modules, name)


HOOK = """from alpha_forge_sdk import hookimpl

@hookimpl
def alpha_forge_features():
    return {"acme": "acme_pack.features:Acme"}
"""
USES_ACME = changed("features.momentum", "features.acme", changed("middlefreq]", "middlefreq, acme]"))


def test_a_capability_that_is_not_installed():
    text = changed("capabilities: [shared, middlefreq]", "capabilities: [shared, middlefreq, midlefrequency]")
    refused(text, "AF3002", place(text, "midlefrequency"), "did you mean 'middlefreq'?")


@pytest.mark.parametrize(
    ("init", "features"),
    [
        ("raise RuntimeError('acme is unwell')\n", ""),
        (HOOK, "import no_such_module_of_acme\n"),
        (HOOK, "raise RuntimeError('acme is unwell')\n"),
        (HOOK, "class Acme:\n    pass\n"),
        (HOOK, "class Other:\n    pass\n"),
    ],
    ids=["pack raises", "module imports what is absent", "module raises", "no plugin class", "no such class"],
)
def test_a_broken_pack(monkeypatch, tmp_path, init, features):
    pack(monkeypatch, tmp_path / "site", init, features=features)
    Path("config.yaml").write_text(USES_ACME, encoding="utf-8")
    result = CliRunner().invoke(main, ["check", "config.yaml"], prog_name="alpha_forge")
    output = result.output
    assert result.exit_code == 2, output
    assert "acme" in output
    assert "error[AF3" in output
    assert "help: " in output
    assert "config.yaml:" in output
    assert "Traceback" not in output
    # The other packs are as well as before.
    assert "features.rsi" not in output
    Path("config.yaml").write_text(CONFIG, encoding="utf-8")
    assert CliRunner().invoke(main, ["check", "config.yaml"], prog_name="alpha_forge").exit_code == 0


# Checkpoints.

WITH_MODEL = changed("      column: ohlcv.rsi_14\n", "") + MODEL


def test_a_checkpoint_that_is_not_there():
    output = refused(WITH_MODEL, "AF7", None, "alpha_forge train")
    assert "small.unified" in output


@pytest.mark.parametrize(
    "name", ["small.unified.pt", "small.unified.pkl", "small.unified.pth", "small.unified.ckpt"]
)
def test_a_pickled_checkpoint_is_refused_unread(name):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, ("sprung",))

    import pickle

    Path("checkpoints").mkdir()
    Path("checkpoints", name).write_bytes(pickle.dumps(Trap()))
    output = refused(WITH_MODEL, "AF7", None, name)
    assert "never" in output or "safetensors" in output
    assert not Path("sprung").exists()


def test_a_checkpoint_that_is_damaged():
    Path("checkpoints").mkdir()
    Path("checkpoints/small.unified.json").write_text("{", encoding="utf-8")
    refused(WITH_MODEL, "AF7", None, "small.unified")
    Path("checkpoints/small.unified.json").write_text("[]", encoding="utf-8")
    refused(WITH_MODEL, "AF7", None, "small.unified")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint that was trained on mom_20 and rsi_14."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "config.yaml").write_text(WITH_MODEL, encoding="utf-8")
    settings = ("--set", "training.epochs=1", "--set", "training.history_days=6", "--quiet")
    done = subprocess.run(
        (*COMMAND, "train", "config.yaml", "--sandbox", *settings),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "checkpoints"


def test_a_checkpoint_that_was_trained_on_other_columns(trained):
    Path("checkpoints").symlink_to(trained)
    Path("config.yaml").write_text(WITH_MODEL, encoding="utf-8")
    assert CliRunner().invoke(main, ["check", "config.yaml"], prog_name="alpha_forge").exit_code == 0
    text = changed("[rsi_14]", "[rsi_15]", WITH_MODEL)
    output = refused(text, "AF4018", None, "did you mean 'rsi_15'?")
    assert "alpha_forge train" in output


def test_a_checkpoint_of_another_window(trained):
    Path("checkpoints").symlink_to(trained)
    refused(changed("window_size: 4", "window_size: 5", WITH_MODEL), "AF7", None, "window")


# Exchanges.


def forge(*arguments: str, timeout: float = DEADLINE) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own; no traceback, whatever happens."""
    done = subprocess.run(
        (*COMMAND, *arguments), capture_output=True, text=True, timeout=timeout, check=False
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done


@contextmanager
def exchange(*options: str) -> Iterator[str]:
    process = subprocess.Popen(
        (*COMMAND, "sandbox", "--format", "json", "--parent-watch", *options),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.kill()
        process.communicate()


@contextmanager
def silent_server() -> Iterator[int]:
    """A port that accepts connections and never says anything."""
    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    kept.append(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(DEADLINE)
            for connection in kept:
                connection.close()


def test_a_symbol_that_the_exchange_does_not_know():
    Path("config.yaml").write_text(changed("ETHUSDT]", "ETHUSDTT]"), encoding="utf-8")
    with exchange("--symbols", "BTCUSDT,ETHUSDT") as url:
        done = forge("signal", "config.yaml", "--set", f"data.params.endpoints={url}", "--quiet")
    assert done.returncode == 3
    assert "error[AF5003]: " in done.stderr
    assert "did you mean 'ETHUSDT'?" in done.stderr
    assert "help: " in done.stderr


def test_an_exchange_that_cannot_be_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"  # closed again when the block ends
    Path("config.yaml").write_text(CONFIG, encoding="utf-8")
    done = forge("signal", "config.yaml", "--set", f"data.params.endpoints={url}", "--quiet")
    assert done.returncode == 3
    assert "error[AF5001]: " in done.stderr
    assert "help: check the network" in done.stderr


def test_an_exchange_that_accepts_and_never_answers():
    Path("config.yaml").write_text(CONFIG, encoding="utf-8")
    with silent_server() as port:
        settings = (
            "--set",
            f"data.params.endpoints=http://127.0.0.1:{port}",
            "--set",
            "data.params.request_timeout=0.2",
        )
        done = forge("signal", "config.yaml", *settings, "--quiet")
    assert done.returncode == 3
    assert "error[AF5001]: " in done.stderr


def test_an_exchange_whose_stream_is_silent():
    Path("config.yaml").write_text(CONFIG, encoding="utf-8")
    with silent_server() as port, exchange("--symbols", "BTCUSDT,ETHUSDT") as url:
        ends = f"{{rest: '{url}', archive: '{url}', listing: '{url}', ws: 'ws://127.0.0.1:{port}/market'}}"
        settings = ("--set", f"data.params.endpoints={ends}", "--set", "warmup.first_event_seconds=1")
        done = forge("signal", "config.yaml", *settings, "--quiet")
    assert done.returncode == 3
    assert "error[AF5030]: " in done.stderr
    assert "BTCUSDT, ETHUSDT within 1 s" in done.stderr
    assert "help: " in done.stderr


# Many symbols.


def test_five_hundred_symbols_through_the_command_line():
    """Not bad, only big: every symbol and bar exactly once."""
    symbols = [f"SYM{i:03d}USDT" for i in range(500)]
    text = changed("[BTCUSDT, ETHUSDT], interval: 15m", f"[{', '.join(symbols)}], interval: 1h")
    text = changed("params: {interval: 1h}", "params: {interval: 2h}", text)
    text = changed("ohlcv.rsi_14", "ohlcv.mom_20", text)
    start = text.index("  - features:\n      using: features.rsi")
    Path("config.yaml").write_text(text[:start], encoding="utf-8")
    done = forge("signal", "config.yaml", "--sandbox", "--bars", "3", "--speed", "3600", timeout=100)
    assert done.returncode == 0, done.stderr
    with open("out/predictions.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    counts = Counter((row["symbol"], row["ts"]) for row in rows)
    closes = sorted({ts for _, ts in counts})
    assert len(closes) == 3
    assert set(counts) == {(symbol, ts) for symbol in symbols for ts in closes}
    assert set(counts.values()) == {1}
    assert all(float(row["prediction"]) == float(row["prediction"]) for row in rows)
