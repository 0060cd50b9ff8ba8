"""A canary patient, whose name, address, birth date, record number and conditions no other text holds.

They go through everything that can happen to a patient here, the errors too; then every place is searched where
they must not be: tables, logs, files, tasks, sessions, caches, pages, and what exceptions say.
"""

import datetime as dt
import inspect
import io
import logging
from collections.abc import Iterator
from email import message_from_bytes
from typing import Any

import pytest
from celery import current_app
from django.conf import settings as django_settings
from django.contrib.sessions.models import Session
from django.core.cache import caches
from django.db import Error, connection, transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.test import Client
from django.urls import include, path

from audit.models import Entry
from audit.seal import seal
from audit.verify import verify
from consent import gate
from consent.authorize import Refused as NotAuthorized
from consent.explain import explain
from contacts import erase, importer, segments
from contacts.criteria import CriteriaError
from contacts.models import Contact, CustomField, Import
from delivery import freeze, unsubscribe
from delivery.journal import Journal
from delivery.models import Destination, Message
from files import staging
from phi.ids import uuid7
from phi.redact import Formatter
from tests.delivery.conftest import send
from tests.delivery.faulty import beside
from tests.factories import (
    make_addresses,
    make_contact,
    make_form,
    make_revision,
    make_scheduled,
    sign,
)

FIRST, LAST = "Xylophania", "Quibbleworth"
LOCAL, DOMAIN = "zorblax.kumquat", "plonkington.example"
EMAIL = f"{LOCAL}@{DOMAIN}"
BORN = dt.date(1951, 7, 13)
NUMBER = "MRN-7QZXW-31"
CONDITION = "brontosaurus flu"
CUSTOM = "flibbertigibbet"
#: Each as it could be written; a place may hold none of them, in upper or lower case.
CANARIES = (
    FIRST, LAST, LOCAL, DOMAIN, NUMBER, CONDITION, CUSTOM,
    "1951-07-13", "13/07/1951", "07/13/1951", "13.07.1951", "19510713", "July 13, 1951", "1951, 7, 13",
    "=" + EMAIL.replace("@", "=40"),
)  # fmt: skip


def canaries_in(content: bytes | str) -> list[str]:
    """Return the canaries in a text, in clear or in hexadecimal."""
    text = (content.encode() if isinstance(content, str) else content).lower()
    return [
        canary
        for canary in CANARIES
        if canary.lower().encode() in text
        or canary.lower().encode().hex().encode() in text
        # A name of a stranger begins with a capital in hexadecimal.
        or canary.encode().hex().encode() in text
    ]


def tables() -> dict[str, str]:
    """Return {table: every row of it as JSON}, bytes in hexadecimal."""
    with connection.cursor() as cursor:
        cursor.execute("select tablename from pg_tables where schemaname = 'public' order by 1")
        names = [name for (name,) in cursor.fetchall()]
        found = {}
        for name in names:
            cursor.execute(f'select coalesce(string_agg(row_to_json(t)::text, chr(10)), \'\') from "{name}" t')  # fmt: skip
            found[name] = cursor.fetchone()[0]
    return found


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What every logger says at DEBUG, as the running system writes it."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(Formatter())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield text
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture
def journals(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What stood in each journal before it was forgotten."""
    kept: list[bytes] = []
    for name in ("reset", "close", "leave"):
        real = getattr(Journal, name)

        def keeping(self: Journal, real: Any = real) -> None:
            kept.append(self.path.read_bytes() if self.path.exists() else b"")
            real(self)

        monkeypatch.setattr(Journal, name, keeping)
    return kept


def rows() -> bytes:
    """Return a file in which the canary stands in every kind of row."""
    header = (
        "record_number,email,first_name,last_name,date_of_birth,state,zip,conditions,"
        "authorized_on,opted_out,favourite_word"
    )
    good = (
        f"{NUMBER},{EMAIL},{FIRST},{LAST},{BORN},IL,60601,{CONDITION};diabetes,2026-01-15,,{CUSTOM}"
    )
    bad = [
        f"{NUMBER},{LOCAL} {DOMAIN},{FIRST},{LAST},{BORN},IL,60601,{CONDITION},2026-01-15,,{CUSTOM}",
        f"{NUMBER}-2,{EMAIL},{FIRST},{LAST},13/07/1951x,IL,60601,{CONDITION},2026-01-15,,{CUSTOM}",
        f"{NUMBER}-3,{EMAIL},{FIRST}\u202e,{LAST},{BORN},IL,60601,{CONDITION},{BORN}x,,{CUSTOM}",
        f"{NUMBER}-4,{EMAIL},{FIRST},{LAST},{BORN},IL,60601,{CONDITION},2026-01-15,{LAST},{CUSTOM}",
        f"{NUMBER}-5,{EMAIL},{FIRST}\0,{LAST}",
        f'{NUMBER}-6,"{EMAIL},{FIRST},{LAST},{BORN}',
    ]
    return "\r\n".join([header, good, *bad, ""]).encode()


def bring_in(organization: Any, form: Any, by: Any, content: bytes) -> Import:
    file = staging.put(
        organization,
        kind="upload",
        name="extract.csv",
        chunks=[content],
        by=by,
        content_type="text/csv",
        keep=dt.timedelta(hours=1),
    )
    options = {"form_version": str(form.pk), "evidence": f"Form of {FIRST}", "copies_given": True}
    import_ = importer.start(organization, file, source="ehr", options=options, by=by)
    importer.map(import_, by=by)
    importer.check(import_, by=by)
    return importer.apply(import_, by=by)


def errors(organization: Any, form: Any, by: Any) -> list[BaseException]:
    """Make every error that a canary could be quoted in, and return them."""
    contact = Contact.objects.get(organization=organization)

    def duplicate() -> None:
        with transaction.atomic():
            make_contact(organization, email=EMAIL, first_name=FIRST, record_number=NUMBER)

    def too_long() -> None:
        with transaction.atomic():
            CustomField.objects.create(organization=organization, key="x" * 61, label="x")

    def moved() -> None:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute(
                    "update contacts_contact set first_name = last_name where id = %s", [contact.pk]
                )
            _ = Contact.objects.get(pk=contact.pk).first_name

    def by_name() -> None:
        Contact.objects.filter(first_name=FIRST).exists()

    def criteria() -> None:
        segments.check(organization, {"all": [{"field": FIRST, "op": LAST, "value": EMAIL}]})

    def signature() -> None:
        sign(contact, form, signed_on=BORN, expires_on=BORN - dt.timedelta(days=1))

    def erased_twice() -> None:
        with transaction.atomic():
            erase.erase(contact, by=by)
            erase.erase(contact, by=by)

    raised = []
    for make in (duplicate, too_long, moved, by_name, criteria, signature, erased_twice):
        with pytest.raises(Exception) as error:
            make()
        assert not isinstance(error.value, (AttributeError, NameError)), error.value
        raised.append(error.value)
        logging.getLogger("contacts").error("It failed.", exc_info=error.value)
    kinds = {type(error) for error in raised}
    assert {CriteriaError, NotAuthorized, erase.AlreadyErased} <= kinds
    assert sum(isinstance(error, Error) for error in raised) == 2
    return raised


@pytest.mark.django_db(transaction=True)
def test_no_canary_is_anywhere(
    organization, alice, petra, log, journals, caplog, tmp_path, settings, monkeypatch
):
    caplog.set_level(logging.DEBUG)
    organization.treatment_terms = True
    organization.save()
    form = make_form(
        organization,
        information_classes=["contact", "demographic", "treatment", "organization"],
    )
    addresses = make_addresses(organization)
    said: list[str] = []

    # In: one good row, and the same person in six bad ones.
    import_ = bring_in(organization, form, alice, rows())
    assert (import_.created, import_.rejected) == (1, 6)
    assert Contact.objects.get().first_name == FIRST
    said.append(str(import_.problems) + str(import_.plan))
    criteria = {"all": [{"field": "date_of_birth", "op": "is", "value": str(BORN)},
                        {"field": "conditions", "op": "is", "value": CONDITION}]}  # fmt: skip
    segment = segments.create(organization, "A few", criteria, by=alice)
    assert segments.count(organization, criteria) == 1

    # Out: refused with the address quoted, deferred with it, and at last sent.
    def quoting(reply: bytes) -> Any:
        return lambda line: reply + line.strip() + f" {FIRST} {LAST}\r\n".encode()

    settings.SMTP_SECONDS = 5
    revision = make_revision(
        organization,
        'Hello {{ last_name | fallback: "you" }}',
        subject='For {{ first_name | fallback: "you" }}',
    )
    for rcpt in (b"451 4.7.1 try later ", b"250 2.1.5 ok ", b"550 5.7.1 refused "):
        settings.RETRY_FIRST_SECONDS = 300
        campaign = make_scheduled(organization, by=alice, segment=segment, revision=revision)
        assert freeze.launch_due() == 1
        with beside(tmp_path, rcpt=quoting(rcpt)) as seen:
            settings.HIPAAMAIL_ROUTES = f"*=127.0.0.1:{seen.port}"
            assert send(addresses) == 1
        freeze.tidy()
        assert Message.objects.filter(campaign=campaign).count() == 1
        if seen.messages:
            assert FIRST in str(message_from_bytes(seen.messages[0])["Subject"])
        Destination.objects.update(closed_until=None)
    assert set(Message.objects.values_list("state", flat=True)) == {"deferred", "sent", "failed"}
    sent = Message.objects.get(state="sent")
    assert sent.values == {"first_name": FIRST, "last_name": LAST}

    # Asked about, stopped, and every error on the way.
    said += [one.sentence for one in explain(Contact.objects.get(), by=petra)]
    client = Client()
    link = f"/u/{unsubscribe.token(sent.pk)}"
    pages = [
        client.get(link),
        client.post(link, "List-Unsubscribe=One-Click", content_type="application/x-www-form-urlencoded"),
        client.post(link, "confirm=yes", content_type="application/x-www-form-urlencoded"),
        client.post(link, f"{FIRST}={EMAIL}", content_type="application/x-www-form-urlencoded"),
        client.get("/u/nonsense"),
    ]  # fmt: skip
    assert [page.status_code for page in pages] == [200, 200, 200, 200, 404]
    assert gate.decide(gate.ask(organization, "MARKETING"), [sent.contact_id]) == {
        sent.contact_id: "opted_out"
    }
    raised = errors(organization, form, petra)
    seal()

    # And nobody is told of.
    assert {name: found for name, text in tables().items() if (found := canaries_in(text))} == {}
    assert Entry.objects.count() > 20 and verify().ok
    assert canaries_in(log.getvalue()) == [], log.getvalue()
    assert "It failed." in log.getvalue() and "is withheld" not in log.getvalue()
    ours = {"delivery", "contacts", "consent", "campaigns", "builder", "audit", "phi", "files"}
    plain = [r.getMessage() for r in caplog.records if r.name.partition(".")[0] in ours]
    assert canaries_in("\n".join(plain)) == []
    assert canaries_in("\n".join(said)) == []
    assert [error for error in raised if canaries_in(str(error) + repr(error.args))] == []
    assert [page for page in pages if canaries_in(page.content + str(page.headers).encode())] == []
    assert any(journals) and [one for one in journals if canaries_in(one)] == []
    files = [
        *django_settings.STATE_DIR.rglob("*"),
        *django_settings.AUDIT_HEADS.rglob("*"),
    ]
    assert any(file.name == "latest.json" for file in files)
    assert [f for f in files if f.is_file() and canaries_in(f.read_bytes() + str(f).encode())] == []
    assert not Session.objects.exists()
    held = [str(caches[name].__dict__.get("_cache", "")) for name in django_settings.CACHES]
    assert [one for one in held if canaries_in(one)] == []


@pytest.mark.django_db
def test_the_search_finds_what_is_planted_in_clear_and_as_bytes(organization):
    CustomField.objects.create(organization=organization, key="a", label=f"Of {LAST.upper()}")
    Destination.objects.create(
        organization=organization, domain_digest=EMAIL.encode(), domain="mail.example"
    )

    found = {name: canaries_in(text) for name, text in tables().items()}

    assert found["contacts_customfield"] == [LAST]
    assert found["delivery_destination"] == [LOCAL, DOMAIN]
    assert sum(map(bool, found.values())) == 2


def broken(request: HttpRequest) -> HttpResponse:
    """Fail with the canary at hand, in a variable and in the message."""
    patient = {"name": FIRST, "email": EMAIL}
    raise RuntimeError(f"{patient} was born on {BORN}")


def missing(request: HttpRequest) -> HttpResponse:
    """Look for somebody who is not there, with the canary at hand."""
    patient = {"name": FIRST, "email": EMAIL}
    return HttpResponse(get_object_or_404(Contact, kind="patient", pk=uuid7()), patient)


urlpatterns = [
    path("", include("hipaamail.urls")),
    path("broken", broken),
    path("missing", missing),
]


@pytest.mark.django_db
@pytest.mark.parametrize("debug", [False, True], ids=["DEBUG off", "DEBUG on"])
@pytest.mark.parametrize(("page", "status"), [("broken", 500), ("missing", 404)])
@pytest.mark.parametrize("how", ["get", "post"])
@pytest.mark.urls("tests.test_canary")
def test_no_error_page_and_no_line_of_the_log_shows_a_canary(
    settings, log, monkeypatch, alice, debug, page, status, how
):
    settings.DEBUG = debug
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "LoginRequired" not in name]
    client = Client(raise_request_exception=False, headers={"referer": f"http://x/{EMAIL}"})

    answer = getattr(client, how)(f"/{page}", {"name": FIRST, "born": str(BORN)})

    assert answer.status_code == status
    # What the visitor asked for may come back in their own page's address, but nothing that we know.
    shown = answer.content.replace(f"/{page}?name={FIRST}&amp;born={BORN}".encode(), b"")
    assert canaries_in(shown) == []
    assert canaries_in(log.getvalue()) == []
    assert f"/{page}" in log.getvalue()


def test_tasks_take_ids_and_nothing_else():
    current_app.loader.import_default_modules()
    ours = {
        name: task for name, task in current_app.tasks.items() if not name.startswith("celery.")
    }

    assert {"delivery.tasks.send_slice", "contacts.tasks.apply_import"} <= set(ours)
    for name, task in ours.items():
        for parameter in inspect.signature(task.run).parameters.values():
            assert parameter.name.endswith("_id"), name
            assert parameter.annotation is str, name
            assert parameter.kind is parameter.POSITIONAL_OR_KEYWORD, name


def test_what_celery_keeps_and_schedules_holds_no_values():
    assert django_settings.CELERY_TASK_IGNORE_RESULT is True
    for entry in django_settings.CELERY_BEAT_SCHEDULE.values():
        assert not entry.get("args") and not entry.get("kwargs")
