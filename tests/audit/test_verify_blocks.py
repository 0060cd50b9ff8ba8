"""Verification of blocks and heads: cut off, put back, signed anew, altered."""

import datetime as dt
import json
import shutil
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import signing
from audit.models import Block
from audit.seal import seal
from audit.verify import verify
from tests.audit.conftest import (
    Log,
    execute,
    found,
    restore,
    write_entries,
)

pytestmark = pytest.mark.django_db


def forge_signatures(key: Ed25519PrivateKey, first: int) -> None:
    """Chain and sign anew all blocks from a number on, as an intruder with a key would."""
    public = key.public_key().public_bytes_raw()
    previous = None
    for block in Block.objects.filter(number__gte=first).order_by("number"):
        if previous is not None:
            block.previous = previous
        block.public_key = public
        block.signature = key.sign(block.header())
        previous = signing.link(block.header(), block.signature)
        execute(
            "UPDATE audit_block SET previous = %s, public_key = %s, signature = %s WHERE number = %s",
            [block.previous, block.public_key, block.signature, block.number],
        )


# --- cut off the end


def cut(
    blocks: int, *, with_blocks: bool = True, with_members: bool = True, with_entries: bool = True
) -> None:
    """Remove the last blocks and what they hold."""
    first = Block.objects.count() - blocks
    if with_entries:
        execute(
            "DELETE FROM audit_fact f USING audit_membership m "
            "WHERE m.entry_id = f.entry_id AND m.block_id >= %s",
            [first],
        )
        execute(
            "DELETE FROM audit_entry e USING audit_membership m WHERE m.entry_id = e.id AND m.block_id >= %s",
            [first],
        )
    if with_members:
        execute("DELETE FROM audit_membership WHERE block_id >= %s", [first])
    if with_blocks:
        execute("DELETE FROM audit_block WHERE number >= %s", [first])


def test_a_log_cut_off_at_the_end_is_found(log):
    cut(1)

    outcome = verify()

    assert outcome.counts == {"log.truncated": 1}
    assert outcome.findings[0].where == "blocks 3 to 3, 3 entries"


def test_a_log_removed_altogether_is_found(log):
    execute("TRUNCATE audit_entry, audit_fact, audit_block, audit_membership, audit_tests_note")

    outcome = verify()

    assert outcome.counts == {"log.truncated": 1}
    assert outcome.findings[0].where == "blocks 0 to 3, 16 entries"


def test_a_log_cut_off_and_grown_again_is_found(log):
    cut(1)
    restore(write_entries(3))
    seal()

    codes = found()

    assert codes == {"block.replaced": 1}


def test_a_backup_put_back_is_found_however_much_is_written_after(log):
    cut(2, with_entries=True)
    execute("DELETE FROM audit_tests_note")
    for _ in range(4):
        restore(write_entries(1))
        seal()

    codes = found()

    assert codes["block.replaced"] == 2


def test_blocks_removed_without_their_members_are_found(log):
    cut(1, with_entries=False, with_members=False)

    assert found() == {"block.missing": 1, "log.truncated": 1}


def test_entries_cut_off_without_their_blocks_are_found(log):
    cut(1, with_blocks=False, with_members=False)

    assert found() == {"entry.deleted": 3}


def test_truncation_shows_by_the_latest_head_alone(log):
    cut(1)
    for path in log.heads.glob("heads-*"):
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:-1]))

    assert found() == {"log.truncated": 1}


def test_a_block_taken_from_the_middle_is_found(log):
    cut_number = 2
    execute("DELETE FROM audit_block WHERE number = %s", [cut_number])

    assert found() == {"block.missing": 2}


# --- blocks and signatures


@pytest.mark.parametrize(
    "change",
    [
        "root = sha256('x')",
        "count = count + 1",
        "total = total + 1",
        "first_id = first_id + 1",
        "last_id = last_id + 1",
        "watermark = '4'",
        "sealed_at = sealed_at + interval '1 second'",
        "previous = sha256('x')",
        "signature = sha512('x')",
    ],
)
@pytest.mark.parametrize("number", [1, 3])
def test_an_altered_block_is_found(log, change, number):
    execute(f"UPDATE audit_block SET {change} WHERE number = %s", [number])

    codes = found()

    assert codes["block.unsigned"] == 1
    # Also where the head stands that was written when the block was sealed.
    assert codes["block.replaced"] == 1


def test_an_altered_block_is_found_without_heads_too(log):
    shutil.rmtree(log.heads)
    execute("UPDATE audit_block SET sealed_at = sealed_at + interval '1 second' WHERE number = 1")

    codes = found()

    assert codes["block.unsigned"] == 1
    assert codes["block.unlinked"] == 1


@pytest.mark.parametrize("first", [0, 1, 3])
def test_blocks_signed_again_with_another_key_are_found(log, first):
    forge_signatures(Ed25519PrivateKey.generate(), first)

    codes = found()

    assert codes == {"block.untrusted": 4 - first, "block.replaced": 4 - first}


def test_blocks_signed_with_another_key_under_our_keys_name_are_found(log):
    key = Ed25519PrivateKey.generate()
    forge_signatures(key, 3)
    execute("UPDATE audit_block SET public_key = %s WHERE number = 3", [signing.public_key()])

    assert found() == {"block.unsigned": 1, "block.replaced": 1}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("root = sha256('x')", "block.altered"),
        ("count = count + 1, total = total + 1", "block.altered"),
        ("first_id = first_id + 1", "block.altered"),
        ("last_id = last_id - 1", "block.altered"),
        ("total = total + 1", "block.unlinked"),
        ("previous = sha256('x')", "block.unlinked"),
    ],
)
def test_a_block_that_contradicts_the_log_is_found_though_our_own_key_signed_it(
    log, settings, change, code
):
    execute(f"UPDATE audit_block SET {change} WHERE number = 3")
    forge_signatures(Ed25519PrivateKey.from_private_bytes(settings.AUDIT_SIGNING_KEY), 3)

    assert found() == {code: 1, "block.replaced": 1}


def test_a_bad_signature_before_a_change_of_keys_is_found(log, settings):
    """The new key's signature does not vouch for the former key's."""
    execute("UPDATE audit_block SET signature = sha512('x') WHERE number = 3")
    settings.AUDIT_TRUSTED_KEYS = [signing.public_key()]
    settings.AUDIT_SIGNING_KEY = bytes(range(1, 33))
    restore(write_entries(1))
    seal()

    assert found() == {"block.unsigned": 1, "block.replaced": 1}


def test_a_key_that_was_replaced_stays_trusted_where_it_is_listed(log, settings):
    former = signing.public_key()
    settings.AUDIT_SIGNING_KEY = bytes(range(1, 33))
    restore(write_entries(2))
    seal()
    assert bytes(Block.objects.last().public_key) != former

    assert found() == {"block.untrusted": 4}
    settings.AUDIT_TRUSTED_KEYS = [former]
    assert found() == {}


def test_a_machine_without_the_signing_key_can_verify(log, settings):
    public = signing.public_key()
    settings.AUDIT_SIGNING_KEY = b""
    settings.AUDIT_TRUSTED_KEYS = [public]

    assert found() == {}


# --- heads


def edit_head(log: Log, number: int, change: Callable[[dict], None]) -> None:
    for path in log.heads.glob("heads-*"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            if line["block"]["number"] == number:
                change(line)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_an_altered_head_is_found(log):
    edit_head(log, 2, lambda head: head["block"].update(total=99))

    assert found() == {"head.altered": 1}


def test_a_head_invented_for_a_block_that_never_was_is_found(log):
    edit_head(log, 3, lambda head: head["block"].update(number=9))

    assert "head.altered" in found()


def test_heads_that_changed_places_are_found(log):
    (path,) = log.heads.glob("heads-*")
    first, second, *others = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([second, first, *others]))

    assert found() == {"head.altered": 1}


def test_heads_that_are_gone_are_found(log):
    shutil.rmtree(log.heads)
    execute("UPDATE audit_block SET sealed_at = sealed_at")

    assert found() == {}, "a block sealed this minute may lack its head"
    seal(now=dt.datetime.now(dt.UTC) - dt.timedelta(minutes=5))
    restore(write_entries(1))
    seal(now=dt.datetime.now(dt.UTC) - dt.timedelta(minutes=5))
    shutil.rmtree(log.heads)
    assert found() == {"head.missing": 1}


def test_heads_put_back_to_an_older_state_are_found_when_the_log_has_gone_on(log, tmp_path):
    shutil.copytree(log.heads, tmp_path / "older")
    restore(write_entries(1))
    seal(now=dt.datetime.now(dt.UTC) - dt.timedelta(minutes=5))
    shutil.rmtree(log.heads)
    shutil.copytree(tmp_path / "older", log.heads)

    assert found() == {"head.behind": 1}


def test_a_head_older_than_the_database_is_fine_for_a_moment(log, tmp_path):
    shutil.copytree(log.heads, tmp_path / "older")
    restore(write_entries(1))
    seal()
    shutil.rmtree(log.heads)
    shutil.copytree(tmp_path / "older", log.heads)

    assert found() == {}


def test_a_head_that_cannot_be_read_is_found(log):
    (log.heads / "latest.json").write_text("{}")
    (path,) = log.heads.glob("heads-*")
    path.write_bytes(b"rubbish\n" + path.read_bytes())

    assert found() == {"head.unreadable": 2}
