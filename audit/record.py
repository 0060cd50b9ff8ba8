"""Writing the log: one entry for what somebody did, in the transaction that does it."""

import datetime as dt
import re
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from django.db import connection, models, transaction

from audit.actions import sentence
from audit.canonical import jsonb_text, moment
from audit.facts import Rows, keep
from audit.models import Entry

#: What may stand in `detail`: an id, a number, a word of a fixed vocabulary, a digest; never a person's value.
WORD = re.compile(r"[a-z0-9_.:-]{1,64}")
NAME = re.compile(r"[a-z][a-z0-9_.]{0,63}")
ACTOR = re.compile(r"[a-z_]+:[A-Za-z0-9_.-]{1,64}")
#: A key with one of these words would hold a person's value.
PERSONAL = frozenset(
    {
        "email",
        "name",
        "birth",
        "born",
        "dob",
        "phone",
        "street",
        "city",
        "zip",
        "postal",
        "ssn",
        "mrn",
    }
    | {"diagnosis", "condition", "conditions", "subject", "sex", "race", "language"}
)
#: A date may stand only under a key that says which one it is: no such key means a birth date.
DATED = re.compile(r"(.*_)?(on|at|from|to|since|until)")
LOOKS_LIKE_A_DATE = re.compile(r"\d{4}-\d{2}-\d{2}.*")
#: Longer lists are rows: give them as facts.
LONGEST_LIST = 1000

Detail = Mapping[str, Any]


def record(
    action: str,
    *,
    organization_id: uuid.UUID,
    by: Any,
    target: models.Model | None = None,
    count: int | None = None,
    fields: Iterable[str] = (),
    facts: Rows = (),
    detail: Detail | None = None,
) -> Entry:
    """Write an entry in the caller's transaction and return it (45 CFR 164.312(b)).

    `action` is listed in audit/actions.py. `organization_id` is `phi.keys.PLATFORM` for what belongs to no
    organization. `by` is a user, a contact or a key (anything with a UUID `pk`), or a text such as
    "system:pipeline". Of `target` the label and the id are kept. `fields` are names of fields. `facts` are
    stored rows, or querysets of them, whose SHA-256 the entry holds. `detail` is what `checked_detail()` lets
    through.

    Raises UnknownAction, ValueError or TypeError for what must not be in the log, LookupError for a fact that
    is not stored or not declared. Nothing is written then.
    """
    entry = _entry(action, organization_id, by, target, count, fields, detail)
    if isinstance(facts, models.QuerySet) or (facts := list(facts)):
        with transaction.atomic(savepoint=False):
            with connection.cursor() as cursor:
                # The entry holds what its facts add up to, and they hold its id: so the id comes first.
                cursor.execute("SELECT nextval(pg_get_serial_sequence('audit_entry', 'id'))")
                entry.pk = cursor.fetchone()[0]
            entry.facts = keep(entry.pk, facts)
            entry.save()
    else:
        entry.save()
    return entry


def denied(
    action: str,
    *,
    organization_id: uuid.UUID,
    by: Any,
    target: models.Model | None = None,
    reason: str,
) -> None:
    """Write an entry that stays when the caller's transaction is rolled back, as it will be.

    Inside a transaction it is written over a connection of its own and committed at once; a denial is rare
    enough for that. `reason` is a word, such as "own_work". Arguments and errors are those of `record()`.
    If the entry cannot be written this raises, and the caller is refused all the same.
    """
    entry = _entry(action, organization_id, by, target, None, (), {"reason": reason})
    if _in_transaction():
        _write_apart(entry)
    else:
        entry.save()


def _in_transaction() -> bool:
    return connection.in_atomic_block


def _write_apart(entry: Entry) -> int:
    own = connection.copy()
    try:
        with own.cursor() as cursor:
            cursor.execute(
                "INSERT INTO audit_entry (action, organization_id, actor, target_label, target_id, "
                "fields, detail, facts) VALUES (%s, %s, %s, %s, %s, '[]', %s, '{}') RETURNING id",
                [
                    entry.action,
                    entry.organization_id,
                    entry.actor,
                    entry.target_label,
                    entry.target_id,
                    jsonb_text(entry.detail),
                ],
            )
            return cursor.fetchone()[0]
    finally:
        own.close()


def _entry(
    action: str,
    organization_id: uuid.UUID,
    by: Any,
    target: models.Model | None,
    count: int | None,
    fields: Iterable[str],
    detail: Detail | None,
) -> Entry:
    sentence(action)  # raises UnknownAction
    if not isinstance(organization_id, uuid.UUID):
        raise TypeError("organization_id is a UUID; PLATFORM stands for no organization.")
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 0):
        raise TypeError("count is a number of things.")
    if target is not None and not isinstance(target.pk, uuid.UUID):
        raise TypeError(f"A target has a UUID; put the id of this {target._meta.label} in detail.")
    return Entry(
        action=action,
        organization_id=organization_id,
        actor=actor_of(by),
        target_label="" if target is None else target._meta.label,
        target_id=None if target is None else target.pk,
        count=count,
        fields=[_checked_name(name) for name in fields],
        detail=checked_detail(detail or {}),
    )


def actor_of(by: Any) -> str:
    """Return who acts as the log writes it: "user:<id>", "contact:<id>", "system:pipeline".

    Raises TypeError for somebody without an id (say, nobody signed in) and ValueError for a text of another
    shape.
    """
    if isinstance(by, str):
        if not ACTOR.fullmatch(by):
            raise ValueError("An actor in words looks like system:pipeline.")
        return by
    pk = getattr(by, "pk", None)
    if not isinstance(pk, uuid.UUID):
        raise TypeError("An actor has a UUID, or is a text such as system:pipeline.")
    kind = by._meta.model_name if hasattr(by, "_meta") else "user"
    return f"{kind}:{pk}"


def checked_detail(detail: Detail) -> dict[str, Any]:
    """Return the detail as it is stored, or raise ValueError naming the key (never the value).

    A key is a lower-case name that names no person's value. A value is None, a boolean, an integer, a UUID,
    a text of `WORD`, or a list of these; a date or time only under a key such as `expires_on`, `sent_at`
    or `since`.
    """
    checked: dict[str, Any] = {}
    for key, value in detail.items():
        if not isinstance(key, str) or not NAME.fullmatch(key):
            raise ValueError("A key of the detail is not a plain lower-case name.")
        if PERSONAL & set(re.split(r"[_.]", key)):
            raise ValueError(f"Detail {key!r} would hold a person's value.")
        if isinstance(value, list | tuple):
            if len(value) > LONGEST_LIST:
                raise ValueError(f"Detail {key!r} has more than {LONGEST_LIST} items.")
            checked[key] = [_checked_value(key, item) for item in value]
        else:
            checked[key] = _checked_value(key, value)
    return checked


def _checked_value(key: str, value: Any) -> str | int | bool | None:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, dt.date) and DATED.fullmatch(key):
        return moment(value) if isinstance(value, dt.datetime) else value.isoformat()
    if isinstance(value, str):
        text = str(value)
        if WORD.fullmatch(text) and (DATED.fullmatch(key) or not LOOKS_LIKE_A_DATE.match(text)):
            return text
    raise ValueError(f"Detail {key!r} is neither an id, a number nor a plain word.")


def _checked_name(name: str) -> str:
    if isinstance(name, uuid.UUID) or (isinstance(name, str) and _is_uuid(name)):
        return str(name)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError("fields holds names of fields, or their ids.")
    return str(name)


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
