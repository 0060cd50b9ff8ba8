"""Invented people, the same in every run; the domains are reserved ones (RFC 2606)."""

import csv
import datetime as dt
import io
import random
from collections.abc import Iterator

SEED = 20261124
PATIENTS = 2000
NEW_PATIENTS = 40

#: Domains with a behaviour of their own at the demo's receiving server.
DEFERS, REJECTS, NO_TLS = "slow.example", "gone.example", "notls.example"
DOMAINS = ["mailbox.example", "inbox.example", "post.example", "letters.example", "münchen.example"]

COLUMNS = (
    "record_number", "email", "first_name", "last_name", "date_of_birth", "sex", "state", "zip", "language",
    "conditions", "last_visit", "authorized_on", "authorization_expires", "opted_out",
)  # fmt: skip

FIRST_NAMES = {
    "F": [
        "Abigail",
        "Beatriz",
        "Camille",
        "Dolores",
        "Eleanor",
        "Fatima",
        "Greta",
        "Helena",
        "Imogen",
        "Jolanda",
        "Katarzyna",
        "Lucinda",
        "Marisol",
        "Nadia",
        "Ottilie",
        "Priscilla",
        "Rosalind",
        "Soledad",
        "Theodora",
        "Ursula",
        "Valentina",
        "Wilhelmina",
        "Ximena",
        "Yolanda",
        "Zenobia",
    ],
    "M": [
        "Alistair",
        "Bartholomew",
        "Cornelius",
        "Dmitri",
        "Emiliano",
        "Ferdinand",
        "Gideon",
        "Horatio",
        "Ignacio",
        "Jeremiah",
        "Konstantin",
        "Leopold",
        "Maximilian",
        "Nathaniel",
        "Octavio",
        "Percival",
        "Quentin",
        "Reginald",
        "Salvador",
        "Thaddeus",
        "Ulises",
        "Vincenzo",
        "Wendell",
        "Yusuf",
        "Zachary",
    ],
}
LAST_NAMES = [
    "Abernathy",
    "Bellweather",
    "Castellanos",
    "Dunmore",
    "Etxeberria",
    "Featherstone",
    "Gallagher",
    "Hawthorne",
    "Iñiguez",
    "Jankowski",
    "Kowalczyk",
    "Lindqvist",
    "Montgomery",
    "Nakagawa",
    "Okonkwo",
    "Pemberton",
    "Quintanilla",
    "Ravenscroft",
    "Szczepanski",
    "Thistlewood",
    "Underhill",
    "Villalobos",
    "Whitcombe",
    "Xanthopoulos",
    "Yarborough",
    "Zimmermann",
]
CONDITIONS = ["diabetes", "hypertension", "asthma", "arthritis", "migraine", "kidney disease"]
SUBSTANCE_USE = "opioid use disorder"
STATES = ["IL", "WI", "IN", "MI", "IA"]


def csv_of_last_month() -> bytes:
    """Return the file from which the invented health system is loaded: 2,000 patients."""
    return _csv(_rows(PATIENTS))


def csv_of_today() -> bytes:
    """Return the file that the main job imports: some patients changed, some are new, some rows are broken."""
    chance = random.Random(SEED + 1)
    rows = list(_rows(PATIENTS + NEW_PATIENTS))
    for row in chance.sample(rows[:PATIENTS], 60):
        row["last_visit"] = "2026-11-20"
    broken = [dict(row) for row in chance.sample(rows, 8)]
    for number, row in enumerate(broken):
        row["record_number"] = f"LH-9{number:05d}"
    for row, (column, value) in zip(broken, _BROKEN, strict=True):
        row[column] = value
    return _csv([*rows, *broken])


def csv_of_neighbours() -> bytes:
    """Return a small file for the second organization, with people of the first among them: tenants never mix."""
    return _csv(_rows(60))


_BROKEN = (
    ("email", "not an address"),
    ("email", "two@signs@mailbox.example"),
    ("email", "someone@localhost"),
    ("date_of_birth", "1975-02-30"),
    ("date_of_birth", "soon"),
    ("first_name", "Right\u202eLeft"),
    ("authorized_on", "2026-13-01"),
    ("opted_out", "maybe"),
)


def _rows(count: int) -> Iterator[dict[str, str]]:
    chance = random.Random(SEED)
    for number in range(count):
        yield _person(number, chance)


def _person(number: int, chance: random.Random) -> dict[str, str]:
    sex = chance.choice("FM")
    first, last = chance.choice(FIRST_NAMES[sex]), chance.choice(LAST_NAMES)
    born = dt.date(1936, 1, 1) + dt.timedelta(days=chance.randrange(70 * 365))
    signed = dt.date(2026, 1, 5) + dt.timedelta(days=chance.randrange(300))
    domain = chance.choices([*DOMAINS, DEFERS, REJECTS, NO_TLS], [30, 25, 20, 15, 5, 2, 1, 2], k=1)[
        0
    ]
    conditions = chance.sample(CONDITIONS, chance.choice([0, 1, 1, 2]))
    if chance.random() < 0.02:
        conditions.append(SUBSTANCE_USE)
    fate = chance.random()
    return {
        "record_number": f"LH-{100000 + number}",
        "email": f"{_ascii(first)}.{_ascii(last)}{number}@{domain}",
        "first_name": first,
        "last_name": last,
        "date_of_birth": born.isoformat(),
        "sex": sex,
        "state": chance.choice(STATES),
        "zip": f"{chance.randrange(60001, 60999)}",
        "language": chance.choices(["en", "es"], [4, 1])[0],
        "conditions": ";".join(conditions),
        "last_visit": (dt.date(2025, 6, 1) + dt.timedelta(days=chance.randrange(500))).isoformat(),
        # One in ten never signed, one in twenty's authorization has expired, one in thirty said stop.
        "authorized_on": ""
        if fate < 0.10
        else ("2024-03-01" if fate < 0.15 else signed.isoformat()),
        "authorization_expires": "2025-03-01" if 0.10 <= fate < 0.15 else "",
        "opted_out": "yes" if chance.random() < 0.033 else "",
    }


def _ascii(name: str) -> str:
    return name.lower().replace("ñ", "n")


def _csv(rows: Iterator[dict[str, str]] | list[dict[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
