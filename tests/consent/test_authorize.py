"""Authorizations: what a paper must hold, whose it may be, and that nothing is recorded of one that is refused."""

import datetime as dt

import pytest
from django.db import Error, connection, transaction

from audit.models import Entry
from audit.verify import verify
from consent import gate
from consent.authorize import Refused, authorize, last_day, missing_elements, publish, revoke
from consent.locking import database_time
from consent.models import Authorization, FormVersion, Revocation
from tests.factories import BY, make_form, make_person, sign

pytestmark = pytest.mark.django_db

SIGNED = dt.date(2026, 1, 15)


@pytest.fixture
def form(organization):
    return make_form(organization)


@pytest.fixture
def ann(organization):
    return make_person(organization)


def reason(contact):
    return gate.decide(gate.ask(contact.organization, "MARKETING"), [contact.pk])[contact.pk]


def refused(contact, form, **fields):
    """Return the code of the refusal, having seen that nothing was recorded."""
    before = Entry.objects.count()
    with pytest.raises(Refused) as error:
        sign(contact, form, **fields)
    assert not Authorization.objects.exists()
    assert Entry.objects.count() == before
    (code,) = error.value.codes
    return code


def test_a_signed_form_gives_permission_and_is_on_record(ann, form):
    authorization = sign(ann, form)

    assert reason(ann) == ""
    assert (authorization.signed_on, authorization.expires_on) == (SIGNED, None)
    assert authorization.recorded_by == BY
    entry = Entry.objects.get(action="authorization.recorded")
    assert (entry.target_id, entry.facts["consent.Authorization"]["count"]) == (ann.pk, 1)
    assert [one for one in verify().findings if one.code.startswith("fact")] == []


def test_a_signature_that_lies_ahead_is_refused(ann, form):
    tomorrow = gate.today(ann.organization) + dt.timedelta(days=1)

    assert refused(ann, form, signed_on=tomorrow) == "signed_in_future"


def test_today_is_the_day_where_the_organization_is(ann, form):
    # Between these two zones it is never the same day.
    for zone, code in (("Pacific/Kiritimati", None), ("Etc/GMT+12", "signed_in_future")):
        ann.organization.time_zone = zone
        ann.organization.save()
        there = (database_time() + dt.timedelta(hours=14)).date()
        if code:
            with pytest.raises(Refused) as error:
                sign(ann, form, signed_on=there)
            assert error.value.codes == (code,)
        else:
            assert sign(ann, form, signed_on=there).signed_on == there
    assert Authorization.objects.count() == 1


def test_an_end_before_the_signature_is_refused(ann, form):
    day_before = SIGNED - dt.timedelta(days=1)

    assert refused(ann, form, expires_on=day_before) == "ends_before_it_begins"


def test_an_authorization_may_end_on_the_day_of_its_signature(ann, form):
    assert sign(ann, form, expires_on=SIGNED).expires_on == SIGNED


@pytest.mark.parametrize("evidence", ["", "  \n"])
def test_an_authorization_without_evidence_is_refused(ann, form, evidence):
    assert refused(ann, form, evidence=evidence) == "evidence_missing"


def test_a_representative_says_what_lets_them_act(ann, form):
    assert refused(ann, form, signer="representative") == "authority_missing"

    authorization = sign(
        ann, form, signer="representative", representative_authority="Mother of the minor"
    )
    assert authorization.signer == "representative"


def test_a_signer_that_is_none_describes_no_authority(ann, form):
    with pytest.raises(ValueError, match="Representative"):
        sign(ann, form, signer="Representative")

    assert not Authorization.objects.exists()


def test_a_kind_of_end_that_is_none_is_not_recorded(ann, form, petra):
    authorization = sign(ann, form)

    with pytest.raises(ValueError, match="Revoked"):
        revoke(authorization, kind="Revoked", source="phone", by=petra)

    assert not Revocation.objects.exists()


def test_another_organizations_form_is_not_usable(ann, other_organization):
    assert refused(ann, make_form(other_organization)) == "form_not_published"


def test_a_draft_is_not_signed(ann, organization):
    draft = FormVersion.objects.create(organization=organization, name="Draft", number=1)

    assert refused(ann, draft) == "form_not_published"


def test_a_form_of_days_ends_an_authorization_and_a_paper_only_sooner(ann, organization):
    form = make_form(organization, expires_after_days=30)

    assert sign(ann, form).expires_on == dt.date(2026, 2, 14)
    assert last_day(form, SIGNED, dt.date(2026, 2, 1)) == dt.date(2026, 2, 1)
    assert last_day(form, SIGNED, dt.date(2027, 1, 1)) == dt.date(2026, 2, 14)
    assert reason(ann) == "authorization_expired"


def test_evidence_and_authority_are_sealed_in_the_database(ann, form):
    sign(ann, form, evidence="Zanzibar 7", signer="representative",
         representative_authority="Quagga power")  # fmt: skip

    with connection.cursor() as cursor:
        cursor.execute(
            "select t::text, evidence, representative_authority from consent_authorization t"
        )
        ((row, *sealed),) = cursor.fetchall()
    for column, word in zip(sealed, ("Zanzibar", "Quagga"), strict=True):
        assert word not in row
        assert word.encode() not in bytes(column)
        assert word.encode().hex() not in row
    assert Authorization.objects.get().evidence == "Zanzibar 7"


def test_revoking_twice_keeps_the_first(ann, form, petra):
    authorization = sign(ann, form)
    first = revoke(authorization, source="phone", evidence="She called", by=petra)

    again = revoke(authorization, source="paper", by=petra)

    assert again == first
    assert Revocation.objects.get().source == "phone"
    assert Entry.objects.filter(action="authorization.revoked").count() == 1
    assert reason(ann) == "authorization_revoked"


@pytest.mark.parametrize("kind", ["event_occurred", "known_false"])
def test_an_authorization_ends_by_its_event_or_because_it_is_false(ann, form, petra, kind):
    revoke(sign(ann, form), kind=kind, source="staff", by=petra)

    assert reason(ann) == "authorization_revoked"


def test_whose_event_occurred_may_sign_again(ann, form, petra):
    revoke(sign(ann, form), kind="event_occurred", source="staff", by=petra)

    sign(ann, form, signed_on=dt.date(2026, 3, 1))

    assert reason(ann) == ""


def test_whoever_revoked_may_sign_again_on_a_later_day_only(ann, form, petra):
    revoke(sign(ann, form), source="phone", by=petra)
    today = gate.today(ann.organization)

    sign(ann, form, signed_on=today)
    assert reason(ann) == "authorization_revoked"

    with connection.cursor() as cursor:
        cursor.execute("set constraints all immediate")
        cursor.execute("alter table consent_revocation disable trigger user")
        cursor.execute(
            "update consent_revocation set effective_at = effective_at - interval '1 day'"
        )
    assert reason(ann) == ""


def test_a_revocation_that_cannot_be_put_on_record_is_not_half_recorded(
    ann, form, petra, monkeypatch
):
    authorization = sign(ann, form)

    def broken(*arguments, **named):
        raise RuntimeError("the log takes nothing")

    monkeypatch.setattr("consent.authorize.record", broken)
    with pytest.raises(RuntimeError):
        revoke(authorization, source="phone", by=petra)

    assert not Revocation.objects.exists()


def test_recording_one_paper_twice_keeps_the_first(ann, form):
    first = sign(ann, form)

    assert sign(ann, form, evidence="Another sheet") == first
    assert Authorization.objects.get().evidence == "Archive, sheet 12"
    assert Entry.objects.filter(action="authorization.recorded").count() == 1


def test_a_revoked_paper_recorded_again_revives_nothing(ann, form, petra):
    revoke(sign(ann, form), source="phone", by=petra)

    sign(ann, form)

    assert Authorization.objects.count() == 1
    assert reason(ann) == "authorization_revoked"


COMPLETE = {
    "information": "Your name.",
    "information_classes": ["contact"],
    "disclosers": ["Lakeside Health"],
    "recipients": ["You"],
    "purposes": ["MARKETING"],
    "expiry_event": "the end of care",
    "statement_revoke": "You may revoke.",
    "statement_condition": "Nothing depends on it.",
    "statement_redisclosure": "Others may tell.",
}


def test_a_form_with_every_element_is_complete(organization):
    assert missing_elements(FormVersion(organization=organization, **COMPLETE)) == {}


@pytest.mark.parametrize("element", [name for name in COMPLETE if name != "expiry_event"])
def test_a_form_that_lacks_an_element_is_not_published(organization, petra, element):
    empty = [] if isinstance(COMPLETE[element], list) else ""
    form = FormVersion.objects.create(
        organization=organization, name="Form", number=1, **{**COMPLETE, element: empty}
    )

    with pytest.raises(Refused) as error:
        publish(form, by=petra)

    assert element in error.value.codes
    form.refresh_from_db()
    assert form.published_at is None
    assert not Entry.objects.filter(action="form.published").exists()


@pytest.mark.parametrize(
    ("change", "lacks"),
    [
        ({"expiry_event": ""}, "expires_after_days"),
        ({"expires_after_days": 365}, "expires_after_days"),
        ({"purposes": ["SALE_OF_PHI"]}, "purposes"),
        ({"purposes": ["MARKETING_PAID"]}, "statement_remuneration"),
        (
            {"purposes": ["MARKETING_PAID"], "statement_remuneration": "We are paid."},
            "statement_remuneration",
        ),
        ({"disclosers": ["Hillview Clinic"]}, "disclosers"),
    ],
    ids=["no end", "two ends", "unknown purpose", "paid unsaid", "no payer", "somebody else's"],
)
def test_a_form_that_contradicts_itself_is_not_published(organization, change, lacks):
    assert lacks in missing_elements(FormVersion(organization=organization, **COMPLETE | change))


def test_publishing_twice_changes_nothing(form, petra):
    again = publish(form, by=petra)

    assert again.published_at == form.published_at
    assert again.published_by_id == form.published_by_id != petra.pk
    assert Entry.objects.filter(action="form.published").count() == 1


def test_a_published_form_is_changed_by_nobody_in_sql(form):
    with pytest.raises(Error, match="history"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("update consent_formversion set information = 'Everything about you.'")

    form.refresh_from_db()
    assert form.information == "Your name and address."


def test_a_contact_of_another_organization_keeps_its_own_forms(ann, form, other_organization):
    stranger = make_person(other_organization)

    with pytest.raises(Refused):
        authorize(stranger, form, signed_on=SIGNED, source="paper", evidence="Sheet", by=BY)

    assert not Authorization.objects.exists()
