"""What load balancers are told."""

from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client

from hipaamail import health


@pytest.fixture(autouse=True)
def static_root(settings: Any, tmp_path: Path) -> None:
    settings.STATIC_ROOT = tmp_path


def test_it_is_fit_when_the_database_answers(db: None) -> None:
    response = Client().get("/healthz")

    assert (response.status_code, response.content) == (200, b"ok\n")
    assert "no-store" in response["Cache-Control"]
    assert not response.cookies


class Gone:
    """A connection to a server that is not there."""

    def cursor(self) -> None:
        raise OperationalError("connection to server at 10.1.2.3 failed")


def test_it_is_unfit_when_the_database_does_not(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "connection", Gone())

    response = Client().get("/healthz")

    assert (response.status_code, response.content) == (503, b"no database\n")


def test_it_only_tells(db: None) -> None:
    assert Client().post("/healthz").status_code == 405
