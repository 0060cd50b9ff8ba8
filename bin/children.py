"""Programs that we run: each in a process group of its own, and none outlives us."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parent.parent
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
        _end(process)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _end(process: subprocess.Popen[str]) -> None:
    """End what is left of the program's group: as by Ctrl-C while it runs, then with less patience."""
    ended = _unburied(process)
    for kind, seconds in PATIENCE[1:] if ended else PATIENCE:
        # A second Ctrl-C means: go on to the next signal now.
        with contextlib.suppress(KeyboardInterrupt, Stopped):
            # PermissionError: so says macOS of a group of the dead.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, kind)
            end = time.monotonic() + seconds
            while _lives(process) and time.monotonic() < end:
                time.sleep(0.02)
            if not _lives(process):
                break
    if process.stdout:
        process.stdout.close()


def _unburied(process: subprocess.Popen[str]) -> bool:
    ended = os.WEXITED | os.WNOWAIT | os.WNOHANG
    return os.waitid(os.P_PID, process.pid, ended) is not None


def _lives(process: subprocess.Popen[str]) -> bool:
    """Whether anybody is left in the group; buries the dead."""
    if process.poll() is None:
        return True
    with contextlib.suppress(ChildProcessError):  # orphans are ours where we are process 1
        while os.waitpid(-process.pid, os.WNOHANG)[0]:
            pass
    try:
        os.killpg(process.pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def heed_signals() -> None:
    """Let SIGTERM and SIGHUP unwind the stack as Ctrl-C does, so that nothing stays behind."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(128 + number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, stop)


def unwound(main: Callable[[list[str]], int], arguments: list[str]) -> int:
    """Run a command's `main` so that every way out passes its clean-up; 130 after Ctrl-C."""
    heed_signals()
    try:
        return main(arguments)
    except KeyboardInterrupt:
        return 130
