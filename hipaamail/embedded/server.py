"""One server process beside us: found again, started, stopped.

The server itself holds the lock of `running.lock` through a descriptor that it inherits, so the kernel
says truly whether it runs: after `kill -9`, after a restart of the machine with its process number
given to another, and in a folder that was moved or copied.
"""

import contextlib
import os
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

from hipaamail.embedded.folder import let_go, open_lock, private_folder, socket_folder, take

#: A database that recovers from a crash answers late.
START_SECONDS = 60
LISTEN_SECONDS = 3
STOP_SECONDS = 20
LOG_BYTES = 1_000_000


class ServerError(RuntimeError):
    """A server cannot be started or found; the message is one sentence, then its log's last lines."""


class Server(ABC):
    """A server whose files are in a folder of ours; callers hold `start.lock` (see hold.py)."""

    name: str
    #: The folder's name; the server's working directory tells its process from another.
    folder: str
    stop_signals: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGKILL)

    def __init__(self, root: Path) -> None:
        self.home = root / self.folder
        self.sockets = root / "sockets"
        self._lock = -1
        self._process: subprocess.Popen[bytes] | None = None
        self._seen: int | None = None

    @abstractmethod
    def urls(self) -> dict[str, str]:
        """Return the environment variables that lead to the running server."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether the server takes work now."""

    @abstractmethod
    def socket_file(self) -> Path:
        """Where the server listens."""

    @abstractmethod
    def launch(self) -> subprocess.Popen[bytes]:
        """Prepare the files and start the process, by `spawn`."""

    @abstractmethod
    def working_directory(self) -> Path:
        """The server's own folder."""

    @abstractmethod
    def pid_file(self) -> Path:
        """The file on whose first line the server wrote its process number."""

    def ensure(self) -> None:
        """Start the server unless it runs. Raises ServerError."""
        private_folder(self.home)
        self.sockets = socket_folder(self.sockets)
        # A server that runs but listens elsewhere has its folder moved under it; it starts anew here.
        self._wait(lambda: self._listens() or not self.running(), LISTEN_SECONDS)
        if self.running() and not self._listens():
            self.stop()
        if not self.running():
            self._process = self.launch()
        if not self._wait(lambda: self.answers() or not self.running(), START_SECONDS):
            raise ServerError(self._with_log(f"{self.name} gives no answer"))
        if not self.running():
            raise ServerError(self._with_log(f"{self.name} cannot start"))
        self._seen = self._pid()

    def running(self) -> bool:
        """Whether a server process has this folder."""
        if self._lock < 0:
            if not self.home.is_dir():
                return False
            self._lock = open_lock(self.home / "running.lock")
        if not take(self._lock):
            return True
        let_go(self._lock)
        return False

    def stop(self) -> None:
        """Stop the server, cleanly if it lets us. A process that is not ours is left alone."""
        # One whose start was interrupted has not written its number yet.
        self._wait(lambda: self._pid() is not None or not self.running(), LISTEN_SECONDS)
        for kind in self.stop_signals:
            if not self.running() or (pid := self._pid()) is None:
                break
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, kind)
            if self._wait(lambda: not self.running(), STOP_SECONDS):
                break
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=1)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def spawn(self, command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        """Start the process detached from our terminal, with the lock, an empty environment and umask 077."""
        lock = open_lock(self.home / "running.lock")
        try:
            if not take(lock):
                raise ServerError(f"{self.name} was started by somebody else just now: try again.")
            with self._log_file().open("ab") as log:
                return subprocess.Popen(  # noqa: S603 (our own words)
                    command,
                    cwd=self.working_directory(),
                    env=self.environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    umask=0o077,
                    pass_fds=(lock,),
                )
        except OSError as error:
            raise ServerError(f"{self.name} cannot start: {error.strerror}.") from None
        finally:
            os.close(lock)

    @staticmethod
    def environment() -> dict[str, str]:
        """Return the server's environment: nothing of ours, so that PG* or LC_* set for clients do no harm."""
        return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}

    def _listens(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.connect(str(self.socket_file()))
        except OSError:
            return False
        return True

    def _pid(self) -> int | None:
        """The running server's process number, or None when it cannot be told from another's."""
        if self._process is not None and self._process.poll() is None:
            return self._process.pid
        try:
            pid = int(self.pid_file().read_text(encoding="ascii").split("\n", 1)[0])
        except FileNotFoundError:  # the folder was removed under the server
            return self._seen
        except (OSError, ValueError):
            return None
        return pid if works_in(pid, self.working_directory()) else None

    def _log_file(self) -> Path:
        log = self.home / "log"
        if not log.exists():
            os.close(os.open(log, os.O_WRONLY | os.O_CREAT, 0o600))
        elif log.stat().st_size > LOG_BYTES:
            log.replace(self.home / "log.1")
            return self._log_file()
        return log

    def _with_log(self, sentence: str, count: int = 8) -> str:
        log = self.home / "log"
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:]
        return "\n  ".join([f"{sentence}; the last lines of {log}:", *lines])

    @staticmethod
    def _wait(done: Callable[[], bool], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True


def works_in(pid: int, folder: Path) -> bool:
    """Whether the process lives and its working directory is the folder, however the folder is called now."""
    process = Path("/proc") / str(pid)
    try:
        os.kill(pid, 0)
        if not Path("/proc/self/cwd").exists():  # macOS: to be alive has to do
            return True
        return os.path.samefile(process / "cwd", folder)
    except PermissionError:
        # Root in a container may not look into nobody's processes, but at their arguments.
        return os.fsencode(folder) in (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
