"""Invented people: the same in every run, at domains that nobody can have."""

import csv
import datetime as dt
import io
import random
import re

import pytest

from contacts import addresses
from demo import people


def rows(content):
    return list(csv.DictReader(io.StringIO(content.decode())))


def test_they_are_the_same_in_every_run_whatever_ran_before():
    first = people.csv_of_last_month(), people.csv_of_today(), people.csv_of_neighbours()
    random.seed(1)
    random.random()

    assert first == (
        people.csv_of_last_month(), people.csv_of_today(), people.csv_of_neighbours()
    )  # fmt: skip


def test_there_are_two_thousand_of_them_and_each_is_somebody_else():
    found = rows(people.csv_of_last_month())

    assert len(found) == len({row["record_number"] for row in found}) == 2000
    assert len({row["email"] for row in found}) == 2000


def test_nobody_can_own_their_domains():
    """RFC 2606, 2: names below .example are reserved."""
    domains = {row["email"].rpartition("@")[2] for row in rows(people.csv_of_last_month())}

    assert all(domain.endswith(".example") for domain in domains)
    assert domains == {*people.DOMAINS, people.DEFERS, people.REJECTS, people.NO_TLS}


def test_their_addresses_are_usable_and_one_domain_is_of_another_script():
    found = {addresses.check(row["email"]).domain_ascii for row in rows(people.csv_of_last_month())}

    assert "xn--mnchen-3ya.example" in found


def test_today_brings_changes_new_people_and_rows_that_are_wrong():
    before = {row["record_number"]: row for row in rows(people.csv_of_last_month())}
    today = rows(people.csv_of_today())
    news = [row for row in today if row["record_number"] not in before]
    changed = [row for row in today if before.get(row["record_number"], row) != row]

    assert len(today) == 2000 + people.NEW_PATIENTS + 8
    assert len(news) == people.NEW_PATIENTS + 8
    assert 0 < len(changed) <= 60


@pytest.mark.parametrize(("column", "value"), people._BROKEN)
def test_each_wrong_row_is_there(column, value):
    assert [row[column] for row in rows(people.csv_of_today())].count(value) == 1


def test_every_fate_is_among_them():
    found = rows(people.csv_of_last_month())
    share = {
        "never signed": sum(not row["authorized_on"] for row in found),
        "expired": sum(bool(row["authorization_expires"]) for row in found),
        "said stop": sum(row["opted_out"] == "yes" for row in found),
        "substance use": sum(people.SUBSTANCE_USE in row["conditions"] for row in found),
    }

    assert all(10 < number < 300 for number in share.values()), share


def test_days_are_days_and_nobody_signs_ahead():
    for row in rows(people.csv_of_last_month()):
        for column in ("date_of_birth", "last_visit", "authorized_on"):
            assert not row[column] or dt.date.fromisoformat(row[column]) <= dt.date(2026, 11, 24)
        assert re.fullmatch(r"60\d{3}", row["zip"])
