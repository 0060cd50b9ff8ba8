"""Uploads: never in clear outside the process, readable like any file, capped."""

import builtins
import csv
import io
import os
import tempfile

import pytest
from django.core.exceptions import RequestDataTooBig
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.handlers.exception import convert_exception_to_response
from django.http import HttpResponse
from django.test import RequestFactory
from hypothesis import given
from hypothesis import strategies as st

from files import upload
from files.upload import EncryptedSpool, EncryptedUploadHandler
from phi.keys import Unreadable

ROW = b"Zelda,Quimby,zelda.quimby@quimby.example,1951-04-02\r\n"
CONTENT = ROW * 20_000  # 1 MB: several pieces


@pytest.fixture
def spools(monkeypatch):
    """The temporary files that are opened, as the disk holds them."""
    opened = []
    real = tempfile.TemporaryFile

    def temporary(*args, **kwargs):
        opened.append(real(*args, **kwargs))
        return opened[-1]

    monkeypatch.setattr(upload.tempfile, "TemporaryFile", temporary)
    return opened


def posted(*contents, name="list.csv"):
    files = [SimpleUploadedFile(name, content, "text/csv") for content in contents]
    return RequestFactory().post("/", {"file": files, "note": "hello"})


def test_the_site_uses_this_handler_alone(settings):
    assert settings.FILE_UPLOAD_HANDLERS == ["files.upload.EncryptedUploadHandler"]


def test_an_upload_is_what_was_sent(spools):
    request = posted(CONTENT)
    file = request.FILES["file"]

    assert request.POST["note"] == "hello"
    assert (file.name, file.size, file.content_type) == ("list.csv", len(CONTENT), "text/csv")
    assert file.read() == CONTENT
    assert b"".join(file.chunks()) == CONTENT
    assert b"".join(file.chunks(1000)) == CONTENT
    file.seek(len(ROW))
    assert file.readline() == ROW


def test_nothing_of_it_is_on_the_disk_in_clear(spools):
    request = posted(CONTENT)
    assert request.FILES["file"].size == len(CONTENT)
    (spool,) = spools
    spool.seek(0)
    stored = spool.read()

    assert len(stored) > len(CONTENT)
    for word in (b"Zelda", b"quimby.example", b"1951-04-02"):
        assert word not in stored


def test_no_other_file_is_opened(monkeypatch):
    opened = []
    monkeypatch.setattr(builtins, "open", lambda *args, **kwargs: opened.append(args) or 1 / 0)
    request = posted(CONTENT)
    assert request.FILES["file"].size == len(CONTENT)

    assert opened == []


def test_several_files_have_keys_of_their_own(spools):
    first, second = posted(ROW, ROW).FILES.getlist("file")
    assert (first.read(), second.read()) == (ROW, ROW)
    stored = []
    for spool in spools:
        spool.seek(0)
        stored.append(spool.read())

    assert stored[0] != stored[1]


def test_equal_pieces_of_one_file_are_sealed_differently(spools):
    spool = EncryptedSpool()
    spool.append(ROW)
    spool.append(ROW)
    spools[0].seek(0)
    stored = spools[0].read()

    assert stored[: len(ROW)] != stored[len(ROW) + 16 : 2 * len(ROW) + 16]
    assert spool.read() == ROW * 2


def test_it_can_be_read_as_text_row_by_row(spools):
    file = posted(CONTENT).FILES["file"]
    rows = list(csv.reader(io.TextIOWrapper(file, "utf-8", newline="")))

    assert len(rows) == 20_000
    assert rows[19_999][1] == "Quimby"


def test_an_empty_file_is_empty(spools):
    file = posted(b"").FILES["file"]

    assert (file.size, file.read()) == (0, b"")


def test_a_name_that_is_a_path_loses_it(spools):
    # RequestFactory would clean the name, so the body is written by hand.
    body = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="../../etc/passwd"\r\n'
        b"Content-Type: text/csv\r\n\r\n" + ROW + b"\r\n--x--\r\n"
    )
    request = RequestFactory().post("/", body, "multipart/form-data; boundary=x")

    assert request.FILES["file"].name == "passwd"


def test_a_body_that_is_too_long_is_refused_before_it_is_read(settings, spools):
    settings.STAGED_FILE_MAX_BYTES = 1000
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    with pytest.raises(RequestDataTooBig):
        _ = posted(CONTENT).FILES

    assert spools == []


def test_a_file_that_turns_out_too_long_is_refused_and_its_spool_is_gone(settings, spools):
    settings.STAGED_FILE_MAX_BYTES = 300_000
    with pytest.raises(RequestDataTooBig):
        _ = posted(CONTENT).FILES

    assert [spool.closed for spool in spools] == [True]


def test_the_refusal_reaches_the_browser_as_400(settings):
    settings.STAGED_FILE_MAX_BYTES = 10
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10

    def view(request):
        return HttpResponse(str(len(request.FILES)))

    answer = convert_exception_to_response(view)(posted(CONTENT))
    assert answer.status_code == 400
    assert b"Zelda" not in answer.content


def test_closing_an_upload_closes_its_file(spools):
    file = posted(ROW).FILES["file"]
    file.close()

    assert spools[0].closed


def test_a_connection_that_breaks_off_closes_the_file(spools):
    handler = EncryptedUploadHandler()
    handler.new_file("file", "list.csv", "text/csv", None)
    handler.receive_data_chunk(ROW, 0)
    handler.upload_interrupted()

    assert spools[0].closed


def test_a_spool_altered_on_disk_is_not_read(spools):
    file = posted(ROW).FILES["file"]
    (spool,) = spools
    spool.seek(3)
    spool.write(b"\0")
    spool.flush()

    with pytest.raises(Unreadable):
        file.read()


@given(
    st.lists(st.binary(min_size=1, max_size=9), max_size=6),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30)), max_size=6),
)
def test_a_spool_reads_like_bytes_from_anywhere(pieces, reads):
    spool, plain = EncryptedSpool(), io.BytesIO(b"".join(pieces))
    for piece in pieces:
        spool.append(piece)
    buffered = io.BufferedReader(spool, 4)

    for place, length in reads:
        assert buffered.seek(place) == plain.seek(place)
        assert buffered.read(length) == plain.read(length)
    assert buffered.seek(0, os.SEEK_END) == plain.seek(0, os.SEEK_END)
    buffered.close()
