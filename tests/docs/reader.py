"""A reader who does what a page says: writes its files, types its commands, and compares what they print."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
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


class Reader:
    """One reader with a folder of his own, in which the examples lie, and recorded klines."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.folder = folder
        self._site, self._bin, self._typed = (folder / name for name in (".site", ".bin", ".typed"))
        for made in (self._site, self._bin, self._typed):
            made.mkdir(parents=True)
        shutil.copytree(ROOT / "examples", folder / "examples")
        write_klines(folder / "klines")
        command = self._bin / "alpha_forge"
        real = Path(sys.executable).with_name("alpha_forge")
        command.write_text(_TRAIN.format(real=real, store=store))
        command.chmod(0o755)

    def follow(self, blocks: list[Block]) -> None:
        """Do everything, in one shell, in order. Raises AssertionError that names the line of the page."""
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

    def _lines(self, block: Block) -> list[str]:
        """What the shell is told for one block."""
        if block.word == "skip" or block.word == "output":
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
