"""A campaign's results add up, and people see only what may be shown."""

import datetime as dt
import json
from typing import Any

import pytest
from django.db import connection

from audit.record import record
from delivery.models import Message
from reports import campaign_document
from reports.campaign import DoesNotAddUp, results
from tests import factories
from tests.reports import past
from tests.reports.conftest import inside

AT = dt.datetime(2026, 10, 5, 15, 0, tzinfo=dt.UTC)


@pytest.fixture
def sent(organization: Any, alice: Any, bob: Any) -> Any:
    """A campaign to 60 people: 30 sent, 22 held back, 3 failed, 2 unclear, 1 each on its way, deferred, cancelled."""
    made = past.campaign(organization, AT, author=alice, approver=bob, name="Autumn")
    plan = [
        *[("sent", "", {"ip": "127.0.0.11"})] * 20,
        *[("sent", "", {"ip": "127.0.0.12", "tls": "TLSv1.2"})] * 9,
        ("sent", "", {"tls": ""}),
        *[("withheld", "opted_out", {})] * 14,
        *[("withheld", "substance_use_record", {})] * 8,
        *[("failed", "hard_recipient", {})] * 3,
        *[("in_doubt", "in_doubt", {})] * 2,
        ("queued", "", {}),
        ("deferred", "soft_network", {}),
        ("cancelled", "cancelled", {}),
    ]
    with past.together():
        for minute, (state, reason, fields) in enumerate(plan):
            contact = factories.make_contact(organization)
            at = AT + dt.timedelta(minutes=minute)
            past.message(made, contact, state, at, reason=reason, **fields)
    return made


def test_everybody_is_in_the_chain_once(sent: Any) -> None:
    found = results(sent)

    assert found.audience == 60
    assert found.chain == {
        "sent": 30,
        "withheld": 22,
        "failed": 3,
        "deferred": 1,
        "in_doubt": 2,
        "cancelled": 1,
        "waiting": 1,
    }
    assert sum(found.chain.values()) == found.audience
    assert found.withheld_by_reason == {"opted_out": 14, "substance_use_record": 8}
    assert found.failed_by_kind == {"hard_recipient": 3}


def test_what_was_sent_is_told_by_address_and_by_encryption(sent: Any) -> None:
    found = results(sent)

    assert found.by_sending_ip == {"127.0.0.11": 21, "127.0.0.12": 9}
    assert found.by_tls_version == {"TLSv1.3": 20, "TLSv1.2": 9}
    assert found.by_verification == {"none": 29}
    assert found.without_tls_receipt == 1
    assert found.first_at == AT
    assert found.last_at == AT + dt.timedelta(minutes=29)


def test_answers_are_counted_once_a_message_and_only_of_what_was_sent(sent: Any) -> None:
    first, second = sent.messages.filter(state="sent").order_by("handed_over_at")[:2]
    for message in (first, first, second):
        past.event(message, "unsubscribed", AT)
    past.event(second, "bounced", AT, kind="hard_recipient")
    past.event(sent.messages.filter(state="failed").first(), "bounced", AT, kind="hard_recipient")

    found = results(sent)

    assert (found.unsubscribed, found.bounced, found.complained) == (2, 1, 0)


def test_a_doubt_that_was_resolved_keeps_its_receipt(sent: Any) -> None:
    doubtful = sent.messages.filter(state="in_doubt").first()
    Message.objects.filter(pk=doubtful.pk).update(state="sent")

    found = results(sent)

    assert (found.sent, found.in_doubt, found.without_tls_receipt) == (31, 1, 1)


def test_another_campaign_counts_for_nothing(
    sent: Any, organization: Any, alice: Any, bob: Any
) -> None:
    other = past.campaign(organization, AT, author=alice, approver=bob)
    past.message(other, factories.make_contact(organization))

    assert results(sent).audience == 60
    assert results(other).audience == 1


def test_a_campaign_that_never_began_has_no_results_and_no_problem(
    organization: Any, alice: Any
) -> None:
    draft = past.campaign(organization, AT, author=alice, status="draft")

    found = results(draft)

    assert found.audience == 0
    assert found.first_at is None
    assert found.problems == ()


def test_a_campaign_still_sending_has_no_problem(sent: Any) -> None:
    sent.status = "sending"

    results(sent).check()


def test_a_finished_campaign_with_messages_on_their_way_is_flagged(sent: Any) -> None:
    found = results(sent)

    assert found.problems == ("The campaign is finished, yet 2 messages are on their way.",)
    with pytest.raises(DoesNotAddUp, match="2 messages are on their way"):
        found.check()


def test_rows_missing_from_the_ledger_are_flagged(sent: Any) -> None:
    sent.status = "sending"
    record(
        "audience.frozen",
        organization_id=sent.organization_id,
        by=past.BY,
        target=sent,
        count=61,
    )

    assert results(sent).problems == (
        "The ledger has 60 messages; the log says that 61 were frozen.",
    )


def test_a_state_that_nobody_knows_is_flagged_and_still_counted(sent: Any) -> None:
    sent.status = "sending"
    with connection.cursor() as cursor:
        cursor.execute("update delivery_message set state = 'lost' where state = 'cancelled'")

    found = results(sent)

    assert found.audience == 60
    assert found.problems == ("1 messages are in states that nobody knows: lost.",)


def test_a_second_receipt_of_one_message_is_flagged(sent: Any) -> None:
    sent.status = "sending"
    for message in sent.messages.filter(state="sent")[:2]:
        past.receipt(message)

    found = results(sent)

    assert found.problems == (
        "There are 31 receipts for 30 messages sent: something went out twice.",
    )


def test_people_see_no_small_reason_and_cannot_subtract_it(sent: Any, organization: Any) -> None:
    document = campaign_document.document(results(sent), organization)

    chain, reasons, failed = document.section("chain").tables
    assert {row.code: row.values[0].text for row in chain.rows} == {
        "sent": "30",
        "withheld": "22",
        "failed": "3",
        "deferred": "1",
        "in_doubt": "2",
        "cancelled": "1",
        "waiting": "1",
        "total": "60",
    }
    assert {row.code: row.values[0].text for row in reasons.rows} == {
        "opted_out": "hidden",
        "substance_use_record": "hidden",
        "total": "22",
    }
    assert "2 numbers are hidden; together they are 22." in reasons.note


def test_of_a_few_people_nothing_is_told(organization: Any, alice: Any, bob: Any) -> None:
    made = past.campaign(organization, AT, author=alice, approver=bob)
    for state, reason in (("sent", ""), ("withheld", "substance_use_record")):
        past.message(made, factories.make_contact(organization), state, reason=reason)

    text = campaign_document.as_csv(results(made), organization).decode()

    assert "fewer than 11" in text
    assert "substance" not in text.lower()
    assert '"1"' not in text


def test_answers_of_a_few_are_hidden(sent: Any, organization: Any) -> None:
    past.event(sent.messages.filter(state="sent").first(), "unsubscribed", AT)

    (table,) = campaign_document.document(results(sent), organization).section("answers").tables

    assert [row.values[0].text for row in table.rows] == ["fewer than 11", "0", "0"]


def test_json_says_which_numbers_are_hidden_and_raw_hides_none(
    sent: Any, organization: Any
) -> None:
    found = results(sent)

    told = json.loads(campaign_document.as_json(found, organization))
    raw = json.loads(campaign_document.as_json(found, organization, raw=True))

    assert told["schema"] == raw["schema"] == "hipaamail.campaign_results/1"
    assert told["campaign_id"] == str(sent.pk)
    rows = {row["code"]: row for row in told["sections"]["chain"]["tables"]["withheld"]}
    assert rows["substance_use_record"]["messages"] is None
    assert rows["substance_use_record"]["hidden"] == ["messages"]
    assert rows["total"] == {
        "code": "total",
        "label": "Together",
        "messages": 22,
        "hidden": [],
    }
    assert raw["withheld_by_reason"] == {"opted_out": 14, "substance_use_record": 8}
    assert "raw" not in told


def test_problems_and_missing_receipts_are_findings_on_paper(sent: Any, organization: Any) -> None:
    codes = [
        finding.code for finding in campaign_document.document(results(sent), organization).findings
    ]

    assert codes == ["does_not_add_up", "sent_without_receipt"]


def test_the_paper_is_a_tagged_pdf(sent: Any, organization: Any) -> None:
    paper = campaign_document.as_pdf(results(sent), organization)

    assert paper.startswith(b"%PDF-1.7")
    assert b"/Lang (en)" in inside(paper)


def test_a_campaigns_name_is_no_formula_in_the_table(organization: Any, alice: Any) -> None:
    made = past.campaign(organization, AT, author=alice, name="=1+1")

    table = campaign_document.as_csv(results(made), organization).decode()

    assert '"report","campaign","\'=1+1",""' in table
