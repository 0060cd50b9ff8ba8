"""Servers run while somebody holds them: the first holder starts them, the last one stops them."""

import atexit
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from hipaamail.embedded.folder import Untrusted, open_lock, private_folder, take, wait_for
from hipaamail.embedded.postgres import Postgres
from hipaamail.embedded.server import Server, ServerError
from hipaamail.embedded.valkey import Valkey

_holdings: dict[Path, "_Holding"] = {}


def hold(state_dir: Path) -> None:
    """Make sure that the servers of a state directory run until this process ends.

    Sets, where unset: `DATABASE_URL` (the application's role), `DATABASE_OWNER_URL` (the role that
    migrates), `BROKER_URL` (Celery) and `CACHE_URL` (Django), and `HIPAAMAIL_EMBEDDED=1`. The server
    that `DATABASE_URL` or `BROKER_URL` name already is not started. Processes started from here
    inherit the variables and need not hold.

    A missing `state_dir` is made with mode 0700. Raises ServerError: one sentence, then the last
    lines of the server's log.
    """
    wanted: list[type[Server]] = []
    if not os.environ.get("DATABASE_URL"):
        wanted.append(Postgres)
    if not os.environ.get("BROKER_URL"):
        wanted.append(Valkey)
    if not wanted:
        return
    root = Path(state_dir).resolve() / "servers"
    try:
        root.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        private_folder(root)
        _holdings.setdefault(root, _Holding(root)).take(wanted)
    except (PermissionError, Untrusted) as error:
        raise ServerError(
            f"The embedded servers cannot use {state_dir} ({error}): "
            "run as its owner, or name another folder in HIPAAMAIL_STATE_DIR."
        ) from None


class _Holding:
    """This process's share in the servers of one folder.

    Two locks, so that starting and stopping never overlap: `start.lock` is held while servers are
    started or stopped, `holders.lock` is shared by all holders for as long as they live. A holder
    that ends and gets `holders.lock` for itself was the last one. The kernel drops the locks of a
    killed process, whose servers then run on until the next holder has come and gone.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.pid = os.getpid()
        self.holders = -1
        self.servers: dict[type[Server], Server] = {}

    def take(self, wanted: list[type[Server]]) -> None:
        """Start what is wanted and does not run, and say where it is."""
        try:
            with self._start_lock():
                if self.holders < 0:
                    self.holders = open_lock(self.root / "holders.lock")
                    wait_for(self.holders, shared=True)
                    atexit.register(self.release)
                for kind in wanted:
                    server = self.servers.setdefault(kind, kind(self.root))
                    server.ensure()
                    for name, url in server.urls().items():
                        if not os.environ.get(name):
                            os.environ[name] = url
        except BaseException:
            self.release()
            raise
        os.environ["HIPAAMAIL_EMBEDDED"] = "1"

    def release(self) -> None:
        """Let go; the last one out stops every server of the folder, also those that only others used."""
        # A forked child runs the same exit handlers, but the servers are its parent's.
        if self.holders < 0 or os.getpid() != self.pid:
            return
        atexit.unregister(self.release)
        _holdings.pop(self.root, None)
        with self._start_lock():
            if take(self.holders):
                for kind in (Valkey, Postgres):
                    self.servers.setdefault(kind, kind(self.root)).stop()
                for server in self.servers.values():
                    with contextlib.suppress(OSError):  # a stand-in under /tmp leaves no trace
                        server.sockets.rmdir()
            os.close(self.holders)
            self.holders = -1

    @contextlib.contextmanager
    def _start_lock(self) -> Iterator[None]:
        try:
            fd = open_lock(self.root / "start.lock")
        except FileNotFoundError:  # the folder was removed under us: nobody else can find it either
            yield
            return
        try:
            wait_for(fd)
            yield
        finally:
            os.close(fd)
