"""Files on their way in or out: taken apart, encrypted, kept for a while, and read back piece by piece."""

import datetime as dt
import hashlib
import hmac
from collections.abc import Iterable, Iterator

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts.models import Organization, User
from audit.record import actor_of, record
from files.models import Chunk, StagedFile
from phi.keys import Unreadable

#: Bytes of a piece: 256 kB keep memory flat and cost one row each.
CHUNK = 256 * 1024
#: Bytes that one file may have, unless settings.STAGED_FILE_MAX_BYTES says otherwise.
MAX_BYTES = 1024**3
#: Files that one transaction of `expire()` deletes.
BATCH = 20


class TooLarge(Exception):
    """A file has more bytes than may be staged."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"The file is larger than {limit} bytes.")
        self.limit = limit


class Expired(Exception):
    """A staged file is past its time, whether or not it is deleted yet."""


def max_bytes() -> int:
    """Return how many bytes one file may have."""
    return getattr(settings, "STAGED_FILE_MAX_BYTES", MAX_BYTES)


@transaction.atomic
def put(
    organization: Organization,
    *,
    kind: str,
    name: str,
    chunks: Iterable[bytes],
    by: User | str,
    content_type: str,
    keep: dt.timedelta,
) -> StagedFile:
    """Stage what `chunks` yields, of any sizes, and return the file; it can be read for the time of `keep`.

    Nothing is on disk in clear, and no more than a piece is in memory. Raises TooLarge, or ValueError for a
    kind that is none; then nothing is staged.
    """
    file = StagedFile(
        organization=organization,
        kind=StagedFile.Kind(kind),
        name=name[:200],
        content_type=content_type[:100],
        created_by=actor_of(by),
        expires_at=timezone.now() + keep,
    )
    file.save()
    whole, limit = hashlib.sha256(), max_bytes()
    for number, piece in enumerate(_pieces(chunks)):
        file.size += len(piece)
        if file.size > limit:
            raise TooLarge(limit)
        whole.update(piece)
        Chunk.objects.create(organization=organization, file=file, number=number, data=piece)
    file.sha256 = whole.digest()
    file.save(update_fields=["size", "sha256"])
    record("file.staged", organization_id=organization.pk, by=by, target=file, count=file.size)
    return file


def read(file: StagedFile, *, by: User | str = "system:files") -> Iterator[bytes]:
    """Return an iterator over the file's bytes, in pieces of at most 256 kB.

    The log's entry is written before this returns. Raises Expired at once, and Unreadable on the way: for an
    altered piece when it comes up, for missing or exchanged pieces at the end at the latest.
    """
    if file.expires_at <= timezone.now():
        raise Expired(f"File {file.pk} expired.")
    record("file.read", organization_id=file.organization_id, by=by, target=file)
    return _opened(file)


def read_all(file: StagedFile, *, by: User | str = "system:files") -> bytes:
    """Return the whole file; see `read()`."""
    return b"".join(read(file, by=by))


def expire(now: dt.datetime | None = None) -> int:
    """Delete the files whose time is over, and return how many; safe to run twice at once."""
    now = now or timezone.now()
    gone = 0
    while batch := _expire_some(now):
        gone += batch
    return gone


def _opened(file: StagedFile) -> Iterator[bytes]:
    whole, number = hashlib.sha256(), 0
    pieces = Chunk.objects.filter(file_id=file.pk, organization_id=file.organization_id)
    # One query a piece: a cursor would hold a transaction open for as long as the reader takes.
    while piece := pieces.filter(number=number).first():
        plain = piece.data
        whole.update(plain)
        yield plain
        number += 1
    if not hmac.compare_digest(whole.digest(), file.sha256 or b""):
        raise Unreadable(f"file {file.pk}: pieces are missing, or were exchanged")


def _pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    held = bytearray()
    for chunk in chunks:
        held += chunk
        while len(held) >= CHUNK:
            yield bytes(held[:CHUNK])
            del held[:CHUNK]
    if held:
        yield bytes(held)


@transaction.atomic
def _expire_some(now: dt.datetime) -> int:
    files = list(
        StagedFile.objects.select_for_update(skip_locked=True)
        .filter(expires_at__lte=now)
        .only("id", "organization_id")[:BATCH]
    )
    for file in files:
        record("file.expired", organization_id=file.organization_id, by="system:files", target=file)
    StagedFile.objects.filter(pk__in=[file.pk for file in files]).delete()
    return len(files)
