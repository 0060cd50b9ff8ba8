"""Private folders, private files and file locks."""

import fcntl
import hashlib
import os
import re
import stat
from pathlib import Path

#: A Unix socket's address holds 108 bytes on Linux and 104 on macOS, the file's name included.
SOCKET_BYTES = 100
#: What needs no quoting in a URL, in valkey.conf or in PostgreSQL's list of directories.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._-]+")


class Untrusted(Exception):
    """A folder is not what we would have made: a link, another user's, or open to others."""


def private_folder(path: Path) -> Path:
    """Make a folder that only we can enter, or close one that is ours.

    Raises Untrusted when it is another user's.
    """
    path.mkdir(mode=0o700, exist_ok=True)
    if path.stat().st_uid != os.geteuid():
        raise Untrusted(f"{path} belongs to another user.")
    path.chmod(0o700)
    return path


def shared_place(path: Path, mode: int = 0o700) -> Path:
    """Make or accept a folder under /tmp or /var/tmp, where anybody may have been before us.

    Raises Untrusted when it is a link, another user's, or opener than `mode`.
    """
    try:
        path.mkdir(mode=0o700)
        path.chmod(mode)
    except FileExistsError:
        found = path.lstat()
        ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
        if not ours or stat.S_IMODE(found.st_mode) & ~mode:
            raise Untrusted(f"{path} is not the folder that we would have made.") from None
    return path


def socket_folder(folder: Path) -> Path:
    """Make `folder` for sockets, or a stand-in under /tmp where its path is too long or needs quoting.

    The stand-in is always the same one for a path and a user.
    """
    name_bytes = len("/.s.PGSQL.5432.lock")
    if len(os.fsencode(folder)) + name_bytes <= SOCKET_BYTES and _PLAIN_PATH.fullmatch(str(folder)):
        return private_folder(folder)
    fingerprint = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return shared_place(Path(f"/tmp/hipaamail-{os.geteuid()}-{fingerprint}"))  # noqa: S108 (checked)


def private_file(path: Path, text: str) -> Path:
    """Write a 0600 file whole or not at all, replacing what is there."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)
    return path


def open_lock(path: Path) -> int:
    """Open a lock file; closing every copy of the descriptor lets go of the lock."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def wait_for(fd: int, *, shared: bool = False) -> None:
    """Wait for the lock of an open file, or for a share in it."""
    fcntl.flock(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)


def take(fd: int) -> bool:
    """Take the lock of an open file for oneself; False when somebody else has it or a share in it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def let_go(fd: int) -> None:
    """Drop the lock and keep the file open."""
    fcntl.flock(fd, fcntl.LOCK_UN)
