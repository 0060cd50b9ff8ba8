"""The main job as a newcomer runs it: a file of contacts in, numbers that add up out, nobody's data in clear."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

#: Rare strings: none of them may stand anywhere under the state directory.
CANARIES = (
    "Zyxwelia", "Quorthwaite", "zyx.quorth", "kanarienvogel.example", "1911-11-09", "Fabry disease",
    "REC-77410-X",
)  # fmt: skip

CONTACTS = """\
record_number,email,first_name,last_name,date_of_birth,sex,state,zip,language,conditions,last_visit,authorized_on,authorization_expires,opted_out,shoe_size
REC-77410-X,zyx.quorth@kanarienvogel.example,Zyxwelia,Quorthwaite,1911-11-09,F,IL,60601,en,Fabry disease,2026-01-02,2026-01-02,,,44
R2,ben@mail.example,Ben,Birch,1980-05-05,M,TX,73301,es,,2026-02-02,2026-02-02,2099-01-01,,41
R3,cy@mail.example,Cy,Cedar,1990-05-05,M,TX,73301,en,,2026-02-02,2024-02-02,2025-01-01,,40
R4,dee@mail.example,Dee,Dogwood,1990-05-05,F,NY,10001,en,,2026-02-02,,,,39
R5,eve@mail.example,Eve,Elm,1990-05-05,F,NY,10001,en,,2026-02-02,2026-02-02,,yes,38
R6,fay@notls.example,Fay,Fir,1990-05-05,F,NY,10001,en,,2026-02-02,2026-02-02,,,37
R7,gus@gone.example,Gus,Gum,1990-05-05,M,NY,10001,en,,2026-02-02,2026-02-02,,,42
R8,hal@slow.example,Hal,Holly,1990-05-05,M,NY,10001,en,,2026-02-02,2026-02-02,,,43
R9,Zyxwelia Quorthwaite,Ivy,Iris,1990-05-05,F,NY,10001,en,,2026-02-02,2026-02-02,,,36
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new state directory with embedded servers of its own, migrated."""
    home = tmp_path_factory.mktemp("demo")
    home.chmod(0o700)
    manage(home, "migrate", "-v0")
    return home


def manage(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command on the embedded servers of a state directory, whatever the tests themselves run on."""
    ours = ("DATABASE_", "BROKER_URL", "CACHE_URL", "HIPAAMAIL_", "PYTEST_", "DJANGO_")
    environment = {name: v for name, v in os.environ.items() if not name.startswith(ours)}
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=settings.BASE_DIR,
        env=environment | {"HIPAAMAIL_STATE_DIR": str(home)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def done(home: Path, tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """The main job, once."""
    contacts = tmp_path_factory.mktemp("file") / "contacts.csv"
    contacts.write_text(CONTACTS)
    return manage(home, "demo_once", "--contacts", str(contacts))


def test_the_last_line_holds_the_numbers_and_they_add_up(done, home):
    assert done.returncode == 0, done.stdout + done.stderr
    numbers = json.loads(done.stdout.splitlines()[-1])

    assert numbers["rows"] == 9
    assert numbers["rejected"] == 1
    assert numbers["contacts"] == numbers["audience"] == 8
    assert numbers["withheld"] == {
        "authorization_expired": 1,
        "no_authorization": 1,
        "no_tls": 1,
        "opted_out": 1,
    }
    assert (numbers["sent"], numbers["tls"], numbers["failed"]) == (3, 3, 1)
    assert (numbers["deferred"], numbers["in_doubt"], numbers["portal"]) == (0, 0, 0)
    assert set(numbers["sending_ips"]) == {"127.0.0.11", "127.0.0.12"}
    assert sum(numbers["sending_ips"].values()) == 3
    assert numbers["dkim_valid"] is numbers["audit_verified"] is True
    assert Path(numbers["report_pdf"]).read_bytes().startswith(b"%PDF")


def test_it_leaves_the_dns_records(done, home):
    published = json.loads((home / "dns_records.json").read_text())

    kinds = " ".join(published)
    assert "._domainkey." in kinds and "_dmarc." in kinds and "_mta-sts." in kinds
    assert all(isinstance(value, str) for types in published.values() for value in types.values())


def test_nothing_that_it_prints_names_a_patient(done):
    assert [canary for canary in CANARIES if canary in done.stdout + done.stderr] == []


def test_nobody_is_found_in_clear_in_the_state_directory(done, home):
    """Data files and the write-ahead log included; the clinic's name shows that a name would be found."""
    found, control = set(), set()
    for path in home.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            control |= {path.name} if b"Riverside Clinic" in content else set()
            found |= {(path.name, canary) for canary in CANARIES if canary.encode() in content}

    assert found == set()
    assert len(control) > 1
