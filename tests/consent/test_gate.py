"""The gate: each reason once, their order, and that it fails closed."""

import datetime as dt

import pytest
from django.db import DatabaseError, connection, transaction

from accounts.models import Organization
from consent import gate, stop
from consent.authorize import revoke
from consent.models import Authorization
from consent.purposes import PURPOSES
from contacts import terms
from contacts.models import Contact
from contacts.segments import EVERYONE, query
from phi.digest import address_digest
from tests.factories import (
    make_authorized,
    make_contact,
    make_form,
    make_organization,
    make_person,
    make_user,
    sign,
)

pytestmark = pytest.mark.django_db

BY = "system:tests"
TODAY = dt.date(2026, 11, 24)


def reason(contact: Contact, purpose: str = "MARKETING", **facts: object) -> str:
    question = gate.ask(contact.organization, purpose, **facts)
    return gate.decide(question, [contact.pk])[contact.pk]


@pytest.fixture
def form(organization):
    return make_form(organization)


@pytest.fixture
def ann(organization, form):
    return make_authorized(organization, form, first_name="Ann")


def test_an_authorized_person_may_be_written_to(ann):
    assert reason(ann) == ""


@pytest.mark.parametrize("standing", ["deceased", "erased"])
def test_who_is_not_there_any_more_is_not_written_to(ann, standing):
    Contact.objects.filter(pk=ann.pk).update(standing=standing)

    assert reason(ann) == standing


def test_a_person_without_an_address_is_not_written_to(organization, form):
    contact = make_authorized(organization, form, email=None, record_number="R1")

    assert reason(contact) == "no_address"


def test_a_person_whose_facts_are_not_indexed_is_not_written_to(organization, form):
    contact = make_contact(organization)
    sign(contact, form)

    assert reason(contact) == "not_indexed"


def test_who_asked_for_no_email_gets_none_until_the_person_allows_it_again(ann, petra):
    stop.prefer_channel(ann, email_allowed=False, source="phone", by=petra)
    assert reason(ann, "TRANSACTIONAL_OPS") == reason(ann) == "no_email_wanted"

    stop.prefer_channel(ann, email_allowed=True, source="phone", by=petra)
    assert reason(ann) == ""


def test_a_restriction_holds_for_its_purposes_and_not_for_what_is_owed(ann, petra):
    stop.restrict(ann, purposes=["MARKETING"], source="paper", evidence="letter", by=petra)
    assert reason(ann) == "restricted"
    assert reason(ann, "TREATMENT") == ""

    stop.restrict(ann, source="paper", evidence="letter", by=petra)
    assert reason(ann, "TREATMENT") == "restricted"
    assert reason(ann, "TRANSACTIONAL_OPS") == ""

    stop.restrict(ann, in_force=False, source="paper", evidence="letter", by=petra)
    assert reason(ann) == ""


@pytest.mark.parametrize(
    ("why", "owed"), [("hard_bounce", "suppressed"), ("manual", "suppressed"), ("complaint", "")]
)
def test_a_suppressed_address_is_not_written_to(ann, petra, why, owed):
    added = stop.suppress(ann.organization, ann.email_digest, why, source="bounce", by=BY)
    assert reason(ann) == "suppressed"
    assert reason(ann, "TRANSACTIONAL_OPS") == owed

    stop.lift_suppression(added, source="staff", evidence="a mistake", by=petra)
    assert reason(ann) == ""


def test_lifting_one_reason_leaves_the_other(ann, petra):
    stop.suppress(ann.organization, ann.email_digest, "manual", source="staff", by=petra)
    bounce = stop.suppress(
        ann.organization, ann.email_digest, "hard_bounce", source="bounce", by=BY
    )

    stop.lift_suppression(bounce, source="staff", evidence="a mistake", by=petra)

    assert reason(ann) == "suppressed"


@pytest.mark.parametrize(
    ("scope", "stopped"),
    [
        ("commercial", {"MARKETING", "MARKETING_PAID", "OWN_PRODUCT"}),
        ("fundraising", {"FUNDRAISING"}),
        ("care", {"TREATMENT", "CASE_MGMT", "REFILL", "GOV_PROGRAM", "GENERAL_HEALTH"}),
        ("all", set(PURPOSES) - {"TRANSACTIONAL_OPS"}),
        ("tracking", set()),
    ],
)
def test_an_opt_out_stops_the_purposes_of_its_scope_and_no_other(ann, scope, stopped):
    stop.opt_out(ann, scope, source="page", by=ann)

    assert {code for code in PURPOSES if reason(ann, code) == "opted_out"} == stopped


def test_an_opt_out_follows_the_person_to_a_new_address_and_stays_at_the_old_one(
    organization, form, ann
):
    old = ann.email_digest
    stop.opt_out(ann, "commercial", source="page", by=ann)
    ann.email = "new@mail.example"
    ann.email_digest = address_digest(organization.pk, ann.email)
    ann.save()
    heir = make_authorized(organization, form, email=None, record_number="R9")
    Contact.objects.filter(pk=heir.pk).update(email_digest=None)
    heir.email, heir.email_digest, heir.domain_digest = "old@mail.example", old, ann.domain_digest
    heir.save()

    assert reason(ann) == "opted_out"
    assert reason(heir) == "opted_out"


def test_opting_in_again_lifts_only_ones_own_stop(organization, form):
    address = "shared@mail.example"
    ann = make_authorized(organization, form, email=address, record_number="R1")
    ben = make_authorized(organization, form, email=address, record_number="R2")
    stop.opt_out(ann, "commercial", source="page", by=ann)

    stop.opt_in(ben, "commercial", source="page", evidence="ticked the box", by=ben)

    assert reason(ann) == "opted_out"
    assert reason(ben) == ""


def test_a_later_stop_counts_after_an_opt_in(ann):
    stop.opt_out(ann, "commercial", source="page", by=ann)
    stop.opt_in(ann, "commercial", source="page", evidence="ticked the box", by=ann)
    assert reason(ann) == ""

    stop.opt_out(ann, "commercial", source="page", by=ann)
    assert reason(ann) == "opted_out"


def test_a_substance_use_record_is_kept_out_of_everything_but_what_is_owed(organization, form):
    contact = make_authorized(
        organization, form, attributes={"conditions": ["opioid use disorder"]}
    )

    assert reason(contact) == reason(contact, "TREATMENT") == "substance_use_record"
    assert reason(contact, "TRANSACTIONAL_OPS") == ""


def test_a_person_without_conditions_on_file_may_be_written_to(organization, form):
    assert reason(make_authorized(organization, form, attributes={})) == ""


def test_marketing_without_an_authorization_is_refused(organization, form):
    contact = make_person(organization)

    assert reason(contact) == "no_authorization"
    assert reason(contact, "OWN_PRODUCT") == ""


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        (
            {"signed_on": dt.date(2025, 1, 1), "expires_on": dt.date(2025, 6, 1)},
            "authorization_expired",
        ),
        ({"copy_given_on": None}, "authorization_not_usable"),
    ],
)
def test_an_authorization_that_is_not_in_force_is_refused(organization, form, fields, why):
    contact = make_person(organization)
    sign(contact, form, **fields)

    assert reason(contact) == why


def test_a_copy_that_is_given_later_makes_it_usable(organization, form):
    contact = make_person(organization)
    sign(contact, form, copy_given_on=None)
    assert reason(contact) == "authorization_not_usable"

    sign(contact, form, copy_given_on=dt.date(2026, 3, 1))
    assert reason(contact) == ""


def test_the_last_day_of_an_authorization_counts_as_a_whole_day_where_the_organization_is(
    form, ann
):
    organization = ann.organization
    Organization.objects.filter(pk=organization.pk).update(time_zone="Pacific/Kiritimati")
    organization.refresh_from_db()
    today = gate.today(organization)
    contact = make_person(organization)
    sign(contact, form, expires_on=today)
    assert reason(contact) == ""

    gone = make_person(organization)
    sign(gone, form, expires_on=today - dt.timedelta(days=1))
    assert reason(gone) == "authorization_expired"


def test_a_revoked_authorization_is_refused_and_an_old_paper_revives_nothing(ann, form, petra):
    authorization = Authorization.objects.get(contact=ann)
    revoke(authorization, source="phone", by=petra)
    assert reason(ann) == "authorization_revoked"

    sign(ann, form, signed_on=dt.date(2026, 2, 2))
    assert reason(ann) == "authorization_revoked"


def test_an_authorization_of_another_form_stands_after_a_revocation(ann, form, petra):
    other = make_form(ann.organization)
    sign(ann, other)
    revoke(Authorization.objects.get(contact=ann, form_version=form), source="phone", by=petra)

    assert reason(ann) == ""


def test_a_form_covers_its_purposes_and_data_only(organization, ann):
    assert reason(ann, data_classes=frozenset({"contact"})) == ""
    assert reason(ann, data_classes=frozenset({"treatment"})) == "authorization_other"
    paid = {"payer": "Acme Pharma", "remuneration_cents": 100}
    assert reason(ann, "MARKETING_PAID", **paid) == "authorization_other"


def test_a_paid_campaign_needs_a_form_that_names_the_payer(organization):
    form = make_form(
        organization,
        purposes=["MARKETING_PAID"],
        statement_remuneration="Acme Pharma pays us.",
        payers=["Acme Pharma"],
    )
    contact = make_authorized(organization, form)

    assert reason(contact, "MARKETING_PAID", payer="Acme Pharma", remuneration_cents=5) == ""
    assert (
        reason(contact, "MARKETING_PAID", payer="Other Inc", remuneration_cents=5)
        == "authorization_other"
    )


def test_an_unpublished_form_covers_nobody(organization):
    form = make_form(organization)
    draft = type(form).objects.create(
        organization=organization, name="Draft", number=1, purposes=["MARKETING"]
    )
    question = gate.ask(organization, "MARKETING")

    assert form.pk in question.versions
    assert draft.pk not in question.versions


def test_the_first_reason_found_is_the_one_told(ann, petra):
    stop.opt_out(ann, "all", source="page", by=ann)
    stop.suppress(ann.organization, ann.email_digest, "manual", source="staff", by=petra)
    assert reason(ann) == "suppressed"

    stop.prefer_channel(ann, email_allowed=False, source="phone", by=petra)
    assert reason(ann) == "no_email_wanted"

    Contact.objects.filter(pk=ann.pk).update(standing="deceased")
    assert reason(ann) == "deceased"


def test_another_organizations_contact_gets_no_answer(ann, other_organization):
    question = gate.ask(other_organization, "TRANSACTIONAL_OPS")

    assert gate.decide(question, [ann.pk]) == {}
    assert gate.count(question, query(ann.organization, EVERYONE)) == {}


def test_another_organizations_stop_changes_nothing(ann, other_organization):
    twin = make_person(other_organization, email=ann.email)
    stop.opt_out(twin, "all", source="page", by=twin)

    assert reason(ann) == ""


def test_an_unknown_purpose_raises(organization):
    with pytest.raises(KeyError):
        gate.ask(organization, "BEST_WISHES")


def test_a_failing_check_raises_rather_than_lets_through(ann, monkeypatch):
    monkeypatch.setattr(terms, "query_part2", lambda organization: "not a query")
    question = gate.ask(ann.organization, "MARKETING")

    with pytest.raises(DatabaseError), transaction.atomic():
        gate.decide(question, [ann.pk])


def test_one_person_of_an_address_counts_and_the_others_are_told_apart(organization, form):
    for number in range(3):
        make_authorized(organization, form, email="home@mail.example", record_number=f"H{number}")
    make_person(organization, email="home@mail.example", record_number="H9")
    question = gate.ask(organization, "MARKETING")

    assert gate.count(question, query(organization, EVERYONE)) == {
        "": 1,
        "same_address": 2,
        "no_authorization": 1,
    }


@pytest.mark.parametrize(
    ("change", "facts", "why"),
    [
        ({"is_active": False}, {}, "organization_stopped"),
        ({"agreement_ends_on": TODAY - dt.timedelta(days=1)}, {}, "agreement_ended"),
        ({"postal_address": " "}, {}, "sender_not_ready"),
        ({}, {"stream_open": False}, "stream_paused"),
        ({}, {"approved": False}, "campaign_not_approved"),
        ({}, {"sender_ready": False}, "sender_not_ready"),
        ({}, {"payer": "Acme", "remuneration_cents": 1}, "purpose_refused"),
        ({"agreement_ends_on": TODAY}, {}, ""),
        ({}, {"stream_open": True, "approved": True, "sender_ready": True}, ""),
    ],
)
def test_what_stops_a_whole_campaign(change, facts, why):
    organization = make_organization(**change)
    question = gate.ask(organization, "MARKETING", **facts)

    assert gate.campaign_reason(question, today=TODAY) == why


def test_the_kill_switch_stops_everything(organization):
    organization.sending_stopped_at = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
    question = gate.ask(organization, "TRANSACTIONAL_OPS")

    assert gate.campaign_reason(question, today=TODAY) == "organization_stopped"


def test_a_paid_purpose_without_payer_or_amount_is_refused(organization):
    for facts in ({}, {"payer": "Acme"}, {"remuneration_cents": 5}):
        question = gate.ask(organization, "MARKETING_PAID", **facts)
        assert gate.campaign_reason(question, today=TODAY) == "purpose_refused"


def test_fundraising_uses_no_treatment_data(organization):
    for classes, why in (({"contact", "demographic"}, ""), ({"treatment"}, "purpose_refused")):
        question = gate.ask(organization, "FUNDRAISING", data_classes=frozenset(classes))
        assert gate.campaign_reason(question, today=TODAY) == why


def test_a_purpose_whose_facts_are_not_held_is_refused(organization):
    question = gate.ask(organization, "REFILL")

    assert gate.campaign_reason(question, today=TODAY) == "purpose_refused"


def test_every_reason_that_the_sql_can_give_has_a_sentence(ann):
    question = gate.ask(ann.organization, "MARKETING")
    text = gate.reasons(question, query(ann.organization, EVERYONE)).text

    told = {code for code in gate.REASONS if f"'{code}'" in text}
    assert {"opted_out", "no_authorization", "suppressed", "substance_use_record"} <= told
    standing = set(Contact.Standing.values) - {"active"}
    assert standing <= set(gate.REASONS)


def test_deciding_takes_one_query_for_many(organization, form, django_assert_num_queries):
    people = [make_authorized(organization, form) for _ in range(5)]
    make_user("marketer", organization)
    question = gate.ask(organization, "MARKETING")
    terms.query_part2(organization)

    with django_assert_num_queries(2):
        assert set(gate.decide(question, [one.pk for one in people]).values()) == {""}


def test_deciding_locks_the_people(ann):
    question = gate.ask(ann.organization, "MARKETING")
    with transaction.atomic():
        assert gate.decide_locked(question, [ann.pk]) == {ann.pk: ""}
        with connection.cursor() as cursor:
            cursor.execute("select count(*) from pg_locks where mode = 'RowShareLock' and granted")
            assert cursor.fetchone()[0] > 0
