"""What was about to leave, and what became of it: one file per sending process.

Between handing a message to a server and committing that it was sent, a process can die. The journal
decides what then: a line before the last bytes reach the socket, a line after the reply. No line:
the message never left, and is queued again. Two lines: its outcome is known. One line: nobody can
know, and it is `in_doubt`, never sent again by itself.

The kernel keeps what `write` returned from even if the process is killed, so there is no fsync; a
machine that lost its memory has another boot id, and then nothing in the file is believed. A lock
(`flock`) is held for as long as the process lives, so that nobody judges a journal still in use.
Lines hold ids and numbers, never an address.
"""

import enum
import fcntl
import ipaddress
import os
import re
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from uuid import UUID, uuid4

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SUFFIX = ".journal"
_NAME = re.compile(r"(?P<ip>[0-9A-Fa-f.:]+)\.(?P<id>[0-9a-f]{32})\.journal\Z", re.ASCII)
_LINE = re.compile(
    rb"(?P<kind>[be]) (?P<id>[0-9a-f]{32}) (?P<attempt>[0-9]{1,9})"
    rb"(?: (?P<ending>[a-z_]{4,8}) (?P<code>[0-9]{1,3})(?: (?P<tls>[A-Za-z0-9_.-]{1,60}(?:/[A-Za-z0-9_.-]{1,80}){0,4}))?)? (?P<sum>[0-9a-f]{8})\Z"
)


class Ending(enum.StrEnum):
    """What became of a message whose content left."""

    SENT = "sent"
    DEFERRED = "deferred"
    FAILED = "failed"
    IN_DOUBT = "in_doubt"


class JournalBroken(Exception):
    """The journal takes no line (full disk, or a process that is not its owner): send nothing."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """What the journal says of one attempt at a message.

    state: "queued" (it never left; send it again), an `Ending`, or "in_doubt".
    code: the reply's code where there was one, else 0.
    tls: what `after` was told of the connection, so that a crash loses no evidence; "" for nothing.
    """

    message_id: UUID
    attempt: int
    state: str
    code: int = 0
    tls: str = ""


class Journal:
    """The journal of this process. Open it in the process that sends, after any fork."""

    def __init__(self, path: Path, journal_id: UUID, descriptor: int, header: int) -> None:
        self.id = journal_id
        self.path = path
        self.broken = False
        self._descriptor = descriptor
        self._header = header
        self._pid = os.getpid()

    @classmethod
    def open(cls, directory: Path, ip: str) -> Self:
        """Create a journal for sending from `ip`, locked until the process ends.

        It gets its final name only once it is locked and has its header, so whoever looks through
        the directory sees it in use from the first moment.

        Raises:
            OSError: the directory cannot be written.
            ValueError: `ip` is no IP address.
        """
        journal_id = uuid4()
        path = directory / f"{ip}.{journal_id.hex}{_SUFFIX}"
        ipaddress.ip_address(ip)
        if not _NAME.match(path.name):
            raise ValueError("an IP address without a zone names a journal")
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        unborn = directory / f"{journal_id.hex}.new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(unborn, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            header = _header(journal_id)
            if os.write(descriptor, header) != len(header):
                raise OSError("the journal's header could not be written whole")
            unborn.rename(path)
        except BaseException:
            unborn.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        return cls(path, journal_id, descriptor, len(header))

    def before(self, message_id: UUID, attempt: int) -> None:
        """Note that a message's content is about to leave. Only then may it.

        Raises:
            JournalBroken: the line could not be written whole.
        """
        if self.broken or os.getpid() != self._pid:
            raise JournalBroken("the journal is broken or belongs to another process")
        if not self._write(b"b %s %d" % (message_id.hex.encode(), attempt)):
            raise JournalBroken("the journal takes no more lines")

    def after(
        self, message_id: UUID, attempt: int, ending: Ending, code: int = 0, tls: str = ""
    ) -> None:
        """Note what became of it. Never raises on a full disk: the outcome must reach the database.

        `tls`: words joined by slashes, such as version/cipher/certificate; never a host or an address.
        A line that is missing here leaves the message in doubt if the process dies before that.
        """
        if not self.broken:
            fields = (message_id.hex.encode(), attempt, ending.value.encode(), code)
            proof = f" {tls}".encode("ascii") if tls else b""
            self._write(b"e %s %d %s %d" % fields + proof)

    def reset(self) -> None:
        """Forget all lines. Only while no claim under this journal is open in the database."""
        os.ftruncate(self._descriptor, self._header)

    def close(self) -> None:
        """Remove the journal and let go of the lock. The same condition as for `reset` holds."""
        if self._descriptor >= 0:
            self.path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1
            self.broken = True

    def leave(self) -> None:
        """Let go of the lock and keep the file, as a process does that dies: claims are open under it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self.broken = True

    def _write(self, line: bytes) -> bool:
        whole = b"%s %08x\n" % (line, zlib.crc32(line))
        try:
            # One write: a killed process leaves the whole line or none.
            self.broken = os.write(self._descriptor, whole) != len(whole)
        except OSError:
            self.broken = True
        return not self.broken


class Orphan:
    """A journal whose process is gone. Its lock is ours until `retire` or `release`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        match = _NAME.match(path.name)
        if match is None:
            raise ValueError("not a journal's name")
        self.id = UUID(match["id"])
        self.ip = match["ip"]
        self._path = path
        self._descriptor = descriptor
        lines = _lines(_whole(descriptor), self.id)
        self.readable = lines is not None
        self._known = lines or {}

    def state_of(self, message_id: UUID, attempt: int) -> Resolution:
        """Say what became of a message that the database shows as claimed under this journal."""
        known = self._known.get((message_id, attempt))
        if not self.readable:
            return Resolution(message_id, attempt, Ending.IN_DOUBT.value)
        return known or Resolution(message_id, attempt, "queued")

    def resolutions(self) -> list[Resolution]:
        """Return what the journal says of each attempt that it has a line of."""
        return list(self._known.values())

    def retire(self) -> None:
        """Remove the file: after the transaction that resolved its claims has committed."""
        if self._descriptor >= 0:
            self._path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Let it go unresolved; the next look finds it again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def orphans(directory: Path) -> Iterator[Orphan]:
    """Yield the journals in a directory whose process is gone, each locked while it is yielded."""
    for path in sorted(directory.glob(f"*{_SUFFIX}")):
        if not _NAME.match(path.name) or (descriptor := _lock(path)) is None:
            continue
        orphan = Orphan(path, descriptor)
        try:
            yield orphan
        finally:
            orphan.release()
    _sweep(directory)


def present(directory: Path) -> set[UUID]:
    """Return the ids of the journals that have a file, whether their process lives or somebody looks at them."""
    names = (_NAME.match(path.name) for path in directory.glob(f"*{_SUFFIX}"))
    return {UUID(name["id"]) for name in names if name}


def _sweep(directory: Path) -> None:
    """Remove what processes left that died while they opened a journal, before any claim."""
    for path in directory.glob("*.new"):
        if (descriptor := _lock(path)) is not None:
            # A young one may be between its creation and its lock.
            if time.time() - os.fstat(descriptor).st_mtime > 60:
                path.unlink(missing_ok=True)
            os.close(descriptor)


def _lock(path: Path) -> int | None:
    """Open and lock a file that nobody holds; None if somebody does, or it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between opening and locking, its resolver may have removed it.
        gone = os.fstat(descriptor).st_nlink == 0
    except BlockingIOError:
        gone = True
    if gone:
        os.close(descriptor)
        return None
    return descriptor


def _boot() -> bytes:
    return _BOOT_ID.read_bytes().strip()


def _header(journal_id: UUID) -> bytes:
    return b"hipaamail journal 1 %s %s\n" % (journal_id.hex.encode(), _boot())


def _whole(descriptor: int) -> bytes:
    pieces = []
    offset = 0
    while piece := os.pread(descriptor, 1 << 20, offset):
        pieces.append(piece)
        offset += len(piece)
    return b"".join(pieces)


def _lines(content: bytes, journal_id: UUID) -> dict[tuple[UUID, int], Resolution] | None:
    """Read a journal; None if not all of it can be believed.

    A last line without its end counts if its checksum is right. If it is not, `write` has not
    returned, so the content that it was to announce has not left, or the ending that it was to tell
    is unknown: leaving it out says just that.
    """
    header = _header(journal_id)
    if not content.startswith(header):
        return None
    lines = content[len(header) :].split(b"\n")
    last = lines.pop()
    known: dict[tuple[UUID, int], Resolution] = {}
    for line in lines:
        if not _note(line, known):
            return None
    if last:
        _note(last, known)
    return known


def _note(line: bytes, known: dict[tuple[UUID, int], Resolution]) -> bool:
    """Take one line into account; False if it makes no sense where it stands."""
    match = _LINE.match(line)
    if not match or int(match["sum"], 16) != zlib.crc32(line[:-9]):
        return False
    key = UUID(match["id"].decode()), int(match["attempt"])
    if match["kind"] == b"b":
        if match["ending"] is not None:
            return False
        known[key] = Resolution(*key, Ending.IN_DOUBT.value)
        return True
    try:
        ending = Ending((match["ending"] or b"").decode())
    except ValueError:
        return False
    if key not in known:
        return False
    known[key] = Resolution(*key, ending.value, int(match["code"]), (match["tls"] or b"").decode())
    return True
