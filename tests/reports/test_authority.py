"""Whether a message had an authorization is worked out from the facts as they were at its hand-over."""

import datetime as dt
from typing import Any

import pytest
from django.db import connection

from reports import authority
from reports.authority import Use
from tests import factories
from tests.reports import past
from tests.reports.conftest import NOON

DAY = dt.timedelta(days=1)
SECOND = dt.timedelta(seconds=1)


@pytest.fixture
def form(clinic: Any) -> Any:
    return factories.make_form(clinic, name="Marketing")


@pytest.fixture
def campaign(clinic: Any, alice: Any, bob: Any, form: Any) -> Any:
    """A promotion under `form`, sent at noon of October 5."""
    return past.campaign(clinic, NOON, author=alice, approver=bob, forms=(form,))


@pytest.fixture
def person(clinic: Any, campaign: Any) -> Any:
    """Somebody who was sent that promotion."""
    contact = factories.make_contact(clinic)
    past.message(campaign, contact)
    return contact


def lacking(clinic: Any, october: Any) -> str:
    """What the one message lacked; "" if it had its authorization."""
    (use,), unreadable = authority.uses(clinic, october)
    assert (use.purpose, use.number, unreadable) == ("MARKETING", 1, 0)
    assert (use.form_version_id is None) == bool(use.lacking)
    return use.lacking


def test_an_authorization_in_force_is_the_authority(
    clinic: Any, october: Any, person: Any, form: Any
) -> None:
    past.authorization(person, form, NOON - DAY)

    assert authority.uses(clinic, october) == ([Use("MARKETING", form.pk, "", 1)], 0)


def test_nobody_signed(clinic: Any, october: Any, person: Any) -> None:
    assert lacking(clinic, october) == "none"


def test_a_signature_recorded_after_the_hand_over_comes_too_late(
    clinic: Any, october: Any, person: Any, form: Any
) -> None:
    past.authorization(person, form, NOON + SECOND, signed_on=dt.date(2026, 1, 1))

    assert lacking(clinic, october) == "none"


def test_an_authorization_holds_through_its_last_day_where_the_organization_is(
    clinic: Any, october: Any, person: Any, form: Any, campaign: Any
) -> None:
    past.authorization(person, form, NOON - DAY, expires_on=NOON.date())
    other = factories.make_contact(clinic)
    past.authorization(other, form, NOON - DAY, expires_on=NOON.date())
    # Ten in the evening of the last day in Chicago, and an hour and a half past midnight.
    past.message(campaign, other, at=dt.datetime(2026, 10, 6, 3, 0, tzinfo=dt.UTC))
    late = factories.make_contact(clinic)
    past.authorization(late, form, NOON - DAY, expires_on=NOON.date())
    past.message(campaign, late, at=dt.datetime(2026, 10, 6, 6, 30, tzinfo=dt.UTC))

    found, _ = authority.uses(clinic, october)

    assert sorted(found, key=str) == sorted(
        [Use("MARKETING", form.pk, "", 2), Use("MARKETING", None, "ended", 1)], key=str
    )


@pytest.mark.parametrize("fields", [{"copy_given_on": None}, {"signed_on": dt.date(2026, 10, 6)}])
def test_an_authorization_that_is_not_usable_yet_is_none(
    clinic: Any, october: Any, person: Any, form: Any, fields: dict[str, Any]
) -> None:
    past.authorization(person, form, NOON - DAY, **fields)

    assert lacking(clinic, october) == "none"


def test_a_revocation_before_the_hand_over_ends_it(
    clinic: Any, october: Any, person: Any, form: Any
) -> None:
    past.revocation(past.authorization(person, form, NOON - DAY), NOON - SECOND)

    assert lacking(clinic, october) == "revoked"


def test_a_revocation_after_the_hand_over_does_not(
    clinic: Any, october: Any, person: Any, form: Any
) -> None:
    past.revocation(past.authorization(person, form, NOON - DAY), NOON + SECOND)

    assert lacking(clinic, october) == ""


def test_an_old_paper_recorded_after_a_revocation_revives_nothing(
    clinic: Any, october: Any, person: Any, form: Any
) -> None:
    past.revocation(past.authorization(person, form, NOON - 9 * DAY), NOON - 5 * DAY)
    past.authorization(person, form, NOON - 2 * DAY, signed_on=dt.date(2026, 1, 1))

    assert lacking(clinic, october) == "revoked"


def test_a_new_signature_after_a_revocation_counts(
    clinic: Any, october: Any, person: Any, form: Any
) -> None:
    past.revocation(past.authorization(person, form, NOON - 9 * DAY), NOON - 5 * DAY)
    past.authorization(person, form, NOON - 2 * DAY)

    assert lacking(clinic, october) == ""


def test_an_expiry_event_ends_its_own_authorization_alone(
    clinic: Any, october: Any, person: Any, form: Any
) -> None:
    first = past.authorization(person, form, NOON - 9 * DAY)
    past.authorization(person, form, NOON - 9 * DAY, signed_on=dt.date(2026, 1, 1))
    past.revocation(first, NOON - 5 * DAY, kind="event_occurred")

    assert lacking(clinic, october) == ""


def test_a_form_that_the_approved_campaign_does_not_name_is_no_authority(
    clinic: Any, october: Any, person: Any
) -> None:
    past.authorization(person, factories.make_form(clinic), NOON - DAY)

    assert lacking(clinic, october) == "none"


def test_of_several_the_one_signed_last_counts_and_a_message_counts_once(
    clinic: Any, october: Any, alice: Any, bob: Any, form: Any
) -> None:
    newer = factories.make_form(clinic, name="Marketing", number=2)
    campaign = past.campaign(clinic, NOON, author=alice, approver=bob, forms=(form, newer))
    person = factories.make_contact(clinic)
    past.message(campaign, person)
    past.authorization(person, form, NOON - DAY, signed_on=dt.date(2026, 3, 1))
    past.authorization(person, newer, NOON - DAY, signed_on=dt.date(2026, 2, 1))

    assert authority.uses(clinic, october) == ([Use("MARKETING", form.pk, "", 1)], 0)


def test_a_mark_without_authority_counts_whatever_became_of_the_message(
    clinic: Any, october: Any, campaign: Any
) -> None:
    past.message(campaign, factories.make_contact(clinic), "failed", reason="content")
    past.message(campaign, factories.make_contact(clinic), "withheld", reason="opted_out")

    assert authority.uses(clinic, october) == ([Use("MARKETING", None, "none", 1)], 0)


def test_purposes_that_need_no_authorization_are_not_asked(
    clinic: Any, october: Any, alice: Any
) -> None:
    care = past.campaign(clinic, NOON, author=alice, purpose="TREATMENT")
    past.message(care, factories.make_contact(clinic))

    assert authority.uses(clinic, october) == ([], 0)


def test_a_submission_that_does_not_open_covers_nothing(
    clinic: Any, october: Any, person: Any, form: Any
) -> None:
    past.authorization(person, form, NOON - DAY)
    with connection.cursor() as cursor:
        cursor.execute("set local session_replication_role = replica")
        cursor.execute(
            "update campaigns_submission set bound = set_byte(bound, 40, 1 - get_byte(bound, 40) % 2)"
        )

    assert authority.uses(clinic, october) == ([Use("MARKETING", None, "none", 1)], 1)


def test_authorizations_are_counted_by_what_became_of_them(clinic: Any, october: Any) -> None:
    form = factories.make_form(clinic, name="Marketing")
    before, within, after = NOON - 30 * DAY, NOON, NOON + 30 * DAY
    people = [factories.make_contact(clinic) for _ in range(10)]
    past.authorization(people[0], form, before)  # in force
    past.authorization(people[1], form, within)  # recorded, in force
    past.authorization(people[2], form, within, copy_given_on=None)  # recorded, not usable
    past.authorization(people[3], form, after)  # later: none of it
    past.revocation(past.authorization(people[4], form, before), within)  # revoked
    past.revocation(past.authorization(people[5], form, before), within, kind="known_false")
    past.revocation(past.authorization(people[9], form, before), within, kind="event_occurred")
    past.authorization(people[6], form, before, expires_on=dt.date(2026, 10, 31))  # both
    past.authorization(people[7], form, before, expires_on=dt.date(2026, 10, 30))  # expired
    past.revocation(
        past.authorization(people[8], form, before, expires_on=dt.date(2026, 10, 30)), before + DAY
    )

    (found,) = authority.standing(clinic, october)

    assert found == authority.Standing(
        form="Marketing, version 1 (en)",
        recorded=2,
        without_copy=1,
        revoked=1,
        ended_otherwise=2,
        expired=2,
        in_force=3,
    )
