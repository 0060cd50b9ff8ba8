"""Exports: they verify with the stand-alone file alone, and not after any change."""

import datetime as dt
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.core.management import CommandError, call_command

from audit import verifier
from audit.export import NotExported, write
from audit.models import Entry
from audit.signing import public_key
from tests.audit.conftest import ORGANIZATION, OTHER, Log, execute

pytestmark = pytest.mark.django_db

VERIFIER = Path(verifier.__file__)
FROM, TO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.datetime(2100, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def made(log: Log, tmp_path: Path) -> Callable[..., Path]:
    """Make an export."""

    def make(
        organization_id: object = ORGANIZATION, since: dt.datetime = FROM, until: dt.datetime = TO
    ) -> Path:
        path = tmp_path / "export.zip"
        write(path, organization_id=organization_id, since=since, until=until, by="system:test")
        return path

    return make


def verified(path: Path, capsys: pytest.CaptureFixture, *options: str) -> tuple[int, str]:
    code = verifier.main([str(path), *options])
    return code, capsys.readouterr().out


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(path: Path, files: dict[str, bytes], key: Ed25519PrivateKey | None = None) -> None:
    """Write the archive anew; with a key, make the manifest fit and sign it, as a forger would."""
    if key is not None:
        manifest = json.loads(files["manifest.json"])
        for name in manifest["files"]:
            manifest["files"][name] = sha256(files[name]).hexdigest()
            manifest[name.removesuffix(".jsonl")] = files[name].count(b"\n")
        content = json.dumps(manifest).encode()
        public = key.public_key().public_bytes_raw().hex()
        seal = {"public_key": public, "signature": key.sign(content).hex()}
        files |= {"manifest.json": content, "manifest.sig": json.dumps(seal).encode()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def entries(path: Path) -> list[dict]:
    return [json.loads(line)["entry"] for line in members(path)["entries.jsonl"].splitlines()]


def test_an_export_verifies_with_the_file_alone(made, tmp_path):
    path = made()
    alone = tmp_path / "elsewhere" / "verifier.py"
    alone.parent.mkdir()
    alone.write_bytes(VERIFIER.read_bytes())

    done = subprocess.run(
        [sys.executable, "-I", str(alone), str(path), "--key", public_key().hex()],
        capture_output=True,
        text=True,
        cwd=alone.parent,
        env={},
        timeout=60,
        check=False,
    )

    assert done.stderr == ""
    assert done.returncode == 0
    assert "9 entries in 3 blocks, 3 rows vouched for" in done.stdout
    assert done.stdout.endswith("All of it is as it was sealed.\n")


def test_the_verifier_says_what_it_needs(made, tmp_path):
    path = made()

    done = subprocess.run(
        [sys.executable, "-I", "-S", str(VERIFIER), str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert "pip install cryptography" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_organizations_export_shows_nothing_of_others(made):
    path = made(OTHER)

    everything = b"".join(members(path).values()).decode()
    assert len(entries(path)) == 7
    assert {entry["organization"] for entry in entries(path)} == {str(OTHER)}
    assert str(ORGANIZATION) not in everything


def test_the_lines_are_the_entries_as_they_were_sealed(made, log):
    path = made()

    lines = re.findall(rb'"entry":(\{.*\})\}\n', members(path)["entries.jsonl"])
    stored = Entry.objects.filter(organization_id=ORGANIZATION, pk__in=log.entries).order_by("pk")
    assert lines == [entry.canonical() for entry in stored]


def test_an_export_of_everything_is_complete(made, capsys):
    path = made(None)

    code, said = verified(path, capsys)

    assert code == 0
    assert "16 entries in 3 blocks, 4 rows vouched for" in said
    assert "all organizations" in said


def test_a_period_without_entries_gives_an_empty_export_that_verifies(made, capsys):
    path = made(None, until=FROM + dt.timedelta(days=1))

    code, said = verified(path, capsys)

    assert code == 0
    assert said.startswith("0 entries in 0 blocks")


def test_a_period_takes_its_entries_only(made, log, capsys):
    cut = Entry.objects.get(pk=log.entries[3]).at

    path = made(since=FROM, until=cut)

    assert [entry["id"] for entry in entries(path)] == log.entries[:3]
    assert verified(path, capsys)[0] == 0


def test_an_export_of_everything_takes_whole_blocks(made, log, capsys):
    path = made(None, since=Entry.objects.get(pk=log.entries[3]).at, until=TO)

    assert [entry["id"] for entry in entries(path)] == log.entries
    assert verified(path, capsys)[0] == 0


def test_without_a_key_the_reader_is_told_to_compare_it(made, capsys):
    code, said = verified(made(), capsys)

    assert code == 0
    assert public_key().hex() in said
    assert "Compare this key" in said


def test_another_key_than_the_known_one_fails(made, capsys):
    code, said = verified(made(), capsys, "--key", "00" * 32)

    assert code == 1
    assert "another key" in said


@pytest.mark.parametrize(
    "name", ["manifest.json", "manifest.sig", "blocks.jsonl", "entries.jsonl", "facts.jsonl"]
)
def test_a_flipped_byte_anywhere_fails(made, capsys, name):
    path = made()
    files = members(path)

    for place in range(3, len(files[name]), max(1, len(files[name]) // 25)):
        flipped = bytearray(files[name])
        flipped[place] ^= 1
        rewrite(path, {**files, name: bytes(flipped)})
        code, said = verified(path, capsys)
        assert code == 1, f"byte {place}"
        assert "WRONG" in said


def signed_by_another(files: dict[str, bytes]) -> dict[str, bytes]:
    """Blocks that hold the same entries, signed with a key that is not on the manifest's list."""
    key = Ed25519PrivateKey.generate()
    lines = []
    for line in files["blocks.jsonl"].splitlines():
        block = json.loads(line)["block"]
        block["public_key"] = key.public_key().public_bytes_raw().hex()
        header = json.dumps(block, sort_keys=True, separators=(",", ":")).encode()
        lines.append(json.dumps({"block": block, "signature": key.sign(header).hex()}) + "\n")
    return {"blocks.jsonl": "".join(lines).encode()}


def without_the_second_block(files: dict[str, bytes]) -> dict[str, bytes]:
    """Everything but one block in the middle and all that it holds."""
    left = {}
    for name, mark in (("blocks.jsonl", b'"number":2'), ("entries.jsonl", b'"block":2')):
        kept = [line for line in files[name].splitlines(keepends=True) if mark not in line]
        left[name] = b"".join(kept)
    return {**left, "facts.jsonl": b""}


FORGERIES: dict[str, Callable[[dict[str, bytes]], dict[str, bytes]]] = {
    "altered": lambda f: {
        "entries.jsonl": f["entries.jsonl"].replace(b'"count":2', b'"count":3', 1)
    },
    "invented": lambda f: {
        "entries.jsonl": f["entries.jsonl"]
        + f["entries.jsonl"].splitlines(keepends=True)[-1].replace(b'"count":2', b'"count":9')
    },
    "twice": lambda f: {
        "entries.jsonl": f["entries.jsonl"] + f["entries.jsonl"].splitlines(keepends=True)[-1]
    },
    "reordered": lambda f: {
        "entries.jsonl": b"".join(reversed(f["entries.jsonl"].splitlines(keepends=True)))
    },
    "moved": lambda f: {
        "entries.jsonl": f["entries.jsonl"].replace(b'"position":1', b'"position":0', 1)
    },
    "fact altered": lambda f: {
        "facts.jsonl": re.sub(rb'"sha256": "..', b'"sha256": "00', f["facts.jsonl"])
    },
    "fact left out": lambda f: {
        "facts.jsonl": b"".join(f["facts.jsonl"].splitlines(keepends=True)[1:])
    },
    "facts left out": lambda f: {"facts.jsonl": b""},
    "block altered": lambda f: {
        "blocks.jsonl": f["blocks.jsonl"].replace(b'"total":', b'"total":1', 1)
    },
    "block left out": lambda f: {
        "blocks.jsonl": b"".join(f["blocks.jsonl"].splitlines(keepends=True)[1:])
    },
    "proof lengthened": lambda f: {
        "entries.jsonl": f["entries.jsonl"].replace(
            b'"],"entry"', b'", "%s"],"entry"' % (b"00" * 32), 1
        )
    },
    "proof shortened": lambda f: {
        "entries.jsonl": re.sub(
            rb', "[0-9a-f]{64}"\],"entry"', b'],"entry"', f["entries.jsonl"], count=1
        )
    },
    "signed by another": signed_by_another,
    "rubbish": lambda f: {"entries.jsonl": b"rubbish\n"},
}


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_export_fails_even_when_its_manifest_is_signed_anew(made, capsys, forgery, whole):
    path = made(None if whole else ORGANIZATION)
    files = members(path)
    changed = FORGERIES[forgery](files)
    assert all(content != files[name] for name, content in changed.items())

    rewrite(path, {**files, **changed}, Ed25519PrivateKey.generate())

    code, said = verified(path, capsys)
    assert code == 1
    assert "WRONG" in said


def test_an_entry_left_out_of_an_export_of_everything_shows(made, capsys):
    path = made(None)
    files = members(path)
    files["entries.jsonl"] = b"".join(files["entries.jsonl"].splitlines(keepends=True)[:-1])

    rewrite(path, files, Ed25519PrivateKey.generate())

    code, said = verified(path, capsys)
    assert code == 1
    assert "lacks 1 of its entries" in said


def test_a_block_left_out_of_an_export_of_everything_shows(made, capsys):
    path = made(None)
    files = members(path)

    rewrite(path, {**files, **without_the_second_block(files)}, Ed25519PrivateKey.generate())

    code, said = verified(path, capsys)
    assert code == 1
    assert "Block 3 does not continue block 1" in said


def test_a_period_or_organization_written_over_fails(made, capsys):
    path = made()
    files = members(path)

    for old, new in ((str(ORGANIZATION), str(OTHER)), ("2100-", "2021-")):
        content = files["manifest.json"].replace(old.encode(), new.encode())
        rewrite(path, {**files, "manifest.json": content}, Ed25519PrivateKey.generate())
        assert verified(path, capsys)[0] == 1


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04" + bytes(100)])
def test_what_is_no_export_gets_a_clear_word(tmp_path, capsys, content):
    path = tmp_path / "export.zip"
    path.write_bytes(content)

    code, said = verified(path, capsys)

    assert (code, said) == (1, "WRONG: The file is damaged, or not an export.\n")


def test_a_file_that_is_not_there_gets_a_clear_word(tmp_path, capsys):
    code, said = verified(tmp_path / "none.zip", capsys)

    assert code == 2
    assert "cannot be opened" in said


def test_an_archive_with_another_file_in_it_fails(made, capsys):
    path = made()

    rewrite(path, {**members(path), "note.txt": b"x"})

    assert verified(path, capsys)[0] == 1


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE audit_entry SET count = 99 WHERE id = %s",
        "DELETE FROM audit_entry WHERE id = %s",
        "UPDATE audit_membership SET leaf = sha256('x') WHERE entry_id = %s",
    ],
)
def test_a_log_that_was_tampered_with_is_not_exported(made, log, tmp_path, sql):
    execute(sql, [log.entries[0]])
    before = Entry.objects.filter(action="log.exported").count()

    with pytest.raises(NotExported):
        made()

    assert list(tmp_path.iterdir()) == []
    assert Entry.objects.filter(action="log.exported").count() == before


def test_exporting_is_recorded(made):
    made()

    entry = Entry.objects.get(action="log.exported")
    assert (entry.organization_id, entry.actor, entry.count) == (ORGANIZATION, "system:test", 9)


def test_the_command_writes_into_a_directory(log, tmp_path, capsys):
    call_command(
        "export_audit",
        "--from=2020-01-01",
        "--to=2099-12-31",
        f"--organization={ORGANIZATION}",
        "-o",
        str(tmp_path),
    )

    (path,) = tmp_path.glob("*.zip")
    assert path.name == f"audit-{ORGANIZATION}-2020-01-01-2099-12-31.zip"
    said = capsys.readouterr().out
    assert verified(path, capsys, "--key", said.split()[-1])[0] == 0


def test_the_command_refuses_a_period_that_ends_before_it_begins(log, tmp_path):
    with pytest.raises(CommandError):
        call_command("export_audit", "--from=2026-02-01", "--to=2026-01-01", "-o", str(tmp_path))

    assert list(tmp_path.iterdir()) == []
