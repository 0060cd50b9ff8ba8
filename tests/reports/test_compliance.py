"""The compliance report: numbers counted by hand, days of the organization, nothing of anybody else."""

import csv
import datetime as dt
import io
import json
from typing import Any

import pytest
from django.db import connection
from django.template.loader import render_to_string

from audit.models import Entry
from audit.record import denied, record
from audit.verify import verify
from campaigns.models import Approval
from files import staging
from files.models import StagedFile
from reports import compliance
from reports.compliance import BadPeriod
from reports.document import Row
from tests import factories
from tests.reports import past
from tests.reports.conftest import NOON, OCTOBER, inside

DAY = dt.timedelta(days=1)


@pytest.fixture
def autumn(clinic: Any, alice: Any, bob: Any) -> Any:
    """A promotion in October: 40 sent (28 under version 1, 12 under version 2), 27 held back, 3 failed, 1 unclear."""
    forms = tuple(factories.make_form(clinic, name="Marketing", number=n) for n in (1, 2))
    made = past.campaign(clinic, NOON, author=alice, approver=bob, forms=forms, name="Autumn")
    plan = [
        *[("sent", "", forms[0])] * 28,
        *[("sent", "", forms[1])] * 12,
        *[("withheld", "opted_out", None)] * 15,
        *[("withheld", "substance_use_record", None)] * 12,
        *[("failed", "hard_recipient", forms[0])] * 3,
        ("in_doubt", "in_doubt", forms[0]),
    ]
    with past.together():
        for minute, (state, reason, form) in enumerate(plan):
            contact = factories.make_contact(clinic)
            if form is not None:
                past.authorization(contact, form, NOON - 9 * DAY)
            at = NOON + dt.timedelta(minutes=minute)
            past.message(made, contact, state, at, reason=reason)
    return made


def rows(report: Any, section: str, table: str) -> dict[str, Row]:
    found = {one.code: one for one in report.section(section).tables}
    return {row.code: row for row in found[table].rows}


def texts(report: Any, section: str, table: str) -> dict[str, str]:
    """The first number of each row, as it is shown."""
    return {code: row.values[0].text for code, row in rows(report, section, table).items()}


def codes(report: Any) -> list[str]:
    return [finding.code for finding in report.findings]


def test_what_was_sent_is_told_by_purpose_and_by_form_version(clinic: Any, autumn: Any) -> None:
    report = compliance.report(clinic, *OCTOBER)

    assert texts(report, "sendings", "purposes") == {"MARKETING": "40", "total": "40"}
    assert rows(report, "sendings", "purposes")["MARKETING"].citation == "45 CFR 164.508(a)(3)"
    assert sorted(
        (row.label, row.values[0].text)
        for row in rows(report, "sendings", "forms_marketing").values()
    ) == [
        ("Marketing, version 1 (en)", "28"),
        ("Marketing, version 2 (en)", "12"),
        ("Together", "40"),
    ]
    assert texts(report, "sendings", "outcomes") == {
        "sent": "40",
        "withheld": "27",
        "failed": "3",
        "in_doubt": "1",
        "cancelled": "0",
        "waiting": "0",
    }
    assert codes(report) == []


def test_what_was_held_back_is_told_by_reason_with_its_law(clinic: Any, autumn: Any) -> None:
    report = compliance.report(clinic, *OCTOBER)

    assert texts(report, "withheld", "reasons") == {
        "opted_out": "15",
        "substance_use_record": "12",
        "total": "27",
    }
    assert rows(report, "withheld", "reasons")["substance_use_record"].citation == "42 CFR 2.31"


def test_few_substance_use_records_are_hidden_with_a_larger_number(
    clinic: Any, autumn: Any
) -> None:
    four = autumn.messages.filter(reason="substance_use_record").values_list("pk", flat=True)[:4]
    autumn.messages.filter(pk__in=list(four)).update(reason="opted_out")
    for _ in range(14):
        past.message(autumn, factories.make_contact(clinic), "withheld", reason="no_tls")

    report = compliance.report(clinic, *OCTOBER)

    # 19 opted out, 8 with records of substance use, 14 without encryption.
    assert texts(report, "withheld", "reasons") == {
        "opted_out": "19",
        "substance_use_record": "hidden",
        "no_tls": "hidden",
        "total": "41",
    }


def test_acts_of_law_are_exact_however_few(clinic: Any, autumn: Any) -> None:
    sent = autumn.messages.filter(state="sent").order_by("handed_over_at")
    autumn.messages.exclude(pk__in=list(sent.values_list("pk", flat=True)[:5])).update(
        state="cancelled"
    )

    report = compliance.report(clinic, *OCTOBER)

    assert texts(report, "sendings", "purposes") == {"MARKETING": "5", "total": "5"}
    assert [
        (row.label, row.values[0].text)
        for row in rows(report, "sendings", "forms_marketing").values()
    ] == [("Marketing, version 1 (en)", "5"), ("Together", "5")]


def test_a_few_that_were_held_back_are_told_without_any_reason(clinic: Any, autumn: Any) -> None:
    held = autumn.messages.filter(reason="substance_use_record").values_list("pk", flat=True)
    autumn.messages.filter(state="withheld").exclude(pk__in=list(held)[:3]).update(
        state="cancelled"
    )

    report = compliance.report(clinic, *OCTOBER)

    assert texts(report, "withheld", "reasons") == {"total": "3"}
    assert b"ubstance" not in compliance.as_csv(report) + compliance.as_json(report)
    assert "ubstance use" not in render_to_string("pdf/compliance.html", {"report": report})


def test_a_day_is_the_organizations_day_though_clocks_change(
    clinic: Any, alice: Any, bob: Any
) -> None:
    # November 1, 2026 lasts in Chicago from 05:00 UTC to 06:00 UTC of the next day.
    campaign = past.campaign(
        clinic, dt.datetime(2026, 10, 31, 12, 0, tzinfo=dt.UTC), author=alice, approver=bob
    )
    for at in (
        dt.datetime(2026, 11, 1, 4, 59, 59, 999999, tzinfo=dt.UTC),
        dt.datetime(2026, 11, 1, 5, 0, tzinfo=dt.UTC),
        dt.datetime(2026, 11, 2, 5, 59, 59, 999999, tzinfo=dt.UTC),
        dt.datetime(2026, 11, 2, 6, 0, tzinfo=dt.UTC),
    ):
        past.message(campaign, factories.make_contact(clinic), at=at)

    def sent(first: int, last: int) -> str:
        report = compliance.report(clinic, dt.date(2026, 11, first), dt.date(2026, 11, last))
        return texts(report, "sendings", "outcomes")["sent"]

    assert sent(1, 1) == "2"
    assert sent(2, 2) == "1"
    assert sent(1, 2) == "3"


def test_the_numbers_of_adjoining_periods_add_up_to_those_of_the_whole(
    clinic: Any, autumn: Any
) -> None:
    whole = compliance.report(clinic, *OCTOBER)
    halves = [
        compliance.report(clinic, dt.date(2026, 10, 1), dt.date(2026, 10, 4)),
        compliance.report(clinic, dt.date(2026, 10, 5), dt.date(2026, 10, 31)),
    ]

    for code, text in texts(whole, "sendings", "outcomes").items():
        parts = [texts(half, "sendings", "outcomes")[code] for half in halves]
        assert int(text) == sum(map(int, parts))


def test_what_was_held_back_at_freezing_counts_on_that_day(clinic: Any, autumn: Any) -> None:
    autumn.messages.filter(state="withheld").update(finished_at=None, due_at=NOON + 90 * DAY)

    report = compliance.report(clinic, dt.date(2026, 10, 5), dt.date(2026, 10, 5))

    assert texts(report, "sendings", "outcomes")["withheld"] == "27"


def test_what_was_handed_over_before_and_closed_after_the_end_counts_once(
    clinic: Any, alice: Any, bob: Any
) -> None:
    made = past.campaign(clinic, NOON, author=alice, approver=bob)
    past.message(
        made,
        factories.make_contact(clinic),
        "failed",
        dt.datetime(2026, 11, 2, 12, 0, tzinfo=dt.UTC),
        reason="expired",
        handed_over_at=NOON,
    )

    october = compliance.report(clinic, *OCTOBER)
    november = compliance.report(clinic, dt.date(2026, 11, 1), dt.date(2026, 11, 20))

    assert texts(october, "sendings", "outcomes")["failed"] == "0"
    assert texts(november, "sendings", "outcomes")["failed"] == "1"
    # Who approved it is asked in the period in which it was handed over.
    assert len(rows(october, "approvals", "campaigns")) == 1
    assert rows(november, "approvals", "campaigns") == {}


def test_what_is_still_on_its_way_is_told_apart(clinic: Any, autumn: Any) -> None:
    past.message(autumn, factories.make_contact(clinic), "deferred", reason="soft_network")

    october = compliance.report(clinic, *OCTOBER)
    september = compliance.report(clinic, dt.date(2026, 9, 1), dt.date(2026, 9, 30))

    assert texts(october, "sendings", "outcomes")["waiting"] == "1"
    assert texts(september, "sendings", "outcomes")["waiting"] == "0"


def test_another_organization_counts_for_nothing(
    clinic: Any, autumn: Any, other_organization: Any, charlie: Any
) -> None:
    verification = verify()
    before = compliance.report(clinic, *OCTOBER, verification=verification)

    form = factories.make_form(other_organization)
    other = past.campaign(other_organization, NOON, author=charlie, approver=charlie, forms=(form,))
    people = [factories.make_contact(other_organization) for _ in range(15)]
    for person in people:
        message = past.message(other, person, tls="")
        past.event(message, "bounced", NOON, kind="hard_recipient")
        past.opt_out(person, NOON - DAY)
        past.suppression(person, NOON - DAY)
        past.revocation(past.authorization(person, form, NOON - 2 * DAY), NOON - DAY)
    record("contact.viewed", organization_id=other_organization.pk, by=charlie)

    after = compliance.report(clinic, *OCTOBER, verification=verification)
    theirs = compliance.report(other_organization, *OCTOBER, verification=verification)

    assert after.sections == before.sections
    assert after.summary == before.summary
    assert codes(theirs) == [
        "message_without_authorization",
        "message_against_opt_out",
        "sent_without_receipt",
        "sent_without_second_person",
    ]


def test_a_message_without_authority_is_a_finding_with_its_number(clinic: Any, autumn: Any) -> None:
    for _ in range(2):
        past.message(autumn, factories.make_contact(clinic), at=NOON)

    report = compliance.report(clinic, *OCTOBER)

    assert codes(report) == ["message_without_authorization"]
    (finding,) = report.findings
    assert finding.sentence.startswith("2 messages that needed a signed authorization were handed")
    assert finding.sentence.endswith("(2 never having one).")
    assert finding.citation == "45 CFR 164.508(a)(3)"


def test_a_message_against_a_stop_is_a_finding(clinic: Any, autumn: Any) -> None:
    past.opt_out(autumn.messages.filter(state="sent").first().contact, NOON - DAY)

    report = compliance.report(clinic, *OCTOBER)

    assert codes(report) == ["message_against_opt_out"]
    assert rows(report, "stops", "speed")["opt_out:commercial"].tone == "stop"
    assert "1 message went out against a stop in force" in report.summary


def test_messages_without_receipt_or_over_old_tls_are_findings(clinic: Any, autumn: Any) -> None:
    form = autumn.submissions.get().bound["form_versions"][0]
    for tls in ("", "TLSv1.1"):
        contact = factories.make_contact(clinic)
        past.fact(
            past.Authorization,
            contact,
            NOON - DAY,
            form_version_id=form,
            signed_on=dt.date(2026, 1, 1),
            copy_given_on=dt.date(2026, 1, 1),
        )
        past.message(autumn, contact, tls=tls)

    report = compliance.report(clinic, *OCTOBER)

    assert codes(report) == ["sent_without_receipt", "old_tls"]
    assert texts(report, "encryption", "tls_versions") == {
        "TLSv1.3": "40",
        "TLSv1.1": "1",
        "": "1",
        "total": "42",
    }


def test_a_second_receipt_is_a_finding(clinic: Any, autumn: Any) -> None:
    past.receipt(autumn.messages.filter(state="sent").first())

    assert codes(compliance.report(clinic, *OCTOBER)) == ["receipt_twice"]


def test_answers_and_suppressions_are_counted_on_their_own_day(clinic: Any, autumn: Any) -> None:
    message = autumn.messages.filter(state="failed").first()
    past.event(message, "bounced", NOON, kind="hard_recipient")
    past.event(message, "bounced", NOON + 40 * DAY, kind="hard_recipient")
    past.event(message, "complained", NOON)
    past.suppression(message.contact, NOON + DAY)
    past.suppression(message.contact, NOON + 2 * DAY, action="lift")

    report = compliance.report(clinic, *OCTOBER)

    assert texts(report, "returns", "bounces") == {"hard_recipient": "1", "total": "1"}
    assert texts(report, "returns", "answers") == {"complained": "1"}
    blocked = rows(report, "returns", "suppressions")["hard_bounce"]
    assert [cell.value for cell in blocked.values] == [1, 1]


def today(clinic: Any) -> tuple[dt.date, dt.date]:
    day = dt.datetime.now(dt.UTC).astimezone(clinic.zone).date()
    return day, day


def test_access_is_told_by_name_role_and_kind(
    clinic: Any, alice: Any, petra: Any, charlie: Any
) -> None:
    elsewhere = charlie.memberships.get().organization_id
    record("contact.viewed", organization_id=elsewhere, by=charlie)
    for count in (50, 3):
        record("contact.viewed", organization_id=clinic.pk, by=petra, count=count)
    record("message.viewed", organization_id=clinic.pk, by=petra)
    record("contact.searched", organization_id=clinic.pk, by=alice)
    record("file.read", organization_id=clinic.pk, by="system:import")

    report = compliance.report(clinic, *today(clinic))

    assert {
        row.label: [cell.value for cell in row.values]
        for row in rows(report, "access", "actors").values()
    } == {
        "Petra Porter, privacy officer": [2, 0, 0, 1, 0, 0, 53],
        "Alice Archer, marketer": [0, 1, 0, 0, 0, 0, 0],
        "The system (import)": [0, 0, 0, 0, 1, 0, 0],
    }


def test_refusals_and_key_events_are_counted(
    clinic: Any, alice: Any, bob: Any, charlie: Any
) -> None:
    elsewhere = charlie.memberships.get().organization_id
    denied("access.denied", organization_id=elsewhere, by=charlie, reason="own_work")
    denied("access.denied", organization_id=clinic.pk, by=alice, reason="own_work")
    denied("access.denied", organization_id=clinic.pk, by=bob, reason="own_work")
    record("key.rotated", organization_id=clinic.pk, by=alice)

    report = compliance.report(clinic, *today(clinic))

    refusals = rows(report, "denials", "refusals")
    assert refusals["access.denied:own_work"].label == "Was refused: own work"
    assert [cell.value for cell in refusals["access.denied:own_work"].values] == [2, 2]
    keys = rows(report, "keys", "key_events")
    assert {code: row.values[0].value for code, row in keys.items()} == {
        "key.created": 1,
        "key.rotated": 1,
    }
    assert keys["key.rotated"].values[1] == "Alice Archer, marketer"


def test_each_campaign_names_who_handed_it_in_and_who_approved(clinic: Any, autumn: Any) -> None:
    report = compliance.report(clinic, *OCTOBER)

    (row,) = rows(report, "approvals", "campaigns").values()
    assert row.label == "Autumn"
    assert row.values == (
        "Promotion of a product or service",
        "Alice Archer",
        NOON - dt.timedelta(hours=2),
        "Bob Brewer",
        NOON - dt.timedelta(hours=1),
        bytes(autumn.submissions.get().content_hash).hex()[:12],
    )
    assert "The one campaign sent was approved by a second person." in report.summary


@pytest.mark.parametrize(
    "change",
    [
        {"decided_by_id": "author"},
        {"decided_at": NOON + DAY},
        {"expires_at": NOON + dt.timedelta(minutes=5)},
        {"content_hash": b"other bytes"},
        {"decision": "returned"},
    ],
)
def test_an_approval_that_does_not_count_is_a_finding(
    clinic: Any, autumn: Any, change: dict[str, Any]
) -> None:
    approval = Approval.objects.get(submission__campaign=autumn)
    column, value = next(iter(change.items()))
    with connection.cursor() as cursor:
        cursor.execute("set local session_replication_role = replica")
        cursor.execute(
            f"update campaigns_approval set {column} = %s where id = %s",
            [autumn.author_id if value == "author" else value, approval.pk],
        )

    report = compliance.report(clinic, *OCTOBER)

    # The altered approval no longer fits its hash in the log, either.
    assert codes(report) == ["sent_without_second_person", "log_fact_altered"]
    assert "“Autumn”" in report.findings[0].sentence
    assert rows(report, "approvals", "campaigns").popitem()[1].tone == "stop"


def test_an_altered_receipt_shows_in_the_log_chapter(clinic: Any, autumn: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("set local session_replication_role = replica")
        cursor.execute(
            "update delivery_receipt set verified_by = 'pkix' where id = (select id from delivery_receipt limit 1)"
        )

    report = compliance.report(clinic, *OCTOBER)

    assert codes(report) == ["log_fact_altered"]
    assert "The log was verified and is not whole." in report.summary
    assert rows(report, "log", "verification")["result"].values == ("Not whole",)


@pytest.mark.parametrize("frozen", [70, 72])
def test_a_ledger_with_rows_missing_or_added_is_a_finding(
    clinic: Any, autumn: Any, frozen: int
) -> None:
    assert autumn.messages.count() == 71
    record(
        "audience.frozen",
        organization_id=clinic.pk,
        by=past.BY,
        target=autumn,
        count=frozen,
    )

    assert codes(compliance.report(clinic, *OCTOBER)) == ["ledger_incomplete"]


def test_a_state_that_nobody_knows_is_a_finding(clinic: Any, autumn: Any) -> None:
    autumn.messages.filter(state="failed").update(state="lost")

    assert codes(compliance.report(clinic, *OCTOBER)) == ["state_unknown"]


def test_an_empty_period_says_so(clinic: Any) -> None:
    report = compliance.report(clinic, *OCTOBER)

    assert codes(report) == []
    assert report.summary.startswith(
        "From October 1 to October 31, 2026, Lakeside Health sent 0 messages in 0 campaigns"
    )
    assert b"%PDF" in compliance.as_pdf(report)


def test_a_report_is_staged_three_times_and_noted_in_the_log(
    clinic: Any, autumn: Any, petra: Any
) -> None:
    files = compliance.make(clinic, *OCTOBER, by=petra)

    assert {kind: file.content_type for kind, file in files.items()} == {
        "pdf": "application/pdf",
        "csv": "text/csv",
        "json": "application/json",
    }
    assert files["csv"].name == "compliance-report_lakeside_2026-10-01_2026-10-31.csv"
    assert {file.kind for file in files.values()} == {"report"}
    assert staging.read_all(files["pdf"], by=petra).startswith(b"%PDF-1.7")
    made = json.loads(staging.read_all(files["json"], by=petra))
    assert made["made_by"] == "Petra Porter, privacy officer"
    entry = Entry.objects.get(action="report.made")
    assert entry.actor == f"user:{petra.pk}"
    assert entry.detail["first_on"] == "2026-10-01"
    assert sorted(entry.detail["files"]) == sorted(str(file.pk) for file in files.values())


def test_a_period_that_is_none_leaves_nothing_behind(clinic: Any, petra: Any) -> None:
    with pytest.raises(BadPeriod):
        compliance.make(clinic, dt.date(1926, 1, 1), dt.date(2026, 10, 31), by=petra)

    assert not StagedFile.objects.exists()
    assert not Entry.objects.filter(action="report.made").exists()


def test_the_table_is_tidy_and_no_campaign_name_becomes_a_formula(
    clinic: Any, alice: Any, bob: Any
) -> None:
    evil = past.campaign(
        clinic, NOON, author=alice, approver=bob, name='=HYPERLINK("http://evil.example")'
    )
    past.message(evil, factories.make_contact(clinic))

    table = compliance.as_csv(compliance.report(clinic, *OCTOBER)).decode()
    lines = table.split("\r\n")

    assert lines[0] == '"section","item","value","citation"'
    assert '"report","first_day","2026-10-01",""' in lines
    assert (
        '"sendings","What became of all messages: Sent","1","45 CFR 164.501, 164.506, 164.508(a)(3)"'
        in lines
    )
    assert "HYPERLINK" in table
    assert not [
        cell
        for row in csv.reader(io.StringIO(table))
        for cell in row
        if cell[:1] in "=+-@" and cell
    ]


def test_the_json_has_the_form_that_is_documented(clinic: Any, autumn: Any) -> None:
    made = json.loads(compliance.as_json(compliance.report(clinic, *OCTOBER)))

    assert made["schema"] == "hipaamail.compliance_report/1"
    assert list(made) == [
        "schema",
        "organization",
        "organization_id",
        "first_day",
        "last_day",
        "time_zone",
        "numbers_below_are_hidden",
        "made_at",
        "made_by",
        "findings",
        "sections",
    ]
    assert {code: list(section["tables"]) for code, section in made["sections"].items()} == {
        "sendings": ["purposes", "forms_marketing", "outcomes"],
        "withheld": ["reasons"],
        "authorizations": ["forms"],
        "stops": ["wishes", "speed"],
        "encryption": ["tls_versions", "ciphers", "verification"],
        "returns": ["bounces", "answers", "suppressions"],
        "access": ["actors"],
        "approvals": ["campaigns"],
        "denials": ["refusals"],
        "keys": ["key_events"],
        "log": ["verification"],
    }
    assert made["sections"]["withheld"]["tables"]["reasons"][0] == {
        "code": "opted_out",
        "label": "The person said stop.",
        "messages": 15,
        "hidden": [],
    }


def test_no_person_who_was_written_to_appears(clinic: Any, autumn: Any) -> None:
    contact = factories.make_contact(
        clinic, email="quentin.canary@mail.example", first_name="Quentin", last_name="Canary"
    )
    past.message(autumn, contact, "withheld", reason="no_authorization")
    past.opt_out(contact, NOON)

    report = compliance.report(clinic, *OCTOBER)

    page = render_to_string("pdf/compliance.html", {"report": report, "language": "en"})
    for made in (page, compliance.as_csv(report).decode(), compliance.as_json(report).decode()):
        assert "anary" not in made
        assert "mail.example" not in made
        assert str(contact.pk) not in made


def test_the_paper_says_what_the_report_says_and_escapes_names(
    clinic: Any, alice: Any, bob: Any
) -> None:
    evil = past.campaign(clinic, NOON, author=alice, approver=bob, name="<script>x</script>")
    past.message(evil, factories.make_contact(clinic))
    report = compliance.report(clinic, *OCTOBER)

    page = render_to_string("pdf/compliance.html", {"report": report, "language": "en"})
    paper = compliance.as_pdf(report)

    assert report.summary in page
    assert "&lt;script&gt;x&lt;/script&gt;" in page
    assert "<script>x" not in page
    assert "No findings: nothing was found that should not be." in page
    assert "page" in page.lower()
    assert paper.startswith(b"%PDF-1.7")
    assert len(paper) > 20_000
    assert b"/Lang (en)" in inside(paper)
