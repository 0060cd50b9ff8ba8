"""Facts: the rows of other apps that entries vouch for, hashed as the database stores them.

An entry for a consent fact, an approval or a send set holds the SHA-256 of those rows, so that a row
altered afterwards no longer matches the sealed log (45 CFR 164.312(c)(2)). The text that is hashed is made
by the database from the stored columns: nothing is decrypted, and recording an import of many thousand
facts is one statement.

Columns are named in the text, and null ones are left out. So a later migration may add nullable columns to
such a table and old hashes stay true; renaming or dropping a column would break them.
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from django.core.exceptions import EmptyResultSet
from django.db import connection, models
from django.db.models.query import QuerySet


@dataclass(frozen=True, slots=True)
class Facts:
    """How the rows of one model are vouched for.

    `columns`: the columns that count (attribute names); all of them unless the table changes later on.
    `when`: a column that is null while the row is a draft (see `append_only.frozen_when`).
    `every_row`: whether a row that no entry vouches for is a finding.
    """

    model: type[models.Model]
    columns: tuple[str, ...] = ()
    when: str | None = None
    every_row: bool = True


#: Label ("consent.Authorization") → how its rows are vouched for. Apps above fill it in `AppConfig.ready()`.
FACTS: dict[str, Facts] = {}

#: Types whose text hangs on no setting of the session and holds neither ";" nor "=".
PLAIN = frozenset(
    {
        "uuid",
        "boolean",
        "smallint",
        "integer",
        "bigint",
        "numeric",
        "double precision",
        "time",
        "inet",
    }
)

#: What `record(facts=…)` takes.
Rows = Iterable[models.Model | QuerySet] | QuerySet


def of(label: str) -> Facts:
    """Return how a model is vouched for; raises LookupError if nobody declared it."""
    try:
        return FACTS[label]
    except KeyError:
        raise LookupError(f"{label} is not in audit.facts.FACTS.") from None


def text_sql(facts: Facts, alias: str = "t") -> str:
    """Return the SQL expression of the text that is hashed for a row.

    It is `label;column=value;…` with the columns in alphabetical order. Values that may hold any character
    are preceded by their length in bytes, so no two different rows have the same text.
    """
    meta = facts.model._meta
    wanted = set(facts.columns)
    fields = sorted(meta.concrete_fields, key=lambda field: field.column)
    if unknown := wanted - {field.attname for field in fields}:
        raise LookupError(f"{meta.label} has no column {sorted(unknown)}.")
    parts = [
        f"';{field.column}=' || {_value_sql(field, alias)}"
        for field in fields
        if not wanted or field.attname in wanted or field.primary_key
    ]
    # concat() leaves nulls out, and 'name=' || null is null.
    return f"concat('{meta.label}', {', '.join(parts)})"


def _value_sql(field: models.Field, alias: str) -> str:
    column = f'{alias}."{field.column}"'
    declared = field.db_type(connection) or ""
    kind = "array" if declared.endswith("[]") else declared.split("(")[0]
    if kind == "bytea":
        return f"octet_length({column}) || ':' || encode({column}, 'hex')"
    if kind in {"text", "varchar", "char"}:
        return f"octet_length({column}) || ':' || {column}"
    if kind in {"jsonb", "array"}:
        value = f"to_jsonb({column})::text"
        return f"octet_length({value}) || ':' || {value}"
    if kind == "timestamp with time zone":
        # Microseconds since 1970, whatever the session's time zone.
        return f"(extract(epoch from {column}) * 1000000)::bigint::text"
    if kind == "date":
        return f"({column} - date '1970-01-01')::text"
    if kind == "interval":
        return f"extract(epoch from {column})::text"
    if kind in PLAIN:
        return f"{column}::text"
    raise LookupError(f"Column {field} of type {kind!r} cannot be vouched for.")


def hash_of(row: models.Model) -> bytes:
    """Return the SHA-256 of one stored row; raises LookupError if it is not there."""
    facts = of(row._meta.label)
    table = row._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT sha256(convert_to({text_sql(facts)}, 'UTF8')) "  # noqa: S608
            f'FROM "{table}" t WHERE "{row._meta.pk.column}" = %s',
            [row.pk],
        )
        found = cursor.fetchone()
    if found is None:
        raise LookupError(f"{row._meta.label} {row.pk} is not in the database.")
    return bytes(found[0])


def keep(entry_id: int, rows: Rows) -> dict[str, dict[str, int | str]]:
    """Write the hash of each row under an entry's id; return what the entry holds of them.

    That is `{label: {"count": n, "sha256": hex}}`, where the hash is over the rows' ids (16 bytes) and hashes
    (32 bytes), in the order of the ids. Raises LookupError for a model not in FACTS, a row that is not in
    the database, or a draft.
    """
    ids: dict[str, list[uuid.UUID]] = {}
    sets: list[QuerySet] = []
    for item in [rows] if isinstance(rows, QuerySet) else rows:
        if isinstance(item, QuerySet):
            sets.append(item)
        else:
            ids.setdefault(item._meta.label, []).append(item.pk)
    held: dict[str, dict[str, int | str]] = {}
    for label, wanted in ids.items():
        wanted = list(set(wanted))
        held[label] = _keep_set(entry_id, label, "SELECT unnest(%s::uuid[])", [wanted])
        if lost := len(wanted) - held[label]["count"]:
            raise LookupError(
                f"{lost} of {len(wanted)} rows of {label} are drafts, or not in the database."
            )
    for chosen in sets:
        label = chosen.model._meta.label
        if label in held:
            raise ValueError(f"Facts of {label} were given twice.")
        try:
            inner, params = chosen.order_by().values("pk").query.sql_with_params()
        except EmptyResultSet:  # none()
            continue
        kept = _keep_set(entry_id, label, inner, params)
        if kept["count"]:
            held[label] = kept
    return held


def _keep_set(
    entry_id: int, label: str, ids_sql: str, params: Iterable[object]
) -> dict[str, int | str]:
    """Write the hashes of the rows whose ids a subquery gives, drafts left out, in one statement."""
    facts = of(label)
    meta = facts.model._meta
    pk = f't."{meta.pk.column}"'
    published = f'AND t."{meta.get_field(facts.when).column}" IS NOT NULL' if facts.when else ""
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH hashed AS MATERIALIZED (SELECT {pk} AS id, "  # noqa: S608
            f"sha256(convert_to({text_sql(facts)}, 'UTF8')) AS hash "
            f'FROM "{meta.db_table}" t WHERE {pk} IN ({ids_sql}) {published}), '
            "kept AS (INSERT INTO audit_fact (entry_id, label, row_id, sha256) "
            "SELECT %s, %s, id, hash FROM hashed) "
            "SELECT count(*), encode(sha256(coalesce(string_agg(uuid_send(id) || hash, ''::bytea "
            "ORDER BY id), ''::bytea)), 'hex') FROM hashed",
            [*params, entry_id, label],
        )
        count, digest = cursor.fetchone()
    return {"count": count, "sha256": digest}
