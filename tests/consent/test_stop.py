"""Stop in all its forms: said once, kept for ever, lifted only by whoever may, and never half recorded."""

import pytest
from django.db import Error, connection, transaction

from audit.append_only import AppendOnlyError
from audit.models import Entry
from audit.verify import verify
from consent import gate, stop
from consent.authorize import revoke
from consent.models import (
    FACT_MODELS,
    ChannelPreference,
    OptOut,
    Restriction,
    Suppression,
    UnencryptedPreference,
)
from contacts.models import Contact
from phi.digest import address_digest
from tests.factories import BY, make_authorized, make_contact, make_form

pytestmark = pytest.mark.django_db


@pytest.fixture
def form(organization):
    return make_form(organization)


@pytest.fixture
def ann(organization, form):
    return make_authorized(organization, form)


def reason(contact, purpose="MARKETING"):
    return gate.decide(gate.ask(contact.organization, purpose), [contact.pk])[contact.pk]


def entries(action):
    return Entry.objects.filter(action=action).count()


def test_saying_stop_twice_keeps_one_row_and_one_entry(ann):
    first = stop.opt_out(ann, "commercial", source="page", by=ann)
    again = stop.opt_out(ann, "commercial", source="phone", by=BY)

    assert again == first
    assert OptOut.objects.get().source == "page"
    assert entries("opt_out.recorded") == 1


def test_a_stop_is_kept_for_each_address_that_the_person_had(ann):
    stop.opt_out(ann, "all", source="page", by=ann)
    ann.email = "new@mail.example"
    ann.email_digest = address_digest(ann.organization_id, ann.email)
    ann.save()

    stop.opt_out(ann, "all", source="page", by=ann)

    assert OptOut.objects.count() == 2
    assert {bytes(fact.email_digest) for fact in OptOut.objects.all()} >= {bytes(ann.email_digest)}


def test_a_stop_holds_for_the_address_that_is_on_file_now_not_for_that_of_an_old_copy(ann):
    old_copy = Contact.objects.get(pk=ann.pk)
    old_copy.email = old_copy.email_digest = old_copy.domain_digest = None

    stop.opt_out(old_copy, "all", source="page", by=ann)

    assert bytes(OptOut.objects.get().email_digest) == bytes(ann.email_digest)


def test_a_person_without_an_address_can_say_stop(organization):
    contact = make_contact(organization, email=None, record_number="R1")

    fact = stop.opt_out(contact, "all", source="phone", by=BY)

    assert OptOut.objects.get() == fact
    assert fact.email_digest is None


@pytest.mark.parametrize("scope", ["marketing", "", "ALL", "all "])
def test_a_scope_that_would_stop_nothing_is_refused(ann, scope):
    with pytest.raises(ValueError, match="scope"):
        stop.opt_out(ann, scope, source="page", by=ann)

    assert not OptOut.objects.exists()
    assert entries("opt_out.recorded") == 0


def test_a_restriction_to_a_purpose_that_does_not_exist_is_refused(ann, petra):
    with pytest.raises(ValueError, match="purpose"):
        stop.restrict(ann, purposes=["MARKETNG"], source="paper", evidence="Letter", by=petra)

    assert not Restriction.objects.exists()
    assert entries("restriction.recorded") == 0


def restrict(contact, petra, *purposes, in_force=True):
    stop.restrict(
        contact,
        in_force=in_force,
        purposes=list(purposes),
        source="paper",
        evidence="Letter",
        by=petra,
    )


def test_a_second_restriction_leaves_the_first_in_force(ann, petra):
    restrict(ann, petra, "FUNDRAISING")
    restrict(ann, petra, "OWN_PRODUCT")

    assert reason(ann, "FUNDRAISING") == reason(ann, "OWN_PRODUCT") == "restricted"
    assert reason(ann, "MARKETING") == ""


def test_a_restriction_ends_for_the_purposes_that_are_named(ann, petra):
    restrict(ann, petra)
    assert reason(ann) == reason(ann, "OWN_PRODUCT") == "restricted"

    restrict(ann, petra, "MARKETING", in_force=False)
    assert reason(ann) == ""
    assert reason(ann, "OWN_PRODUCT") == "restricted"

    restrict(ann, petra, in_force=False)
    assert reason(ann, "OWN_PRODUCT") == ""


def test_a_restriction_never_stops_what_is_owed(ann, petra):
    restrict(ann, petra)

    assert reason(ann, "TRANSACTIONAL_OPS") == ""


def test_the_latest_word_on_the_channel_counts(ann, petra):
    stop.prefer_channel(ann, email_allowed=False, source="phone", by=petra)
    assert reason(ann, "TRANSACTIONAL_OPS") == "no_email_wanted"

    stop.prefer_channel(ann, email_allowed=True, source="phone", by=petra)
    assert reason(ann) == ""
    assert ChannelPreference.objects.count() == 2


def test_a_wish_for_unencrypted_mail_is_kept_and_opens_nothing(ann, petra):
    stop.prefer_unencrypted(
        ann, accepted=True, warning_version="1", source="paper", evidence="Form 3", by=petra
    )

    assert UnencryptedPreference.objects.get().accepted
    assert entries("preference.recorded") == 1


def test_suppressing_twice_for_one_reason_keeps_one_row(ann):
    for _ in range(2):
        stop.suppress(ann.organization, ann.email_digest, "manual", source="staff", by=BY)

    assert Suppression.objects.count() == entries("suppression.recorded") == 1


def test_an_address_that_was_let_go_can_be_suppressed_again(ann, petra):
    fact = stop.suppress(ann.organization, ann.email_digest, "manual", source="staff", by=BY)
    stop.lift_suppression(fact, source="staff", evidence="a mistake", by=petra)
    assert reason(ann) == ""

    stop.suppress(ann.organization, ann.email_digest, "manual", source="staff", by=BY)

    assert reason(ann) == "suppressed"
    assert Suppression.objects.count() == 3


@pytest.mark.parametrize("evidence", ["", " \n"])
def test_nobodys_stop_is_lifted_without_evidence(ann, petra, evidence):
    stop.opt_out(ann, "commercial", source="page", by=ann)
    fact = stop.suppress(ann.organization, ann.email_digest, "manual", source="staff", by=BY)

    with pytest.raises(ValueError, match="evidence"):
        stop.opt_in(ann, "commercial", source="phone", evidence=evidence, by=petra)
    with pytest.raises(ValueError, match="evidence"):
        stop.lift_suppression(fact, source="staff", evidence=evidence, by=petra)

    assert (OptOut.objects.count(), Suppression.objects.count()) == (1, 1)
    assert reason(ann) == "suppressed"


def test_a_suppression_of_one_organization_says_nothing_to_another(ann, other_organization):
    stop.suppress(
        other_organization,
        address_digest(other_organization.pk, ann.email),
        "manual",
        source="staff",
        by=BY,
    )
    # Nor would the very digest, written for another organization.
    stop.suppress(other_organization, ann.email_digest, "manual", source="staff", by=BY)

    assert reason(ann) == ""


def every_fact(ann, petra):
    """Record one fact of every kind."""
    revoke(ann.authorizations.get(), source="phone", evidence="She called", by=petra)
    stop.opt_out(ann, "all", source="page", by=ann)
    stop.suppress(ann.organization, ann.email_digest, "manual", source="staff", by=petra)
    stop.prefer_channel(ann, email_allowed=False, source="phone", by=petra)
    restrict(ann, petra)
    stop.prefer_unencrypted(
        ann, accepted=True, warning_version="1", source="paper", evidence="Form 3", by=petra
    )


def test_the_log_vouches_for_every_fact(ann, petra):
    every_fact(ann, petra)

    found = verify()

    assert all(model.objects.exists() for model in FACT_MODELS)
    assert [str(one) for one in found.findings if one.code.startswith("fact")] == []
    assert found.facts >= len(FACT_MODELS) + 1


def test_a_fact_altered_in_sql_past_the_triggers_is_found(ann, petra):
    every_fact(ann, petra)
    with connection.cursor() as cursor:
        cursor.execute("set constraints all immediate")
        cursor.execute("alter table consent_revocation disable trigger user")
        cursor.execute("update consent_revocation set effective_at = effective_at + interval '1 y'")
        cursor.execute("alter table consent_revocation enable trigger user")

    assert "fact.altered" in {one.code for one in verify().findings}


@pytest.mark.parametrize(
    "statement",
    ["update {} set source = 'x'", "delete from {}", "truncate {} cascade"],
    ids=["update", "delete", "truncate"],
)
def test_facts_are_changed_by_nobody_in_sql(ann, petra, statement):
    every_fact(ann, petra)

    for model in FACT_MODELS:
        with (
            pytest.raises(Error, match="history"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute("set constraints all immediate")
            cursor.execute(statement.format(model._meta.db_table))
        assert model.objects.count() == 1


def test_facts_are_changed_by_nobody_through_the_models(ann, petra):
    every_fact(ann, petra)

    for model in FACT_MODELS:
        fact = model.objects.first()
        for change in (fact.save, fact.delete, model.objects.all().delete):
            with pytest.raises(AppendOnlyError):
                change()
        with pytest.raises(AppendOnlyError):
            model.objects.update(source="x")
        assert model.objects.count() == 1


def test_what_people_said_is_sealed_in_the_database(ann, petra):
    every_fact(ann, petra)

    with connection.cursor() as cursor:
        for model in FACT_MODELS:
            cursor.execute(f"select t::text, evidence from {model._meta.db_table} t")
            ((text, evidence),) = cursor.fetchall()
            assert "called" not in text and b"called" not in bytes(evidence)
    assert ann.revocations.get().evidence == "She called"


def test_a_stop_that_cannot_be_put_on_record_is_not_half_recorded(ann, monkeypatch):
    def broken(*arguments, **named):
        raise RuntimeError("the log takes nothing")

    monkeypatch.setattr(stop, "record", broken)
    with pytest.raises(RuntimeError):
        stop.opt_out(ann, "all", source="page", by=ann)

    assert not OptOut.objects.exists()
    assert reason(ann) == ""
