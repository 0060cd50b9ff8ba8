"""What tests of contacts need: files on their way in, and what is in the index."""

import datetime as dt
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from django.db import connection

from accounts.models import Organization
from contacts import importer, segments
from contacts.check_file import Checked
from contacts.models import Import
from files import staging

DAY = dt.date(2026, 11, 24)


@pytest.fixture
def searchable(organization: Any) -> Organization:
    """Lakeside, after its privacy officer chose that treatment data may be searched."""
    organization.treatment_terms = True
    organization.save()
    return organization


def stage(organization: Organization, content: str | bytes | Iterable[bytes], *, by: Any) -> Any:
    """Return a staged upload."""
    if isinstance(content, str):
        content = content.encode()
    return staging.put(
        organization,
        kind="upload",
        name="people.csv",
        chunks=[content] if isinstance(content, bytes) else content,
        by=by,
        content_type="text/csv",
        keep=dt.timedelta(hours=1),
    )


@pytest.fixture
def bring_in(alice: Any) -> Callable[..., tuple[Import, Checked]]:
    """Import a file into Lakeside as alice does, and return the import and what its check said."""

    def bring_in(
        organization: Organization, content: str | bytes, *, apply: bool = True, **options: Any
    ) -> tuple[Import, Checked]:
        file = stage(organization, content, by=alice)
        import_ = importer.start(organization, file, by=alice, **options)
        importer.map(import_, by=alice)
        checked = importer.check(import_, by=alice)
        if apply:
            importer.apply(import_, by=alice)
        return import_, checked

    return bring_in


def ids(organization: Organization, criteria: dict[str, Any], *, today: dt.date = DAY) -> set[Any]:
    """Return the ids of the contacts that match, after checking that none comes twice and the count agrees."""
    query = segments.query(organization, criteria, today=today)
    with connection.cursor() as cursor:
        cursor.execute(query.text, query.params)
        found = [row[0] for row in cursor.fetchall()]
    assert len(found) == len(set(found)) == segments.count(organization, criteria, today=today)
    return set(found)
