"""What the tests of `crash_at` run and kill."""

from __future__ import annotations

import os
import time

from alpha_forge_sdk.testing.crash import crash_point, report, watched


def write_rows(path: str, count: int) -> None:
    with open(path, "wb", buffering=0) as file:
        for number in range(count):
            file.write(b"%d\n" % number)
            os.fsync(file.fileno())
            report(str(number))


def named(path: str) -> None:
    for name in ("first", "second", "second"):
        crash_point(name)
        report(name)


def in_part(path: str) -> None:
    for _ in range(50):
        report("before")
    with watched(), open(path, "w") as file:
        file.write("x")
    report("after")


def fails() -> None:
    raise ValueError("on purpose")


def hangs() -> None:
    print("about to hang")
    time.sleep(60)


def ends_itself() -> None:
    os._exit(3)


def imports_late() -> None:
    import colorsys  # something that nothing else imports

    colorsys.rgb_to_hsv(0.5, 0.5, 0.5)
