"""Explain: for one contact, each purpose, the same answer that the gate gives, and who asked."""

import datetime as dt

import pytest

from audit.models import Entry
from consent import gate, stop
from consent.explain import explain
from consent.purposes import PURPOSES
from contacts import erase
from tests.factories import BY, make_authorized, make_form, make_person

pytestmark = pytest.mark.django_db


@pytest.fixture
def ann(organization):
    return make_authorized(organization, make_form(organization), first_name="Ann")


def answers(contact, by):
    return {one.purpose: one.reason for one in explain(contact, by=by)}


def test_each_purpose_has_an_answer_and_a_sentence(ann, petra):
    found = explain(ann, by=petra)

    assert [one.purpose for one in found] == list(PURPOSES)
    assert {one.purpose for one in found if not one.allowed} == {"REFILL", "MARKETING_PAID"}
    for one in found:
        assert one.sentence == (gate.REASONS[one.reason] if one.reason else "May be written to.")
        assert one.allowed == (not one.reason)


def test_a_stop_is_explained_for_the_purposes_that_it_stops(ann, petra):
    stop.opt_out(ann, "commercial", source="page", by=ann)

    found = answers(ann, petra)

    assert found["MARKETING"] == found["OWN_PRODUCT"] == "opted_out"
    assert found["TREATMENT"] == found["TRANSACTIONAL_OPS"] == ""


def test_a_person_without_permission_is_told_apart_from_one_who_stopped(organization, petra):
    found = answers(make_person(organization), petra)

    assert (found["MARKETING"], found["OWN_PRODUCT"]) == ("no_authorization", "")


def test_the_kill_switch_is_explained_for_every_purpose(ann, petra):
    ann.organization.sending_stopped_at = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
    ann.organization.save()

    assert answers(ann, petra)["TRANSACTIONAL_OPS"] == "organization_stopped"


def test_an_erased_person_is_explained_without_a_name(ann, petra):
    erase.erase(ann, by=BY)

    assert set(answers(ann, petra).values()) <= {"erased", "purpose_refused"}


def test_asking_is_on_record_and_names_nobody(ann, petra):
    explain(ann, by=petra)

    entry = Entry.objects.get(action="contact.explained")
    assert (entry.actor, entry.target_id) == (f"user:{petra.pk}", ann.pk)
    assert (entry.fields, entry.detail) == ([], {})
