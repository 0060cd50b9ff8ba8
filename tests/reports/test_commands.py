"""The reports' commands."""

import datetime as dt
import io
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from audit.models import Entry
from reports.words import duration, listed
from tests import factories
from tests.reports import past
from tests.reports.conftest import NOON


def run(*args: object) -> str:
    out = io.StringIO()
    call_command(*map(str, args), stdout=out)
    return out.getvalue()


@pytest.fixture
def sent(clinic: Any, alice: Any, bob: Any) -> Any:
    """A campaign to twelve people."""
    made = past.campaign(clinic, NOON, author=alice, approver=bob, name="Autumn")
    for _ in range(12):
        past.message(made, factories.make_contact(clinic))
    return made


def october(*args: object) -> str:
    return run(
        *("compliance_report", "--organization", "lakeside"),
        *("--from", "2026-10-01", "--to", "2026-10-31", *args),
    )


@pytest.mark.parametrize(
    ("kind", "begins"), [("pdf", b"%PDF-1.7"), ("csv", b'"section"'), ("json", b"{")]
)
def test_a_compliance_report_is_written_for_its_owner_alone(
    sent: Any, tmp_path: Path, kind: str, begins: bytes
) -> None:
    file = tmp_path / "report"
    file.write_text("older")
    file.chmod(0o644)

    said = october("--format", kind, "-o", file)

    assert file.read_bytes().startswith(begins)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert str(file) in said
    assert Entry.objects.get(action="report.made").actor == "system:command"


def test_findings_are_printed(clinic: Any, sent: Any, tmp_path: Path) -> None:
    past.opt_out(sent.messages.first().contact, NOON - dt.timedelta(days=1), scope="all")

    said = october("--format", "json", "-o", tmp_path / "report")

    assert "Finding: 1 message handed over although a stop was in force" in said


def test_a_day_that_is_none_is_refused(clinic: Any, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="a day is written YYYY-MM-DD and must exist"):
        run(
            *("compliance_report", "--organization", "lakeside"),
            *("--from", "2026-02-30", "--to", "2026-10-31", "-o", tmp_path / "report"),
        )


def test_an_unknown_organization_and_a_bad_period_are_refused(clinic: Any, tmp_path: Path) -> None:
    file = tmp_path / "report"
    with pytest.raises(CommandError, match="no such organization"):
        run(
            *("compliance_report", "--organization", "nowhere"),
            *("--from", "2026-10-01", "--to", "2026-10-31", "-o", file),
        )
    with pytest.raises(CommandError, match="longer than ten years"):
        run(
            *("compliance_report", "--organization", "lakeside"),
            *("--from", "2000-10-01", "--to", "2026-10-31", "-o", file),
        )

    assert not file.exists()
    assert not Entry.objects.filter(action="report.made").exists()


def test_campaign_results_are_shown_or_written(sent: Any, tmp_path: Path) -> None:
    shown = run("campaign_results", sent.pk)
    told = json.loads(run("campaign_results", sent.pk, "--format", "json"))
    run("campaign_results", sent.pk, "--format", "pdf", "-o", tmp_path / "results.pdf")

    assert "Campaign results: Autumn" in shown
    assert "The segment matched 12 people; 12 were sent the message" in shown
    assert told["campaign"] == "Autumn"
    assert (tmp_path / "results.pdf").read_bytes().startswith(b"%PDF")


def test_results_that_do_not_add_up_end_the_command_with_the_reason(sent: Any) -> None:
    past.message(sent, factories.make_contact(sent.organization), "queued")

    with pytest.raises(CommandError, match="1 messages are on their way"):
        run("campaign_results", sent.pk)


def test_a_campaign_that_is_none_or_a_pdf_without_a_file_is_refused(sent: Any) -> None:
    with pytest.raises(CommandError, match="no such campaign"):
        run("campaign_results", sent.organization_id)
    with pytest.raises(CommandError, match="-o FILE"):
        run("campaign_results", sent.pk, "--format", "pdf")


def test_times_and_lists_read_like_words() -> None:
    assert [duration(ms) for ms in (0, 1, 1999, 2000, 240_000, 90_000_000, 200_000_000)] == [
        "at once",
        "1 ms",
        "1,999 ms",
        "2 s",
        "4 min",
        "25 h",
        "2 days",
    ]
    assert [listed([]), listed(["a"]), listed(["a", "b", "c"])] == ["", "a", "a, b and c"]
