"""The log's tables: entries, the facts they vouch for, the blocks that seal them.

No foreign key leads out of here and no value of a person is ever kept: ids, names of fields, counts. Every
table is append-only. 45 CFR 164.312(b).
"""

import datetime as dt
from typing import Any

from django.db import models
from django.db.models.functions import Length
from django.db.models.lookups import Exact

from audit.append_only import AppendOnly
from audit.canonical import block_line, entry_line, jsonb_text, moment

#: An entry's columns as SQL, in the order of `canonical.entry_line()`.
LINE_COLUMNS = (
    "e.id, e.xid::text, "
    "to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), "
    "e.action, e.organization_id::text, e.actor, e.target_label, e.target_id::text, e.count, "
    "e.fields::text, e.detail::text, e.facts::text"
)


class Xid(models.Field):
    """PostgreSQL's 64-bit transaction id, an int in Python; it never wraps around."""

    def db_type(self, connection: Any) -> str:
        return "xid8"

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> int | None:
        return None if value is None else int(value)

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        return str(value) if isinstance(value, int) else value


class CurrentXid(models.Func):
    """The id of the transaction that writes."""

    function = "pg_current_xact_id"
    arity = 0
    output_field = Xid()


class ClockTimestamp(models.Func):
    """The time now, not the transaction's beginning."""

    function = "clock_timestamp"
    arity = 0
    output_field = models.DateTimeField()


class Entry(AppendOnly):
    """Somebody did something to something.

    `xid` and `at` are stamped by a trigger, whatever an INSERT says, so nobody can date an entry back.
    Ids are drawn before commit and so become visible out of order; the sealer goes by `xid` instead.
    """

    id = models.BigAutoField(primary_key=True)
    xid = Xid(db_default=CurrentXid(), editable=False)
    at = models.DateTimeField(db_default=ClockTimestamp(), editable=False)
    action = models.CharField(max_length=64)
    organization_id = models.UUIDField()
    #: "user:<id>", "contact:<id>", "system:<part>".
    actor = models.CharField(max_length=100)
    target_label = models.CharField(max_length=64, blank=True)
    target_id = models.UUIDField(null=True)
    count = models.BigIntegerField(null=True)
    #: Names of the fields that were read or changed.
    fields = models.JSONField(default=list)
    #: Ids, numbers and words, flat.
    detail = models.JSONField(default=dict)
    #: Label → {"count", "sha256"} of the rows of `Fact` that belong to this entry.
    facts = models.JSONField(default=dict)

    class Meta:
        indexes = [
            models.Index(fields=["organization_id", "at"], name="entry_by_organization"),
            models.Index(fields=["target_id"], name="entry_by_target"),
            models.Index(fields=["xid"], name="entry_by_xid"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(action__regex=r"^[a-z_]+\.[a-z_]+$"), name="entry_action_shape"
            ),
            models.CheckConstraint(
                condition=models.Q(actor__regex=r"^[a-z_]+:[A-Za-z0-9_.-]+$"),
                name="entry_actor_shape",
            ),
            models.CheckConstraint(
                condition=models.Q(target_label__regex=r"^([a-z_]+\.[A-Za-z0-9_]+)?$"),
                name="entry_target_shape",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.action} by {self.actor}, entry {self.pk}"

    def canonical(self) -> bytes:
        """Return the line that is hashed for this entry."""
        return entry_line(
            self.pk,
            str(self.xid),
            moment(self.at),
            self.action,
            str(self.organization_id),
            self.actor,
            self.target_label,
            None if self.target_id is None else str(self.target_id),
            self.count,
            jsonb_text(self.fields),
            jsonb_text(self.detail),
            jsonb_text(self.facts),
        )


class Fact(AppendOnly):
    """The hash of one row that an entry vouches for (audit/facts.py)."""

    id = models.BigAutoField(primary_key=True)
    # No constraint in the database: it would lock the entry's row once for each fact.
    entry = models.ForeignKey(
        Entry,
        on_delete=models.DO_NOTHING,
        related_name="vouched",
        db_constraint=False,
        db_index=False,
    )
    label = models.CharField(max_length=64)
    row_id = models.UUIDField()
    sha256 = models.BinaryField()

    class Meta:
        indexes = [models.Index(fields=["row_id"], name="fact_by_row")]
        constraints = [
            models.UniqueConstraint(fields=["entry", "label", "row_id"], name="fact_once"),
            models.CheckConstraint(
                condition=Exact(Length("sha256"), 32), name="fact_sha256_is_whole"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.label} {self.row_id} in entry {self.entry_id}"


class Block(AppendOnly):
    """A seal over a run of entries: their Merkle root (RFC 6962), chained to the last block and signed.

    Block 0 holds no entries: it begins the chain when the log is first sealed.
    """

    number = models.BigIntegerField(primary_key=True)
    #: Hash of the block before, header and signature; 32 zero bytes in block 0.
    previous = models.BinaryField()
    root = models.BinaryField()
    count = models.BigIntegerField()
    #: Entries in all blocks up to this one.
    total = models.BigIntegerField()
    first_id = models.BigIntegerField(null=True)
    last_id = models.BigIntegerField(null=True)
    #: Transactions below this id were finished and are sealed.
    watermark = Xid()
    sealed_at = models.DateTimeField()
    public_key = models.BinaryField()
    signature = models.BinaryField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(
                    Exact(Length("previous"), 32),
                    Exact(Length("root"), 32),
                    Exact(Length("public_key"), 32),
                    Exact(Length("signature"), 64),
                    number__gte=0,
                    count__gte=0,
                ),
                name="block_shape",
            )
        ]

    def __str__(self) -> str:
        return f"block {self.number}"

    def header(self) -> bytes:
        """Return the line that the signature signs."""
        sealed_at: dt.datetime = self.sealed_at
        return block_line(
            number=self.number,
            previous=self.previous,
            root=self.root,
            count=self.count,
            total=self.total,
            first_id=self.first_id,
            last_id=self.last_id,
            watermark=self.watermark,
            sealed_at=sealed_at,
            public_key=self.public_key,
        )


class Membership(AppendOnly):
    """Which block seals an entry, and where in it; apart from the entry, which cannot change any more."""

    entry = models.OneToOneField(
        Entry,
        on_delete=models.DO_NOTHING,
        primary_key=True,
        related_name="sealed",
        db_constraint=False,
    )
    block = models.ForeignKey(
        Block,
        on_delete=models.DO_NOTHING,
        related_name="members",
        db_constraint=False,
        db_index=False,
    )
    position = models.IntegerField()
    #: The leaf's hash when it was sealed: tells which entry of a broken block was altered.
    leaf = models.BinaryField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["block", "position"], name="membership_place"),
            models.CheckConstraint(
                condition=Exact(Length("leaf"), 32), name="membership_leaf_is_whole"
            ),
        ]

    def __str__(self) -> str:
        return f"entry {self.entry_id} in block {self.block_id}"
