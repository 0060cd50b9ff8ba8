"""Steps that tell how far they are: a bar on a terminal, plain lines elsewhere, all on stderr."""

import shutil
import sys
import threading
import time
from types import TracebackType

BAR = 24
#: What takes less is not worth a bar.
SILENT_SECONDS = 1.0


def bar(done: int, total: int, seconds: float, title: str, width: int) -> str:
    """Draw one line, at most `width` characters: a bar of `done` in `total`, or a wandering one if `total` is 0."""
    if total > 0:
        filled = BAR * min(done, total) // total
        drawn = "#" * filled + "." * (BAR - filled)
        count = f" {min(done, total)}/{total}"
    else:
        drawn = "".join(
            "#" if (place - int(seconds * 8)) % BAR < 4 else "." for place in range(BAR)
        )
        count = ""
    return f"[{drawn}]{count} {int(seconds)} s  {title}"[:width]


class Step:
    """One named step, as a context manager; `at()` says how far it is.

    On a terminal nothing is seen of a step under a second; elsewhere its title comes at the beginning
    and its seconds at the end.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.done = self.total = 0
        self.seconds = 0.0
        self._began = time.monotonic()
        self._over = threading.Event()
        self._drawing = threading.Thread(target=self._draw, daemon=True)
        self._terminal = sys.stderr.isatty()

    def at(self, done: int, total: int) -> None:
        """Say that `done` of `total` is done."""
        self.done, self.total = done, total

    def __enter__(self) -> "Step":
        if self._terminal:
            self._drawing.start()
        else:
            print(f"{self.title} …", file=sys.stderr, flush=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.seconds = time.monotonic() - self._began
        self._over.set()
        if self._terminal:
            self._drawing.join()
        if self.seconds >= SILENT_SECONDS and kind is None:
            print(f"{self.title}: {self.seconds:.0f} s", file=sys.stderr, flush=True)

    def _draw(self) -> None:
        pause = SILENT_SECONDS
        drawn = False
        while not self._over.wait(pause):
            seconds = time.monotonic() - self._began
            width = shutil.get_terminal_size().columns - 1
            line = bar(self.done, self.total, seconds, self.title, width)
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
            pause, drawn = 0.1, True
        if drawn:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
