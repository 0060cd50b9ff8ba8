"""Nobody gets a message after a stop that was in force, and if somebody did, the report finds it."""

import datetime as dt
from typing import Any

import pytest

from consent.models import ChannelPreference, Restriction
from contacts.models import Contact
from reports import stops
from tests import factories
from tests.reports import past
from tests.reports.conftest import NOON

DAY = dt.timedelta(days=1)
SECOND = dt.timedelta(seconds=1)


@pytest.fixture
def person(clinic: Any, alice: Any) -> Any:
    """Somebody who was sent something about our own service at noon of October 5."""
    campaign = past.campaign(clinic, NOON, author=alice, purpose="OWN_PRODUCT")
    contact = factories.make_contact(clinic)
    past.message(campaign, contact)
    _unchanged_since(contact, NOON - 9 * DAY)
    return contact


def _unchanged_since(contact: Any, at: dt.datetime) -> None:
    Contact.objects.filter(pk=contact.pk).update(updated_at=at)


def against(clinic: Any, october: Any) -> dict[str, int]:
    return {stop.kind: stop.against for stop in stops.stops(clinic, october) if stop.against}


def owed(clinic: Any, alice: Any, person: Any) -> None:
    notice = past.campaign(clinic, NOON, author=alice, purpose="TRANSACTIONAL_OPS")
    past.message(notice, person)


def test_a_message_after_an_opt_out_is_found(clinic: Any, october: Any, person: Any) -> None:
    past.opt_out(person, NOON - SECOND)

    assert against(clinic, october) == {"opt_out:commercial": 1}
    # Not once more as a stop of the address.
    assert stops.address_stops(clinic, october) == (0, 0)


def test_a_message_before_an_opt_out_is_not(clinic: Any, october: Any, person: Any) -> None:
    past.opt_out(person, NOON + SECOND)

    assert against(clinic, october) == {}


def test_an_opt_out_received_before_but_recorded_after_could_not_be_known(
    clinic: Any, october: Any, person: Any
) -> None:
    past.opt_out(person, NOON + SECOND, effective_at=NOON - DAY)

    assert against(clinic, october) == {}


def test_an_opt_out_of_something_else_stops_nothing(clinic: Any, october: Any, person: Any) -> None:
    past.opt_out(person, NOON - DAY, scope="fundraising")
    past.opt_out(person, NOON - DAY, scope="tracking")

    assert against(clinic, october) == {}


def test_an_opt_out_of_everything_spares_what_is_owed(
    clinic: Any, october: Any, person: Any, alice: Any
) -> None:
    past.opt_out(person, NOON - DAY, scope="all")
    owed(clinic, alice, person)

    assert against(clinic, october) == {"opt_out:all": 1}


def test_a_later_opt_in_lifts_an_opt_out_from_when_it_was_recorded(
    clinic: Any, october: Any, person: Any
) -> None:
    past.opt_out(person, NOON - 2 * DAY)
    past.opt_out(person, NOON - DAY, direction="in")

    assert against(clinic, october) == {}


def test_an_opt_in_after_the_message_does_not_excuse_it(
    clinic: Any, october: Any, person: Any
) -> None:
    past.opt_out(person, NOON - 2 * DAY)
    past.opt_out(person, NOON + DAY, direction="in")

    assert against(clinic, october) == {"opt_out:commercial": 1}


def test_two_opt_outs_of_one_person_count_a_message_once(
    clinic: Any, october: Any, person: Any
) -> None:
    past.opt_out(person, NOON - 2 * DAY)
    past.opt_out(person, NOON - DAY)

    assert against(clinic, october) == {"opt_out:commercial": 1}


def test_a_mark_counts_though_the_message_failed_or_waits(
    clinic: Any, october: Any, alice: Any
) -> None:
    campaign = past.campaign(clinic, NOON, author=alice, purpose="OWN_PRODUCT")
    for state, fields in (("failed", {}), ("deferred", {"handed_over_at": NOON})):
        contact = factories.make_contact(clinic)
        past.message(campaign, contact, state, reason="content", **fields)
        past.opt_out(contact, NOON - DAY)

    assert against(clinic, october) == {"opt_out:commercial": 2}


def test_what_was_held_back_because_of_the_opt_out_is_none(
    clinic: Any, october: Any, alice: Any
) -> None:
    campaign = past.campaign(clinic, NOON, author=alice, purpose="OWN_PRODUCT")
    contact = factories.make_contact(clinic)
    past.opt_out(contact, NOON - DAY)
    past.message(campaign, contact, "withheld", reason="opted_out")

    assert against(clinic, october) == {}


@pytest.mark.parametrize(
    ("purposes", "expected"),
    [([], {"restriction": 1}), (["OWN_PRODUCT"], {"restriction": 1}), (["MARKETING"], {})],
)
def test_a_restriction_stops_the_purposes_that_it_names_or_all_but_what_is_owed(
    clinic: Any,
    october: Any,
    person: Any,
    alice: Any,
    purposes: list[str],
    expected: dict[str, int],
) -> None:
    past.fact(Restriction, person, NOON - DAY, purposes=purposes)
    owed(clinic, alice, person)

    assert against(clinic, october) == expected


def test_a_restriction_that_ended_stops_nothing(clinic: Any, october: Any, person: Any) -> None:
    past.fact(Restriction, person, NOON - 2 * DAY)
    past.fact(Restriction, person, NOON - DAY, in_force=False)

    assert against(clinic, october) == {}


def test_the_wish_for_no_email_stops_even_what_is_owed(
    clinic: Any, october: Any, person: Any, alice: Any
) -> None:
    past.fact(ChannelPreference, person, NOON - DAY, email_allowed=False)
    owed(clinic, alice, person)

    assert against(clinic, october) == {"no_email": 2}


def test_a_message_to_a_suppressed_address_is_found(clinic: Any, october: Any, person: Any) -> None:
    past.suppression(person, NOON - DAY)

    assert stops.address_stops(clinic, october) == (1, 0)


def test_a_message_that_itself_led_to_the_suppression_is_not(
    clinic: Any, october: Any, person: Any
) -> None:
    past.suppression(person, NOON + SECOND)

    assert stops.address_stops(clinic, october) == (0, 0)


def test_a_lifted_suppression_stops_nothing(clinic: Any, october: Any, person: Any) -> None:
    past.suppression(person, NOON - 2 * DAY)
    past.suppression(person, NOON - DAY, action="lift")

    assert stops.address_stops(clinic, october) == (0, 0)


def test_a_complaint_spares_what_is_owed(
    clinic: Any, october: Any, person: Any, alice: Any
) -> None:
    past.suppression(person, NOON - DAY, reason="complaint")
    owed(clinic, alice, person)

    assert stops.address_stops(clinic, october) == (1, 0)


def test_of_a_person_whose_record_changed_since_it_cannot_be_told(
    clinic: Any, october: Any, person: Any
) -> None:
    past.suppression(person, NOON - DAY)
    _unchanged_since(person, NOON + DAY)

    assert stops.address_stops(clinic, october) == (0, 1)


def test_the_opt_out_of_another_person_at_the_address_stops_too(
    clinic: Any, october: Any, person: Any
) -> None:
    other = factories.make_contact(clinic, email=person.email, record_number="7")
    past.opt_out(other, NOON - DAY)

    assert against(clinic, october) == {}
    assert stops.address_stops(clinic, october) == (1, 0)


def test_ones_own_later_wish_lifts_the_opt_out_of_another_at_the_address(
    clinic: Any, october: Any, person: Any
) -> None:
    other = factories.make_contact(clinic, email=person.email, record_number="7")
    past.opt_out(other, NOON - 2 * DAY)
    past.opt_out(person, NOON - DAY, direction="in")

    assert stops.address_stops(clinic, october) == (0, 0)


def test_how_fast_stops_took_effect_is_told_by_median_and_slowest(
    clinic: Any, october: Any
) -> None:
    form = factories.make_form(clinic)
    for milliseconds in (5, 20, 300):
        person = factories.make_contact(clinic)
        earlier = NOON - dt.timedelta(milliseconds=milliseconds)
        past.opt_out(person, NOON, effective_at=earlier, source="one_click")
        past.revocation(past.authorization(person, form, NOON - DAY), NOON)
    past.opt_out(factories.make_contact(clinic), NOON + 60 * DAY)

    assert stops.stops(clinic, october) == [
        stops.Stop("opt_out:commercial", 3, 20, 300, 0),
        stops.Stop("revocation", 3, 0, 0, 0),
    ]


def test_wishes_are_counted_by_scope_and_the_way_they_came(clinic: Any, october: Any) -> None:
    people = [factories.make_contact(clinic) for _ in range(3)]
    past.opt_out(people[0], NOON, source="one_click")
    past.opt_out(people[1], NOON, source="one_click")
    past.opt_out(people[2], NOON, source="phone", scope="all")
    past.opt_out(people[2], NOON + DAY, source="page", scope="all", direction="in")

    assert stops.wishes(clinic, october) == [
        stops.Wish("all", "out", "phone", 1),
        stops.Wish("all", "in", "page", 1),
        stops.Wish("commercial", "out", "one_click", 2),
    ]
