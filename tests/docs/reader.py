"""A reader who does what a page says: writes its files, types its commands, and compares what they print."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from tests.docs.klines import write_klines
from tests.docs.markdown import Block

ROOT = Path(__file__).resolve().parents[2]
INSTALL = Path(__file__).with_name("install.py")
LIMIT = 240
"""Seconds for one page; a page that takes as long hangs."""

# Training is shortened, and done once for each configuration: what it writes is kept for the next page.
_TRAIN = """\
#!/usr/bin/env bash
set -euo pipefail
real={real}
if [ "${{1:-}}" != train ] || [[ " $* " == *" -h "* ]]; then exec "$real" "$@"; fi
key=$(cat "$2" <(echo "$@") | cksum | tr ' ' -)
kept={store}/$key
if [ ! -d "$kept" ]; then
    rm -rf tmp/models
    "$real" "$@" --set training.epochs=1 --set training.history_days=30 --set training.options.hidden=4 \\
        --set warmup.epsilon=1e-4 >"$kept.out"
    mkdir -p "$kept.new" && cp -r tmp/models/. "$kept.new" && mv "$kept.new" "$kept"
fi
mkdir -p tmp/models && cp -r "$kept"/. tmp/models && cat "$kept.out"
"""


# Where there is no curl, this much of it.
_CURL = """\
#!{python}
import sys, time, urllib.error, urllib.request
tries = 1 + int(sys.argv[sys.argv.index("--retry") + 1]) if "--retry" in sys.argv else 1
for left in reversed(range(tries)):
    try:
        print(urllib.request.urlopen(sys.argv[-1]).read().decode())
        break
    except urllib.error.URLError as error:
        if not left or not isinstance(error.reason, ConnectionRefusedError):
            sys.exit(str(error))
        time.sleep(0.5)
"""


class Reader:
    """One reader with a folder of his own, in which the examples lie, and recorded klines."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.folder = folder
        self._site, self._bin, self._typed = (folder / name for name in (".site", ".bin", ".typed"))
        for made in (self._site, self._bin, self._typed):
            made.mkdir(parents=True)
        shutil.copytree(ROOT / "examples", folder / "examples")
        write_klines(folder / "klines")
        real = Path(sys.executable).with_name("alpha_forge")
        self._command("alpha_forge", _TRAIN.format(real=real, store=store))
        if shutil.which("curl") is None:
            self._command("curl", _CURL.format(python=sys.executable))

    def _command(self, name: str, text: str) -> None:
        path = self._bin / name
        path.write_text(text)
        path.chmod(0o755)

    def follow(self, blocks: list[Block]) -> None:
        """Do everything, in one shell, in order. Raises AssertionError that names the line of the page."""
        blocks = self._on_free_ports(blocks)
        script = ["set -euo pipefail", f"cd {self.folder}"]
        for block in blocks:
            script += self._lines(block)
        (self._typed / "script").write_text("\n".join(script) + "\n")
        code, log = self._run()
        done = [int(path.stem) for path in self._typed.glob("*.out")]
        last = max(done, default=0)
        said = (self._typed / f"{last}.out").read_text(errors="replace") if done else log
        assert code == 0, f"line {last}: exit code {code}\n{said}"
        self._compare(blocks)

    @staticmethod
    def _on_free_ports(blocks: list[Block]) -> list[Block]:
        """The blocks with each port that a page names (18090 …) replaced by one that nobody has."""
        named = sorted({port for block in blocks for port in re.findall(r"\b180\d\d\b", block.text)})
        with contextlib.ExitStack() as held:
            sockets = [held.enter_context(socket.socket()) for _ in named]
            for each in sockets:
                each.bind(("127.0.0.1", 0))
            free = {port: str(each.getsockname()[1]) for port, each in zip(named, sockets, strict=True)}
        return [
            replace(block, text=re.sub(r"\b180\d\d\b", lambda found: free[found[0]], block.text))
            for block in blocks
        ]

    def _lines(self, block: Block) -> list[str]:
        """What the shell is told for one block."""
        if block.word in ("skip", "output", "specimen"):
            return []
        if block.word == "installs":
            return [f"{sys.executable} {INSTALL} {block.value} {self._site}"]
        kept = self._typed / f"{block.line}.{block.language}"
        kept.write_text(block.text)
        if block.word == "file":
            return [f"mkdir -p $(dirname {block.value}) && cp {kept} {block.value}"]
        out = self._typed / f"{block.line}.out"
        if block.language == "python":
            return [f"python {kept} >{out} 2>&1"]
        if block.language != "bash":
            return []
        if block.word == "exits":
            typed = f"bash -euo pipefail {kept}"
            return [
                f"code=0; {typed} >{out} 2>&1 || code=$?",
                f'[ "$code" = {block.value} ] || {{ echo "exit code $code" >>{out}; exit 99; }}',
            ]
        return ["{", block.text.rstrip("\n"), f"}} >{out} 2>&1"]

    def _run(self) -> tuple[int, str]:
        environment = {
            **os.environ,
            "PATH": f"{self._bin}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self._site),
        }
        log = self._typed / "log"
        with log.open("w") as out:
            process = subprocess.Popen(
                ["bash", str(self._typed / "script")],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
            try:
                code = process.wait(LIMIT)
            finally:
                # What a page left running in the background ends with it.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return code, log.read_text(errors="replace")

    def _compare(self, blocks: list[Block]) -> None:
        printed = ""
        for block in blocks:
            out = self._typed / f"{block.line}.out"
            if out.exists():
                printed = out.read_text()
            if block.word != "output":
                continue
            lines = {" ".join(line.split()) for line in printed.splitlines()}
            for line in block.text.splitlines():
                wanted = " ".join(line.split())
                pattern = re.compile(".*".join(map(re.escape, wanted.split("…"))))
                assert any(pattern.fullmatch(had) for had in lines), (
                    f"line {block.line}: not printed: {line}\nprinted was:\n{printed}"
                )
