"""Saying on a terminal what goes on: steps, and bars for what takes longer than a second."""

import sys
import time
from typing import Self, TextIO

WIDTH = 30


class Bar:
    """A progress bar that appears after a second; call it with (done, total).

    On something other than a terminal it writes one line at the end of what took long.
    """

    def __init__(self, label: str, out: TextIO | None = None) -> None:
        self.label, self.out = label, out or sys.stderr
        self.began = time.monotonic()
        self.shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        took = time.monotonic() - self.began
        if self.shown and self.out.isatty():
            self.out.write("\r" + " " * len(self.shown) + "\r")
        if took > 1 and not error[0]:
            self.out.write(f"  {self.label}: {took:.1f} s\n")
        self.out.flush()

    def __call__(self, done: int, total: int) -> None:
        """Show how far it is."""
        if time.monotonic() - self.began < 1 or not self.out.isatty():
            return
        filled = WIDTH * done // max(total, 1)
        self.shown = (
            f"  {self.label} [{'#' * filled}{'.' * (WIDTH - filled)}] {done:,} of {total:,}"
        )
        self.out.write("\r" + self.shown)
        self.out.flush()


def step(number: int, text: str) -> None:
    """Announce a step of the main job."""
    sys.stdout.write(f"\n{number}. {text}\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """Say what came of it."""
    sys.stdout.write(f"   {text}\n")
    sys.stdout.flush()
