"""The embedded servers: real ones, in folders of their own, held by processes of their own."""

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
import redis
from kombu import Connection
from redis.exceptions import AuthenticationError, NoPermissionError

from hipaamail.embedded import folder
from hipaamail.embedded.postgres import Postgres
from hipaamail.embedded.valkey import Valkey

ROOT = Path(__file__).resolve().parents[2]
OURS = ("DATABASE_URL", "DATABASE_OWNER_URL", "BROKER_URL", "CACHE_URL", "HIPAAMAIL_EMBEDDED")

HOLD = """
import json, os, sys, types
from pathlib import Path
# The package without its __init__, which would import Celery: a third of a second for each of thirty processes.
package = sys.modules["hipaamail"] = types.ModuleType("hipaamail")
package.__path__ = [{package!r}]
from hipaamail.embedded import ServerError, account, hold
{before}
try:
    hold(Path(sys.argv[1]))
except ServerError as error:
    print(json.dumps(str(error)), flush=True)
    sys.exit(1)
{after}
print(json.dumps({{name: os.environ.get(name) for name in sys.argv[2:]}}), flush=True)
sys.stdin.read()
"""


class Holder:
    """A process that holds the servers of a state directory until it is told to end."""

    def __init__(
        self,
        state_dir: Path,
        *,
        before: str = "",
        after: str = "",
        python: str = sys.executable,
        user: int | None = None,
        **env: str,
    ) -> None:
        inherited = {name: value for name, value in os.environ.items() if name not in OURS}
        paths = [str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]
        self.process = subprocess.Popen(
            [
                python,
                "-c",
                HOLD.format(package=str(ROOT / "hipaamail"), before=before, after=after),
                str(state_dir),
                *OURS,
            ],
            cwd="/",
            env=inherited | {"PYTHONPATH": ":".join(paths), "PYTHONDONTWRITEBYTECODE": "1"} | env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            user=user,
            group=user and pwd.getpwuid(user).pw_gid,
            extra_groups=None if user is None else [],
        )

    def __enter__(self) -> "Holder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def answer(self) -> dict[str, str] | str:
        """Wait until the servers are there: the variables, or the error's text."""
        line = self.process.stdout.readline()
        return json.loads(line) if line else self.process.stderr.read()

    def end(self) -> str:
        """Let the process end by itself, and return what it said on stderr."""
        return self.process.communicate()[1]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def connect(urls: dict[str, str], name: str = "DATABASE_URL") -> psycopg.Connection:
    return psycopg.connect(urls[name], autocommit=True)


def running(state_dir: Path) -> list[str]:
    servers = [kind(state_dir / "servers") for kind in (Postgres, Valkey)]
    names = [server.name for server in servers if server.running()]
    for server in servers:
        if server._lock >= 0:
            os.close(server._lock)
    return names


def postmaster(state_dir: Path) -> int:
    pid_file = state_dir / "servers" / "postgres" / "data" / "postmaster.pid"
    return int(pid_file.read_text().splitlines()[0])


def within(seconds: float, true: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    return true()


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A state directory whose database exists; nothing runs in it."""
    state_dir = tmp_path_factory.mktemp("embedded") / "state"
    with Holder(state_dir) as holder:
        assert isinstance(holder.answer(), dict)
    yield state_dir
    assert running(state_dir) == []


def test_a_new_folder_gets_servers_for_an_owner_and_an_application(state: Path) -> None:
    with Holder(state) as holder:
        urls = holder.answer()
        with connect(urls, "DATABASE_OWNER_URL") as owner, connect(urls) as app:
            owner.execute("CREATE EXTENSION intarray")
            owner.execute("CREATE TABLE facts (id int)")
            owner.execute("GRANT SELECT, INSERT ON facts TO hipaamail_app")
            app.execute("INSERT INTO facts VALUES (1)")
            for statement in ("UPDATE facts SET id = 2", "DELETE FROM facts", "TRUNCATE facts"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    app.execute(statement)
            assert app.execute("SELECT id FROM facts").fetchall() == [(1,)]
            roles = owner.execute(
                "SELECT rolname, rolsuper, rolcreaterole, rolcreatedb FROM pg_roles"
                " WHERE rolname LIKE 'hipaamail%' ORDER BY 1"
            ).fetchall()
            owner.execute("DROP TABLE facts")

    assert urls["HIPAAMAIL_EMBEDDED"] == "1"
    assert roles == [
        ("hipaamail_app", False, False, False),
        ("hipaamail_owner", False, True, True),
    ]
    assert state.stat().st_mode & 0o777 == 0o700
    assert running(state) == []


def test_the_broker_carries_messages_and_the_cache_clears_itself_alone(state: Path) -> None:
    with Holder(state) as holder:
        urls = holder.answer()
        with Connection(urls["BROKER_URL"]) as broker:
            queue = broker.SimpleQueue("wake")
            queue.put({"id": 1})
            with redis.Redis.from_url(urls["CACHE_URL"]) as cache:
                cache.set("a", 1)
                cache.flushdb()
                assert cache.get("a") is None
                with pytest.raises(NoPermissionError):
                    cache.config_get("dir")
            assert queue.get(timeout=2).payload == {"id": 1}
            queue.close()
        stranger = urls["CACHE_URL"].split("@")[1]
        with (
            redis.Redis.from_url(f"unix://{stranger}") as unknown,
            pytest.raises(AuthenticationError),
        ):
            unknown.ping()


def test_two_that_start_at_once_share_one_server_and_the_last_one_stops_it(tmp_path: Path) -> None:
    with Holder(tmp_path / "state") as first, Holder(tmp_path / "state") as second:
        urls = first.answer()
        assert second.answer() == urls
        log = (tmp_path / "state/servers/postgres/log").read_text()
        assert log.count("starting PostgreSQL") == 1

        assert first.end() == ""
        with connect(urls) as app:
            assert app.execute("SELECT 1").fetchone() == (1,)
        assert running(tmp_path / "state") == ["PostgreSQL", "Valkey"]

    assert running(tmp_path / "state") == []


def test_servers_outlive_a_killed_holder_and_the_next_one_stops_them(state: Path) -> None:
    holder = Holder(state)
    holder.answer()
    server = postmaster(state)
    holder.kill()
    assert running(state) == ["PostgreSQL", "Valkey"]

    with Holder(state) as after:
        with connect(after.answer()) as app:
            assert app.execute("SELECT 1").fetchone() == (1,)
        assert postmaster(state) == server

    assert running(state) == []


def test_a_forked_child_leaves_its_parents_servers_alone(state: Path) -> None:
    fork = "child = os.fork()\nif child == 0: sys.exit()\nos.waitpid(child, 0)"

    with Holder(state, after=fork) as holder, connect(holder.answer()) as app:
        assert app.execute("SELECT 1").fetchone() == (1,)

    assert running(state) == []


def test_killed_servers_start_again_although_their_numbers_are_taken(state: Path) -> None:
    with Holder(state) as holder:
        urls = holder.answer()
        with connect(urls, "DATABASE_OWNER_URL") as owner:
            owner.execute("CREATE TABLE kept AS SELECT 7 AS id")
        os.kill(postmaster(state), signal.SIGKILL)
        assert within(10, lambda: running(state) == ["Valkey"])
    pid_file = state / "servers/postgres/data/postmaster.pid"
    pid_file.write_text("\n".join([str(os.getpid()), *pid_file.read_text().splitlines()[1:]]))
    sockets = state / "servers/sockets"
    sockets.mkdir(mode=0o700, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as foreign:
        foreign.bind(str(sockets / "valkey.sock"))
        foreign.listen()

        with Holder(state) as after, connect(after.answer(), "DATABASE_OWNER_URL") as owner:
            assert owner.execute("SELECT id FROM kept").fetchone() == (7,)
            owner.execute("DROP TABLE kept")

    assert running(state) == []


def test_a_copy_in_a_closed_folder_with_a_long_odd_name_runs_beside_the_original(
    state: Path, tmp_path: Path
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    copy = closed / ("it's, 100% long " * 8).strip()
    shutil.copytree(state, copy, symlinks=True)

    with Holder(state) as original, Holder(copy) as holder:
        urls = holder.answer()
        assert urls["DATABASE_URL"].split("?")[1] != original.answer()["DATABASE_URL"].split("?")[1]
        shown = parse_qs(urlsplit(urls["DATABASE_URL"]).query)["host"][0]
        with connect(urls) as app:
            assert app.execute("SELECT 1").fetchone() == (1,)
        with redis.Redis.from_url(urls["CACHE_URL"]) as cache:
            assert cache.ping()
        assert shown.startswith(f"/tmp/hipaamail-{os.geteuid()}-")
        assert Path(shown).stat().st_mode & 0o777 == 0o700
        assert running(copy) == ["PostgreSQL", "Valkey"]

    assert running(copy) == []
    assert not Path(shown).exists()


def test_a_folder_that_somebody_else_could_have_prepared_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path)

    for name in ("open", "link"):
        with pytest.raises(folder.Untrusted):
            folder.shared_place(tmp_path / name)

    assert folder.shared_place(tmp_path / "new") == folder.shared_place(tmp_path / "new")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_no_log_shows_a_value_after_errors_and_after_a_crash(state: Path) -> None:
    with Holder(state) as holder:
        urls = holder.answer()
        with connect(urls, "DATABASE_OWNER_URL") as owner:
            owner.execute("CREATE TEMP TABLE people (name text PRIMARY KEY)")
            owner.execute("INSERT INTO people VALUES ('canary')")
            for statement, values in (
                ("INSERT INTO people VALUES (%s)", ["canary"]),
                ("SELECT %s::date", ["canary"]),
                ("SELECT 'canary'::int", None),
                ("SELECT * FROM canary", None),
                ("DO $$ BEGIN RAISE WARNING 'canary'; RAISE EXCEPTION 'canary'; END $$", None),
            ):
                with pytest.raises(psycopg.Error):
                    owner.execute(statement, values)
        doomed = psycopg.connect(urls["DATABASE_OWNER_URL"])
        doomed.execute("SELECT 'canary', pg_sleep(0)")
        os.kill(doomed.info.backend_pid, signal.SIGKILL)
        log = state / "servers/postgres/log"
        assert within(10, lambda: "reinitializing" in log.read_text())
        assert within(10, lambda: log.read_text().endswith("ready to accept connections\n"))
        doomed.close()

    said = log.read_text()
    assert "terminated by signal 9" in said
    assert "canary" not in said
    assert log.stat().st_mode & 0o777 == 0o600


def test_only_what_the_environment_does_not_name_is_started(state: Path) -> None:
    with Holder(state, DATABASE_URL="postgres://elsewhere/a") as holder:
        urls = holder.answer()
        assert urls["DATABASE_URL"] == "postgres://elsewhere/a"
        assert urls["DATABASE_OWNER_URL"] is None
        assert running(state) == ["Valkey"]

    with Holder(state, BROKER_URL="amqp://elsewhere") as holder:
        urls = holder.answer()
        assert (urls["BROKER_URL"], urls["CACHE_URL"]) == ("amqp://elsewhere", None)
        assert running(state) == ["PostgreSQL"]

    with Holder(state, DATABASE_URL="postgres://a/a", BROKER_URL="amqp://b") as holder:
        assert holder.answer()["HIPAAMAIL_EMBEDDED"] is None
        assert running(state) == []


def test_a_server_that_cannot_start_says_why_and_leaves_nothing_running(state: Path) -> None:
    version = state / "servers/postgres/data/PG_VERSION"
    before = version.read_text()
    version.write_text("9\n")

    with Holder(state) as holder:
        answer = holder.answer()
    version.write_text(before)

    assert answer.startswith("PostgreSQL cannot start; the last lines of ")
    assert "FATAL:  database files are incompatible with server" in answer
    assert running(state) == []


def test_a_database_that_lost_its_passwords_is_not_given_others(state: Path) -> None:
    passwords = state / "servers/postgres/passwords.json"
    passwords.rename(state / "kept")

    with Holder(state) as holder:
        answer = holder.answer()

    assert "passwords.json is gone" in answer
    assert not passwords.exists()
    assert running(state) == []
    (state / "kept").rename(passwords)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root meets PostgreSQL's refusal of root")
def test_root_without_namespaces_runs_postgresql_as_nobody(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    state = tmp_path / "state"
    data = state / "servers/postgres/data"
    nobody = pwd.getpwnam("nobody").pw_uid
    none_to_be_had = "account.NAMESPACE = ('false',)"

    with Holder(state, before=none_to_be_had) as holder:
        with connect(holder.answer(), "DATABASE_OWNER_URL") as owner:
            owner.execute("CREATE TABLE kept AS SELECT 7 AS id")
        assert Path(f"/proc/{postmaster(state)}").stat().st_uid == nobody
        assert holder.end() == ""
    assert data.stat().st_uid == nobody
    assert state.stat().st_uid == os.geteuid()

    # As if it had been made in a namespace, before those were forbidden.
    for path in (data, *data.rglob("*")):
        os.chown(path, 0, 0)
    with Holder(state, before=none_to_be_had) as holder:
        with connect(holder.answer(), "DATABASE_OWNER_URL") as owner:
            assert owner.execute("SELECT id FROM kept").fetchone() == (7,)
        assert "now belongs to nobody" in holder.end()
    assert running(state) == []

    # Allowed again.
    with Holder(state) as holder:
        with connect(holder.answer(), "DATABASE_OWNER_URL") as owner:
            assert owner.execute("SELECT id FROM kept").fetchone() == (7,)
        assert holder.end() == ""
    assert running(state) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_an_ordinary_user_has_servers_but_not_in_another_users_folder(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    python = next(
        (path for path in (sys.executable, "/usr/bin/python3") if usable(path, nobody)), None
    )
    if python is None:
        pytest.skip("no Python of this version that nobody can run")
    home = Path("/tmp") / f"hipaamail-test-{os.getpid()}"
    home.mkdir(mode=0o700)
    os.chown(home, nobody, -1)
    try:
        with Holder(home / "state", python=python, user=nobody) as holder:
            with connect(holder.answer()) as app:
                assert app.execute("SELECT 1").fetchone() == (1,)
            running_as = Path(f"/proc/{postmaster(home / 'state')}").stat().st_uid

        assert running_as == nobody
        assert running(home / "state") == []

        with Holder(home / "state") as root:
            answer = root.answer()
        assert "belongs to another user" in answer
        assert running(home / "state") == []
    finally:
        shutil.rmtree(home)


def usable(python: str, user: int) -> bool:
    code = f"import sys; sys.path.append({str(ROOT)!r}); assert sys.version_info[:2] == {sys.version_info[:2]!r}; import hipaamail.embedded"
    paths = ":".join(path for path in sys.path if path.endswith("site-packages"))
    try:
        result = subprocess.run(
            [python, "-c", code],
            cwd="/",
            env={"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"},
            user=user,
            group=user,
            extra_groups=[],
            capture_output=True,
        )
    except OSError:
        return False
    return result.returncode == 0
