"""Staged files: encrypted, whole or refused, read on record, gone in time."""

import datetime as dt
import hashlib
import threading

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from audit.models import Entry
from contacts.models import Import
from files import staging, tasks
from files.models import Chunk, StagedFile
from files.staging import CHUNK, Expired, TooLarge
from phi.fields import Sealed
from phi.keys import Unreadable

CANARY = b"Zelda Quimby,zelda.quimby@quimby.example,1951-04-02\r\n"


def stage(organization, content=CANARY, **kwargs):
    kwargs = {
        "kind": "upload",
        "name": "Quimby list.csv",
        "chunks": [content],
        "by": "system:tests",
        "content_type": "text/csv",
        "keep": dt.timedelta(hours=1),
        **kwargs,
    }
    return staging.put(organization, **kwargs)


def test_what_was_put_is_read_back_with_its_size_and_hash(organization, alice):
    content = bytes(range(256)) * 3000
    file = stage(organization, content, by=alice)
    read = StagedFile.objects.get(pk=file.pk)

    assert staging.read_all(read, by=alice) == content
    assert [len(piece) for piece in staging.read(read)] == [CHUNK, CHUNK, 768_000 - 2 * CHUNK]
    assert (read.size, read.sha256) == (768_000, hashlib.sha256(content).digest())
    assert read.name == "Quimby list.csv"
    assert read.created_by == f"user:{alice.pk}"
    assert dt.timedelta(minutes=59) < read.expires_at - timezone.now() <= dt.timedelta(hours=1)


def test_nothing_of_it_is_in_the_database_in_clear(organization):
    file = stage(organization)
    with connection.cursor() as cursor:
        cursor.execute("SELECT f::text || c::text FROM files_stagedfile f, files_chunk c")
        text = cursor.fetchone()[0]

    for word in (b"Zelda", b"Quimby", b"1951"):
        assert word.hex() not in text
        assert word.decode() not in text
    assert hashlib.sha256(CANARY).hexdigest() not in text
    assert str(file) == f"file {file.pk}"


@hypothesis_settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=40), max_size=8))
def test_pieces_of_any_size_are_put_together(organization, monkeypatch, chunks):
    monkeypatch.setattr(staging, "CHUNK", 16)
    file = stage(organization, chunks=chunks)

    assert staging.read_all(file) == b"".join(chunks)
    assert file.size == len(b"".join(chunks))


def test_an_empty_file_is_a_file(organization):
    file = stage(organization, chunks=[])

    assert (staging.read_all(file), file.size) == (b"", 0)


def test_no_more_than_one_piece_is_taken_at_a_time(organization, monkeypatch):
    monkeypatch.setattr(staging, "CHUNK", 4)
    stored_when_asked = []

    def chunks():
        for _ in range(5):
            stored_when_asked.append(Chunk.objects.count())
            yield b"abcd"

    stage(organization, chunks=chunks())

    assert stored_when_asked == [0, 1, 2, 3, 4]


def test_a_file_that_is_too_large_is_refused_as_soon_as_it_is_and_leaves_nothing(
    organization, settings
):
    settings.STAGED_FILE_MAX_BYTES = 2 * CHUNK
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield b"x" * CHUNK

    with pytest.raises(TooLarge, match=str(2 * CHUNK)):
        stage(organization, chunks=endless())

    assert len(taken) == 3
    assert not StagedFile.objects.exists()
    assert not Chunk.objects.exists()
    assert not Entry.objects.filter(action="file.staged").exists()


def test_a_file_of_exactly_the_limit_is_let_in(organization, settings):
    settings.STAGED_FILE_MAX_BYTES = len(CANARY)

    assert staging.read_all(stage(organization)) == CANARY


def test_a_source_that_breaks_off_leaves_nothing(organization):
    def chunks():
        yield b"x" * (CHUNK + 1)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        stage(organization, chunks=chunks())

    assert not StagedFile.objects.exists()


@pytest.mark.parametrize("wrong", [{"kind": "secret"}, {"by": "Zelda"}])
def test_an_unknown_kind_or_nobody_is_refused(organization, wrong):
    with pytest.raises(ValueError):  # noqa: PT011
        stage(organization, **wrong)

    assert not StagedFile.objects.exists()


def test_putting_and_reading_are_on_record_without_a_name(organization, alice, bob):
    file = stage(organization, by=alice)
    pieces = staging.read(file, by=bob)
    # Before a byte is handed out.
    entries = list(Entry.objects.filter(target_id=file.pk).order_by("id"))
    assert [(e.action, e.actor) for e in entries] == [
        ("file.staged", f"user:{alice.pk}"),
        ("file.read", f"user:{bob.pk}"),
    ]
    assert entries[0].count == len(CANARY)
    assert "Quimby" not in str([e.__dict__ for e in entries])
    assert next(pieces) == CANARY


def test_a_file_past_its_time_is_not_read_though_it_is_still_there(organization):
    file = stage(organization, keep=dt.timedelta(0))

    with pytest.raises(Expired):
        staging.read(file)
    assert not Entry.objects.filter(action="file.read").exists()


def test_what_is_past_its_time_is_deleted_and_the_rest_stays(organization, other_organization):
    gone = [stage(o, keep=dt.timedelta(0)).pk for o in (organization, other_organization)]
    kept = stage(organization)
    imported = Import.objects.create(
        organization=organization, file_id=gone[0], created_by_id=gone[0]
    )

    assert tasks.expire() == 2
    assert [f.pk for f in StagedFile.objects.all()] == [kept.pk]
    assert {c.file_id for c in Chunk.objects.all()} == {kept.pk}
    imported.refresh_from_db()
    assert imported.file_id is None
    entries = Entry.objects.filter(action="file.expired")
    assert {(e.organization_id, e.target_id) for e in entries} == {
        (organization.pk, gone[0]),
        (other_organization.pk, gone[1]),
    }
    assert staging.expire() == 0
    assert staging.read_all(kept) == CANARY


def test_more_files_than_one_batch_expire(organization, monkeypatch):
    monkeypatch.setattr(staging, "BATCH", 2)
    for _ in range(5):
        stage(organization)

    assert staging.expire(timezone.now() + dt.timedelta(days=1)) == 5


@pytest.mark.django_db(transaction=True)
def test_two_workers_expire_each_file_once():
    from tests.factories import make_organization

    organization = make_organization()
    for _ in range(6):
        stage(organization, keep=dt.timedelta(0))
    counts = []

    def work():
        counts.append(staging.expire())
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts.append(staging.expire())

    assert sum(counts) == 6
    assert Entry.objects.filter(action="file.expired").count() == 6


# --- tampering


@pytest.fixture
def three(organization, monkeypatch):
    """A file of three pieces."""
    monkeypatch.setattr(staging, "CHUNK", 4)
    return stage(organization, b"aaaabbbbcccc")


def test_a_piece_cut_off_the_end_or_the_start_is_noticed(three):
    for number in (2, 0):
        Chunk.objects.filter(number=number).delete()
        with pytest.raises(Unreadable, match="missing"):
            staging.read_all(three)


def test_exchanged_pieces_are_noticed(three):
    for old, new in ((0, 9), (1, 0), (9, 1)):
        Chunk.objects.filter(number=old).update(number=new)

    with pytest.raises(Unreadable, match="exchanged"):
        staging.read_all(three)


def test_a_piece_of_another_file_is_noticed(three, organization):
    other = stage(organization, b"dddd")
    Chunk.objects.filter(file=three, number=1).delete()
    Chunk.objects.filter(file=other).update(file=three, number=1)

    with pytest.raises(Unreadable):
        staging.read_all(three)


def test_a_piece_moved_into_another_row_is_noticed(three):
    first, second = Chunk.objects.order_by("number")[:2]
    Chunk.objects.filter(pk=second.pk).update(data=Sealed(first.__dict__["data"]))

    with pytest.raises(Unreadable):
        staging.read_all(three)


def test_a_hash_without_a_key_cannot_be_planted(three):
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE files_stagedfile SET sha256 = %s", [hashlib.sha256(b"aaaa").digest()]
        )
    Chunk.objects.exclude(number=0).delete()

    with pytest.raises(Unreadable):
        staging.read_all(StagedFile.objects.get())


def test_pieces_of_another_organization_are_not_read(three, other_organization):
    Chunk.objects.update(organization=other_organization)

    with pytest.raises(Unreadable):
        staging.read_all(three)
