"""Steps that tell how far they are: a bar on a terminal, plain lines elsewhere, all on stderr."""

import shutil
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType

BAR = 24
#: What takes less is not worth a bar.
SILENT_SECONDS = 1.0


def bar(done: int, total: int, seconds: float, title: str, width: int) -> str:
    """Draw one line, at most `width` characters: a bar of `done` in `total`, or a wandering one if `total` is 0."""
    if total > 0:
        share = min(done / total, 1.0)
        filled = int(BAR * share)
        drawn, percent = "#" * filled + "." * (BAR - filled), f"{int(100 * share):3d} % "
    else:
        start = int(seconds * 8)
        drawn = "".join("#" if (place - start) % BAR < 4 else "." for place in range(BAR))
        percent = ""
    return f"[{drawn}] {percent}{int(seconds)} s  {title}"[:width]


class Step:
    """One named step, as a context manager; `measure` returns how much of how much is done.

    On a terminal nothing is seen of a step under a second; elsewhere its title comes at the beginning
    and its seconds at the end.
    """

    def __init__(self, title: str, measure: Callable[[], tuple[int, int]] = lambda: (0, 0)) -> None:
        self.title = title
        self.measure = measure
        self._began = time.monotonic()
        self._over = threading.Event()
        self._drawing = threading.Thread(target=self._draw, daemon=True)
        self._terminal = sys.stderr.isatty()

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
        seconds = time.monotonic() - self._began
        self._over.set()
        if self._terminal:
            self._drawing.join()
        if seconds >= SILENT_SECONDS and kind is None:
            print(f"{self.title}: {seconds:.0f} s", file=sys.stderr, flush=True)

    def _draw(self) -> None:
        pause = SILENT_SECONDS
        drawn = False
        while not self._over.wait(pause):
            seconds = time.monotonic() - self._began
            width = shutil.get_terminal_size().columns - 1
            line = bar(*self.measure(), seconds, self.title, width)
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
            pause, drawn = 0.1, True
        if drawn:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
