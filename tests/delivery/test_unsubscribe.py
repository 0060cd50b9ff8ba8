"""The token of a message, and what a stop by it writes."""

import datetime as dt
import uuid
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import OperationalError, connection, connections, transaction
from hypothesis import given
from hypothesis import strategies as st

from audit.models import Entry
from consent import gate
from consent import stop as consent
from consent.models import Direction, OptOut
from consent.purposes import PURPOSES
from contacts import terms
from contacts.models import Contact
from delivery import unsubscribe, wording
from delivery.models import Event, Message
from tests import factories
from tests.delivery.letters import make_message

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
ID = uuid.UUID("01939f3e-7c4b-7a51-9d0e-6b2f18c4d5aa")


@pytest.fixture
def message(organization: Any) -> Message:
    return make_message(factories.make_contact(organization, email="river@mail.example"))


def gate_says(contact: Contact, purpose: str = "OWN_PRODUCT") -> str:
    """Return the reason why a message of a purpose may not go to a contact, or ""."""
    terms.index([contact])
    question = gate.ask(contact.organization, purpose)
    with transaction.atomic():
        return gate.decide_locked(question, [contact.pk])[contact.pk]


def written() -> tuple[int, int, int]:
    """Return how many facts, events and entries there are."""
    return OptOut.objects.count(), Event.objects.count(), Entry.objects.count()


# --- the token


@given(st.uuids())
def test_a_token_names_its_message_and_nothing_else(message_id: uuid.UUID) -> None:
    token = unsubscribe.token(message_id)

    assert unsubscribe.read(token) == message_id
    assert len(token) == 43
    assert set(token) <= set(ALPHABET)


def test_any_other_character_anywhere_makes_it_no_token() -> None:
    token = unsubscribe.token(ID)

    accepted = [
        (place, other)
        for place, right in enumerate(token)
        for other in ALPHABET
        if other != right
        and unsubscribe.read(token[:place] + other + token[place + 1 :]) is not None
    ]

    assert accepted == []


@pytest.mark.parametrize(
    "change",
    [
        lambda token: "",
        lambda token: token[:-1],
        lambda token: token + "A",
        lambda token: token + "=",
        lambda token: token + "\n",
        lambda token: " " + token,
        lambda token: token.swapcase(),
        lambda token: token[:22],
        lambda token: token[::-1],
        lambda token: "\N{KELVIN SIGN}" * 43,
        lambda token: "\N{FULLWIDTH DIGIT ONE}" * 43,
        lambda token: "A" * 43,
        lambda token: token * 1000,
        lambda token: "../" + token,
        lambda token: "\x00" + token[1:],
    ],
)
def test_what_we_did_not_make_names_no_message(change: Any) -> None:
    assert unsubscribe.read(change(unsubscribe.token(ID))) is None


def test_a_bounce_token_under_the_same_key_is_no_unsubscribe_token() -> None:
    from delivery import verp

    digest = verp._digest(ID.bytes, django_settings.TOKEN_KEY)
    forged = unsubscribe._written(ID.bytes + digest + bytes(2))

    assert len(forged) == 43
    assert unsubscribe.read(forged) is None


def test_what_is_no_token_costs_as_many_digests_as_a_forged_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []
    digest = unsubscribe._digest
    monkeypatch.setattr(unsubscribe, "_digest", lambda *a: made.append(a) or digest(*a))
    right = digest(django_settings.TOKEN_KEY, ID.bytes)

    costs = []
    for text in ("", "short", "A" * 43, unsubscribe._written(ID.bytes + right[::-1])):
        made.clear()
        assert unsubscribe.read(text) is None
        costs.append(len(made))

    assert costs == [1, 1, 1, 1]


def test_a_token_under_another_key_is_none(settings: Any) -> None:
    token = unsubscribe.token(ID)

    settings.TOKEN_KEY = b"another key of thirty-two bytes!"

    assert unsubscribe.read(token) is None


def test_a_token_outlives_the_key_that_made_it(settings: Any) -> None:
    token = unsubscribe.token(ID)

    settings.TOKEN_KEY_FALLBACKS = [settings.TOKEN_KEY]
    settings.TOKEN_KEY = b"another key of thirty-two bytes!"

    assert unsubscribe.read(token) == ID
    assert unsubscribe.token(ID) != token


@pytest.mark.parametrize("key", [b"", b"too short"])
def test_without_a_key_nothing_is_made_and_nothing_is_read(settings: Any, key: bytes) -> None:
    token = unsubscribe.token(ID)
    settings.TOKEN_KEY = key

    with pytest.raises(ValueError, match="TOKEN_KEY"):
        unsubscribe.token(ID)
    with pytest.raises(ValueError, match="TOKEN_KEY"):
        unsubscribe.read(token)


@pytest.mark.parametrize(
    "base", ["https://mail.lakeside.example", "https://mail.lakeside.example/"]
)
def test_the_address_is_the_public_one(settings: Any, base: str) -> None:
    settings.PUBLIC_URL = base

    assert unsubscribe.url(ID) == f"https://mail.lakeside.example/u/{unsubscribe.token(ID)}"


# --- a stop


def test_a_stop_is_a_fact_an_event_and_two_entries(message: Message) -> None:
    before = Entry.objects.count()

    fact = unsubscribe.stop(message, source="one_click")

    fact.refresh_from_db()
    assert (fact.contact_id, fact.scope, fact.direction) == (
        message.contact_id,
        "commercial",
        "out",
    )
    assert bytes(fact.email_digest) == bytes(message.contact.email_digest)
    assert (fact.source, fact.recorded_by) == ("one_click", f"contact:{message.contact_id}")
    event = Event.objects.get()
    assert (event.message_id, event.type, event.source) == (message.pk, "unsubscribed", "one_click")
    assert event.occurred_at >= fact.effective_at
    entries = list(Entry.objects.order_by("pk")[before:])
    assert [entry.action for entry in entries] == ["opt_out.recorded", "event.received"]
    assert [list(entry.facts) for entry in entries] == [["consent.OptOut"], ["delivery.Event"]]
    assert entries[1].target_id == message.pk


@pytest.mark.parametrize("purpose", PURPOSES)
def test_what_stops_is_what_the_purpose_says(organization: Any, purpose: str) -> None:
    message = make_message(factories.make_contact(organization), purpose=purpose)

    assert unsubscribe.stop(message, source="page").scope == PURPOSES[purpose].stop_scope


def test_saying_it_again_changes_nothing(message: Message) -> None:
    first = unsubscribe.stop(message, source="one_click")
    once = written()

    assert unsubscribe.stop(message, source="page") == first
    assert written() == once


def test_a_stop_after_a_change_of_mind_is_a_new_one(message: Message) -> None:
    unsubscribe.stop(message, source="one_click")
    unsubscribe.take_back(message)

    unsubscribe.stop(message, source="page")

    directions = list(OptOut.objects.order_by("recorded_at").values_list("direction", flat=True))
    assert directions == ["out", "in", "out"]
    assert Event.objects.count() == 2


def test_a_person_who_had_stopped_by_telephone_is_heard_once_more(message: Message) -> None:
    consent.opt_out(message.contact, "commercial", source="phone", by="system:tests")

    fact = unsubscribe.stop(message, source="one_click")

    assert fact.source == "phone"
    assert OptOut.objects.count() == 1
    assert Event.objects.get().message_id == message.pk


def test_another_way_of_coming_is_refused(message: Message) -> None:
    before = written()

    with pytest.raises(ValueError, match="one click"):
        unsubscribe.stop(message, source="phone")

    assert written() == before


def test_nothing_is_written_when_the_entry_cannot_be(
    message: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = written()
    monkeypatch.setattr(unsubscribe, "record", lambda *a, **kw: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        unsubscribe.stop(message, source="one_click")

    assert written() == before


def test_it_holds_for_the_record_that_the_person_was_merged_into(organization: Any) -> None:
    kept = factories.make_contact(organization)
    old = factories.make_contact(organization, standing="merged", merged_into=kept)

    unsubscribe.stop(make_message(old), source="one_click")

    assert set(OptOut.objects.values_list("contact", flat=True)) == {old.pk, kept.pk}
    assert gate_says(kept) == "opted_out"


def test_it_is_recorded_for_a_person_whose_data_was_erased(organization: Any) -> None:
    contact = factories.make_contact(organization, email=None, standing="erased")

    fact = unsubscribe.stop(make_message(contact), source="one_click")

    assert (fact.contact_id, fact.email_digest) == (contact.pk, None)


def test_a_person_who_stopped_after_freezing_is_held_back_at_hand_over(message: Message) -> None:
    assert gate_says(message.contact) == ""

    unsubscribe.stop(message, source="one_click")

    assert gate_says(message.contact) == "opted_out"
    assert gate_says(message.contact, "TRANSACTIONAL_OPS") == ""


def test_it_holds_for_the_others_at_the_same_address(message: Message) -> None:
    other = factories.make_contact(
        message.organization, email="River@Mail.Example", record_number="7"
    )

    unsubscribe.stop(message, source="one_click")

    assert gate_says(other) == "opted_out"


def test_it_stops_nothing_of_another_organization(
    message: Message, other_organization: Any
) -> None:
    same_person = factories.make_contact(other_organization, email="river@mail.example")
    theirs = make_message(same_person)

    unsubscribe.stop(message, source="one_click")

    assert gate_says(same_person) == ""
    assert not unsubscribe.is_stopped(theirs)
    assert unsubscribe.read(unsubscribe.token(theirs.pk)) == theirs.pk


@pytest.mark.django_db(transaction=True)
def test_it_waits_for_a_hand_over_that_holds_the_person() -> None:
    message = make_message(factories.make_contact())
    before = written()
    handing_over = connections.create_connection("default")
    try:
        with handing_over.cursor() as cursor:
            cursor.execute("begin")
            cursor.execute(
                "select 1 from contacts_contact where id = %s for share", [message.contact_id]
            )
            with pytest.raises(OperationalError, match="lock timeout"), transaction.atomic():
                with connection.cursor() as own:
                    own.execute("set local lock_timeout = '100ms'")
                unsubscribe.stop(message, source="one_click")
            assert written() == before
            cursor.execute("commit")
    finally:
        handing_over.close()

    assert unsubscribe.stop(message, source="one_click").direction == Direction.OUT


# --- taking it back


@pytest.mark.parametrize("source", ["one_click", "page"])
def test_a_stop_by_this_link_can_be_taken_back(message: Message, source: str) -> None:
    unsubscribe.stop(message, source=source)

    assert unsubscribe.take_back(message)

    assert not unsubscribe.is_stopped(message)
    assert gate_says(message.contact) == ""
    wish = OptOut.objects.get(direction="in")
    assert (wish.scope, wish.source) == ("commercial", "page")
    assert str(message.pk) in wish.evidence


def test_it_is_taken_back_for_the_merged_record_too(organization: Any) -> None:
    kept = factories.make_contact(organization)
    old = factories.make_contact(organization, standing="merged", merged_into=kept)
    message = make_message(old)
    unsubscribe.stop(message, source="page")

    assert unsubscribe.take_back(message)

    assert gate_says(kept) == ""


def refused(message: Message) -> None:
    before = written()
    assert not unsubscribe.can_take_back(message)
    assert not unsubscribe.take_back(message)
    assert written() == before
    assert gate_says(message.contact) in {"", "opted_out"}


def test_a_stop_by_telephone_is_not_taken_back_by_a_link(message: Message) -> None:
    consent.opt_out(message.contact, "commercial", source="phone", by="system:tests")
    unsubscribe.stop(message, source="page")

    refused(message)

    assert unsubscribe.is_stopped(message)


def test_the_link_of_another_message_takes_nothing_back(message: Message) -> None:
    unsubscribe.stop(message, source="page")
    older = make_message(message.contact)

    refused(older)

    assert unsubscribe.is_stopped(message)


def test_after_a_day_it_is_not_taken_back_here(
    message: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsubscribe.stop(message, source="page")
    assert unsubscribe.can_take_back(message)
    later = unsubscribe.database_time() + dt.timedelta(days=1, seconds=1)
    monkeypatch.setattr(unsubscribe, "database_time", lambda: later)

    refused(message)

    assert unsubscribe.is_stopped(message)


def test_what_was_never_stopped_is_not_taken_back(message: Message) -> None:
    refused(message)

    assert not unsubscribe.is_stopped(message)


# --- words


def test_every_stop_has_words_in_every_language() -> None:
    assert {purpose.stop_scope for purpose in PURPOSES.values()} <= set(wording.BY_SCOPE)
    english = set(wording.words("en", "commercial", "X"))
    for scope in wording.BY_SCOPE:
        assert set(wording.BY_SCOPE[scope]) == set(wording.LANGUAGES)
        for language in wording.LANGUAGES:
            said = wording.words(language, scope, "Lakeside {Health}")
            assert set(said) == english
            assert "{organization}" not in " ".join(said.values())
            for key in ("ask", "stopped", "again"):
                assert "Lakeside {Health}" in said[key]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("es", "es"),
        ("es-MX", "es"),
        ("ES_us", "es"),
        ("en-GB", "en"),
        ("est", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_languages_are_known_by_their_code(code: str | None, expected: str) -> None:
    assert wording.known(code) == expected
