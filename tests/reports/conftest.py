"""A period, and an organization whose days are not those of UTC."""

import datetime as dt
import re
import zlib
from typing import Any

import pytest

from reports.period import Period, period

#: Noon of October 5, 2026 in Chicago, where the tests' organization is.
NOON = dt.datetime(2026, 10, 5, 17, 0, tzinfo=dt.UTC)
OCTOBER = (dt.date(2026, 10, 1), dt.date(2026, 10, 31))


@pytest.fixture
def clinic(organization: Any) -> Any:
    """Lakeside, in Chicago."""
    organization.time_zone = "America/Chicago"
    organization.save()
    return organization


@pytest.fixture
def october(clinic: Any) -> Period:
    """October 2026, in Chicago."""
    return period(clinic, *OCTOBER)


def inside(paper: bytes) -> bytes:
    """Return a PDF with its streams unpacked."""
    parts = [paper]
    for packed in re.findall(rb"stream\n(.*?)\nendstream", paper, re.DOTALL):
        try:
            parts.append(zlib.decompress(packed))
        except zlib.error:
            continue
    return b"\n".join(parts)
