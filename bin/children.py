"""Programs that we run: each in a process group of its own, and none outlives us."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parent.parent
PR_SET_CHILD_SUBREAPER = 36
#: How long a program may take to end after each signal.
PATIENCE = ((signal.SIGINT, 15.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))


class Stopped(SystemExit):
    """A signal asks us to end; the exit code is the shell's for it."""


def run(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> int:
    """Run a program in the root folder, without input, and return its exit code.

    With `on_line` each line that it prints (stderr too) goes there, else straight to our own output.
    Whatever ends us meanwhile ends the program and all that it started.
    """
    sys.stdout.flush()
    before = _offspring()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if on_line else None,
        stderr=subprocess.STDOUT if on_line else None,
        text=True,
        errors="replace",
        process_group=0,
    )
    try:
        if process.stdout and on_line:
            for line in process.stdout:
                on_line(line.rstrip())
        # The ended program is left unburied, so that its group's number stays its own for `_end`.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    finally:
        _end(process, before)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _end(process: subprocess.Popen[str], before: set[int]) -> None:
    """End what is left of a program and of what it started: as by Ctrl-C, then with less patience."""
    for kind, seconds in PATIENCE:
        # A second Ctrl-C means: go on to the next signal now.
        with contextlib.suppress(KeyboardInterrupt, Stopped):
            if _ends(process, before, kind, seconds):
                break
    if process.stdout:
        process.stdout.close()


def _ends(
    process: subprocess.Popen[str], before: set[int], kind: signal.Signals, seconds: float
) -> bool:
    """Send a signal to the program's group and to its orphans; whether all have ended in time."""
    end = time.monotonic() + seconds
    told: set[int] = set()
    ended = os.WEXITED | os.WNOWAIT | os.WNOHANG
    if process.returncode is None and (
        kind is not signal.SIGINT or os.waitid(os.P_PID, process.pid, ended) is None
    ):
        _kill_group(process.pid, kind)
    while True:
        alive = process.poll() is None
        orphans = _buried(_offspring() - before - {process.pid})
        if not alive and not orphans and not _kill_group(process.pid, 0):
            return True
        # Who outlives the program is not asked as by Ctrl-C.
        if time.monotonic() > end or (not alive and kind is signal.SIGINT):
            return False
        if kind is not signal.SIGINT:
            for orphan in orphans - told:
                os.kill(orphan, kind)
            told |= orphans
        time.sleep(0.02)


def _kill_group(group: int, kind: int) -> bool:
    try:
        os.killpg(group, kind)
    except (ProcessLookupError, PermissionError):  # PermissionError: macOS, of a group of the dead
        return False
    return True


def _offspring() -> set[int]:
    """Our children: what we started, and since we adopt orphans (`heed_signals`), what those left behind."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = stat.read_text().rpartition(")")[2].split()[1]
            if int(parent) == os.getpid():
                found.add(int(stat.parent.name))
    return found


def _buried(children: set[int]) -> set[int]:
    """Bury the dead among our children and return the living."""
    living = set()
    for child in children:
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(child, os.WNOHANG) == (0, 0):
                living.add(child)
    return living


def heed_signals() -> None:
    """Let SIGTERM and SIGHUP unwind the stack as Ctrl-C does, and adopt orphans, so that nothing stays behind."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(128 + number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, stop)
    with contextlib.suppress(AttributeError, OSError):  # macOS knows no adoption
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def unwound(main: Callable[[list[str]], int], arguments: list[str]) -> int:
    """Run a command's `main` so that every way out passes its clean-up; 130 after Ctrl-C."""
    heed_signals()
    try:
        return main(arguments)
    except KeyboardInterrupt:
        return 130
