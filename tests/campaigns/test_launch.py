"""From draft to launch: who may approve what, and what voids it."""

import datetime as dt

import pytest
from django.core.exceptions import ValidationError

from accounts.organizations import add_member
from audit.models import Entry
from builder.compile import Invalid
from builder.revise import freeze, save_template
from campaigns import binding, edit, launch
from campaigns.models import Approval, Campaign, WrongMove
from consent import stop
from consent.authorize import publish
from consent.locking import database_time
from consent.models import FormVersion
from contacts import segments
from tests.factories import (
    make_authorized,
    make_campaign,
    make_form,
    make_person,
    make_revision,
    make_sender,
    make_user,
)

pytestmark = pytest.mark.django_db

HOUR = dt.timedelta(hours=1)


@pytest.fixture
def form(organization):
    return make_form(organization)


@pytest.fixture
def ann(organization, form):
    return make_authorized(organization, form)


@pytest.fixture
def draft(organization, alice, ann):
    return make_campaign(organization, by=alice)


def hand_in(campaign, by):
    return bytes(launch.submit(campaign, by=by).content_hash)


def status(campaign):
    return Campaign.objects.get(pk=campaign.pk).status


def test_a_campaign_that_somebody_else_approved_is_scheduled_for_its_time(draft, alice, bob):
    seen = hand_in(draft, alice)

    launch.approve(draft, by=bob, seen_hash=seen)

    draft.refresh_from_db()
    assert draft.status == "scheduled"
    assert draft.latest_at == draft.send_at + dt.timedelta(hours=72)


def test_the_author_cannot_approve_and_the_attempt_is_on_record(draft, alice):
    seen = hand_in(draft, alice)

    with pytest.raises(launch.Refused) as error:
        launch.approve(draft, by=alice, seen_hash=seen)

    assert error.value.code == "own_work"
    assert status(draft) == "in_review"
    assert not Approval.objects.exists()
    assert Entry.objects.filter(action="access.denied", target_id=draft.pk).count() == 1


@pytest.mark.parametrize("role", ["viewer", "auditor", "administrator", "marketer"])
def test_only_an_approver_approves(draft, alice, organization, role):
    seen = hand_in(draft, alice)
    somebody = make_user(role, organization)

    for attempt in (
        lambda: launch.approve(draft, by=somebody, seen_hash=seen),
        lambda: launch.send_back(draft, by=somebody, comment="No."),
    ):
        with pytest.raises(launch.Refused) as error:
            attempt()
        assert error.value.code == "not_allowed"

    assert status(draft) == "in_review"
    assert not Approval.objects.exists()


def test_an_approver_of_another_organization_approves_nothing(draft, alice, other_organization):
    seen = hand_in(draft, alice)
    stranger = make_user("approver", other_organization)

    with pytest.raises(launch.Refused) as error:
        launch.approve(draft, by=stranger, seen_hash=seen)

    assert error.value.code == "not_allowed"
    assert status(draft) == "in_review"


def test_a_viewer_hands_in_schedules_and_cancels_nothing(draft, alice, bob, organization):
    viewer = make_user("viewer", organization)
    with pytest.raises(launch.Refused):
        launch.submit(draft, by=viewer)
    launch.approve(draft, by=bob, seen_hash=hand_in(draft, alice))

    for attempt in (
        lambda: launch.schedule(draft, at=database_time() + HOUR, by=viewer),
        lambda: launch.withdraw(draft, by=viewer),
        lambda: launch.cancel(draft, by=viewer),
    ):
        with pytest.raises(launch.Refused):
            attempt()

    assert status(draft) == "scheduled"


def test_whoever_handed_it_in_cannot_approve_it_either(draft, organization):
    dora = make_user("marketer", organization)
    seen = hand_in(draft, dora)

    with pytest.raises(launch.Refused):
        launch.approve(draft, by=dora, seen_hash=seen)

    assert status(draft) == "in_review"


def test_one_person_decides_once(draft, alice, bob, organization):
    organization.approvals_required = 2
    organization.save()
    seen = hand_in(draft, alice)
    launch.approve(draft, by=bob, seen_hash=seen)
    assert status(draft) == "in_review"

    with pytest.raises(launch.Refused) as error:
        launch.approve(draft, by=bob, seen_hash=seen)
    assert error.value.code == "decided_already"
    assert status(draft) == "in_review"

    launch.approve(draft, by=make_user("approver", organization), seen_hash=seen)
    assert status(draft) == "scheduled"


def test_approval_needs_the_hash_of_what_was_seen(draft, alice, bob):
    hand_in(draft, alice)

    with pytest.raises(launch.Refused) as error:
        launch.approve(draft, by=bob, seen_hash=b"\0" * 32)

    assert error.value.code == "changed"
    assert status(draft) == "in_review"


def test_an_approval_after_the_planned_time_sends_nothing_until_a_new_time_is_picked(
    draft, alice, bob
):
    seen = hand_in(draft, alice)
    Campaign.objects.filter(pk=draft.pk).update(send_at=database_time() - HOUR)

    launch.approve(draft, by=bob, seen_hash=seen)
    assert status(draft) == "approved"

    with pytest.raises(launch.Refused) as error:
        launch.schedule(draft, at=database_time() - HOUR, by=bob)
    assert error.value.code == "time_passed"
    assert status(draft) == "approved"

    launch.schedule(draft, at=database_time() + HOUR, by=bob)
    assert status(draft) == "scheduled"


def test_a_returned_campaign_is_a_draft_again_with_the_comment_kept(draft, alice, bob):
    seen = hand_in(draft, alice)

    launch.send_back(draft, by=bob, comment="Say who it is for.")

    assert status(draft) == "draft"
    assert Approval.objects.get().comment == "Say who it is for."
    with pytest.raises(launch.Refused):
        launch.approve(draft, by=make_user("approver", draft.organization), seen_hash=seen)


def test_returning_needs_a_comment(draft, alice, bob):
    hand_in(draft, alice)

    with pytest.raises(launch.Refused):
        launch.send_back(draft, by=bob, comment="  ")

    assert status(draft) == "in_review"


CHANGES = {
    "the text": lambda c, by: {"revision": make_revision(c.organization, "Good day")},
    "the segment": lambda c, by: {
        "segment": segments.create(
            c.organization,
            "Illinois",
            {"all": [{"field": "state", "op": "is", "value": "IL"}]},
            by=by,
        )
    },
    "the purpose": lambda c, by: {"purpose": "OWN_PRODUCT"},
    "who pays": lambda c, by: {"payer": "Acme", "remuneration_cents": 10},
    "the sender": lambda c, by: {"sender": make_sender(c.organization)},
    "the transport policy": lambda c, by: {"transport_policy": "verified"},
    "tracking": lambda c, by: {"is_tracked": True},
}


@pytest.mark.parametrize("what", CHANGES)
def test_an_edit_after_approval_voids_it(what, draft, alice, bob):
    seen = hand_in(draft, alice)
    launch.approve(draft, by=bob, seen_hash=seen)

    edit.change(draft, by=alice, **CHANGES[what](draft, alice))

    assert status(draft) == "draft"
    draft.refresh_from_db()
    with pytest.raises(launch.Refused) as error:
        launch.schedule(draft, at=database_time() + HOUR, by=bob)
    assert error.value.code == "not_approved"


def test_an_edit_that_changes_nothing_voids_nothing(draft, alice, bob):
    seen = hand_in(draft, alice)
    launch.approve(draft, by=bob, seen_hash=seen)

    edit.change(draft, by=alice, purpose=draft.purpose, name="Another name")

    assert status(draft) == "scheduled"


def test_the_last_editor_cannot_approve(draft, alice, bob, organization):
    both = make_user("approver", organization)
    add_member(organization, both, "marketer", by="system:tests")
    edit.change(draft, by=both, is_tracked=True)
    seen = hand_in(draft, alice)

    with pytest.raises(launch.Refused):
        launch.approve(draft, by=both, seen_hash=seen)

    launch.approve(draft, by=bob, seen_hash=seen)
    assert status(draft) == "scheduled"


def still_binds(campaign):
    campaign = Campaign.objects.select_related("organization", "sender__domain").get(pk=campaign.pk)
    return binding.still_binds(campaign, campaign.latest_submission())


def test_the_hash_covers_what_lies_outside_the_campaign(draft, alice, organization):
    hand_in(draft, alice)
    assert still_binds(draft)

    organization.postal_address = "2 Harbor Street"
    organization.save()
    assert not still_binds(draft)


def test_a_new_covering_form_voids_what_was_handed_in(draft, alice, organization):
    hand_in(draft, alice)

    make_form(organization)

    assert not still_binds(draft)


def test_a_saved_segment_that_changes_voids_what_was_handed_in(organization, alice, ann):
    segment = segments.create(organization, "All", {"all": []}, by=alice)
    campaign = make_campaign(organization, by=alice, segment=segment)
    hand_in(campaign, alice)
    assert still_binds(campaign)

    criteria = {"all": [{"field": "state", "op": "is", "value": "IL"}]}
    segments.change(segment, criteria=criteria, by=alice)
    assert not still_binds(campaign)


def test_editing_the_template_changes_no_campaign(draft, alice):
    hand_in(draft, alice)
    template = draft.revision.template
    document = dict(template.document, blocks=list(template.document["blocks"]))
    document["blocks"][1] = {**document["blocks"][1], "html": "<p>Something else</p>"}

    save_template(
        draft.organization, template.name, document, subject="Else", template=template, by=alice
    )
    freeze(template, by=alice)

    assert still_binds(draft)


def test_an_approval_expires(draft, alice, bob):
    seen = hand_in(draft, alice)
    launch.approve(draft, by=bob, seen_hash=seen)
    submission = draft.latest_submission()
    now = database_time()

    assert launch.is_approved(draft, submission, now)
    assert not launch.is_approved(draft, submission, now + launch.APPROVAL_LASTS)


@pytest.mark.parametrize("missing", ["purpose", "revision", "sender"])
def test_an_incomplete_draft_is_not_handed_in(draft, alice, missing):
    Campaign.objects.filter(pk=draft.pk).update(**{missing: "" if missing == "purpose" else None})

    with pytest.raises(launch.Refused) as error:
        launch.submit(draft, by=alice)

    assert error.value.code == f"{missing}_missing"
    assert status(draft) == "draft"


def test_a_campaign_that_reaches_nobody_is_not_handed_in(draft, alice, ann):
    stop.opt_out(ann, "all", source="page", by=ann)

    with pytest.raises(launch.Refused) as error:
        launch.submit(draft, by=alice)

    assert error.value.code == "nobody_reachable"
    assert draft.latest_submission() is None


def test_an_unknown_merge_tag_is_not_handed_in(organization, alice, ann):
    revision = make_revision(organization)
    type(revision).objects.filter(pk=revision.pk)
    template = revision.template
    document = dict(template.document, blocks=list(template.document["blocks"]))
    document["blocks"][1] = {**document["blocks"][1], "html": "<p>{{ shoe_size }}</p>"}
    template.document = document
    template.save()
    campaign = make_campaign(organization, by=alice, revision=freeze(template, by=alice))

    with pytest.raises(Invalid):
        launch.submit(campaign, by=alice)

    assert status(campaign) == "draft"


def test_the_submission_counts_the_audience_by_reason(draft, alice, organization):
    make_person(organization)

    submission = launch.submit(draft, by=alice)

    assert submission.audience == {"": 1, "no_authorization": 1}
    assert (submission.audience_total, submission.ceiling) == (2, 2)


@pytest.mark.parametrize(("reachable", "ceiling"), [(1, 2), (100, 110), (2000, 2200)])
def test_the_audience_may_grow_by_a_tenth(reachable, ceiling):
    assert launch.ceiling(reachable, 10) == ceiling


def test_a_duplicate_carries_content_but_neither_approval_nor_time(draft, alice, bob):
    launch.approve(draft, by=bob, seen_hash=hand_in(draft, alice))

    dora = make_user("marketer", draft.organization)

    copy = edit.duplicate(draft, by=dora)

    assert (copy.status, copy.send_at, copy.author_id) == ("draft", None, dora.pk)
    assert (copy.revision, copy.purpose, copy.sender) == (draft.revision, "MARKETING", draft.sender)
    assert copy.latest_submission() is None


def test_a_row_of_another_organization_is_refused(draft, alice, other_organization):
    with pytest.raises(edit.NotOurs):
        edit.change(draft, by=alice, sender=make_sender(other_organization))

    draft.refresh_from_db()
    assert draft.sender.organization_id == draft.organization_id


@pytest.mark.parametrize("column", ["status", "author_id", "organization", "latest_submission"])
def test_state_and_author_are_not_set_by_an_edit(draft, alice, column):
    with pytest.raises(TypeError):
        edit.change(draft, by=alice, **{column: "approved"})

    assert status(draft) == "draft"


def test_a_purpose_that_does_not_exist_is_refused(draft, alice):
    with pytest.raises(ValidationError):
        edit.change(draft, by=alice, purpose="SALE_OF_PHI")

    draft.refresh_from_db()
    assert draft.purpose == "MARKETING"


def test_undeclared_moves_raise(draft, alice, bob):
    with pytest.raises(WrongMove):
        launch.pause(draft, by=alice)
    with pytest.raises(WrongMove):
        launch.resume(draft, by=alice)
    launch.cancel(draft, by=alice)
    with pytest.raises(WrongMove):
        launch.cancel(draft, by=alice)

    assert status(draft) == "cancelled"


def test_a_move_from_a_stale_copy_is_refused(draft):
    stale = Campaign.objects.get(pk=draft.pk)
    draft.move_to("cancelled")

    with pytest.raises(WrongMove):
        stale.move_to("in_review")

    assert status(draft) == "cancelled"


def test_every_move_leads_to_a_declared_state():
    assert set(Campaign.MOVES) == set(Campaign.Status.values)
    assert all(ends <= set(Campaign.Status.values) for ends in Campaign.MOVES.values())


def test_a_form_is_published_only_when_complete(organization, petra):
    form = FormVersion.objects.create(organization=organization, name="Draft", number=1)

    with pytest.raises(Exception, match="164.508") as error:
        publish(form, by=petra)

    assert "statement_revoke" in error.value.codes
    form.refresh_from_db()
    assert form.published_at is None


def test_whoever_wrote_or_changed_it_cannot_approve_it_though_somebody_else_changed_it_last(
    organization, alice, ann
):
    both = make_user("marketer", organization)
    add_member(organization, both, "approver", by="system:tests")
    campaign = make_campaign(organization, by=both)
    edit.change(campaign, by=alice, is_tracked=True)
    seen = hand_in(campaign, alice)

    with pytest.raises(launch.Refused) as error:
        launch.approve(campaign, by=both, seen_hash=seen)

    assert error.value.code == "own_work"
    assert status(campaign) == "in_review"


@pytest.mark.parametrize("role", ["viewer", "auditor", "approver", "administrator"])
def test_only_a_marketer_makes_and_changes_campaigns(draft, organization, role):
    somebody = make_user(role, organization)

    for attempt in (
        lambda: edit.change(draft, by=somebody, name="Another"),
        lambda: edit.duplicate(draft, by=somebody),
        lambda: edit.create(organization, "New", by=somebody),
    ):
        with pytest.raises(edit.NotAllowed):
            attempt()

    draft.refresh_from_db()
    assert draft.name != "Another"
    assert Campaign.objects.count() == 1


def test_a_marketer_of_another_organization_changes_nothing(draft, charlie):
    with pytest.raises(edit.NotAllowed):
        edit.change(draft, by=charlie, name="Another")

    draft.refresh_from_db()
    assert draft.name != "Another"


@pytest.mark.parametrize("column", ["send_at", "latest_at"])
def test_the_times_of_a_scheduled_campaign_are_changed_by_scheduling_alone(
    draft, alice, bob, column
):
    launch.approve(draft, by=bob, seen_hash=hand_in(draft, alice))

    with pytest.raises(WrongMove):
        edit.change(draft, by=alice, **{column: None})

    assert status(draft) == "scheduled"


def test_a_latest_time_before_the_sending_time_is_refused_when_it_is_typed(draft, alice):
    with pytest.raises(ValidationError):
        edit.change(draft, by=alice, latest_at=draft.send_at - HOUR)

    draft.refresh_from_db()
    assert draft.latest_at is None


def test_the_latest_time_moves_with_the_sending_time(draft, alice, bob):
    launch.approve(draft, by=bob, seen_hash=hand_in(draft, alice))
    draft.refresh_from_db()
    distance = draft.latest_at - draft.send_at

    later = database_time() + dt.timedelta(days=10)
    launch.schedule(draft, at=later, by=bob)

    draft.refresh_from_db()
    assert (draft.send_at, draft.latest_at) == (later, later + distance)


def test_nothing_is_scheduled_beyond_its_approval(draft, alice, bob):
    launch.approve(draft, by=bob, seen_hash=hand_in(draft, alice))

    with pytest.raises(launch.Refused) as error:
        launch.schedule(draft, at=database_time() + dt.timedelta(days=15), by=bob)

    assert error.value.code == "not_approved"
    assert Campaign.objects.get(pk=draft.pk).send_at == draft.send_at


def test_scheduling_anew_clears_why_it_waited(draft, alice, bob):
    launch.approve(draft, by=bob, seen_hash=hand_in(draft, alice))
    Campaign.objects.filter(pk=draft.pk).update(status="approved", held_reason="too_late")

    launch.schedule(draft, at=database_time() + HOUR, by=bob)

    assert Campaign.objects.get(pk=draft.pk).held_reason == ""


def test_without_a_margin_the_audience_may_not_grow():
    assert launch.ceiling(100, 0) == 100
