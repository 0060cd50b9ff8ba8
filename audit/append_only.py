"""Rows that are written once: refused at the model, and again in the database by triggers.

The triggers hold against SQL by hand and against code that forgets; the application's database role lacks
the rights as well (audit/grants.py). Only a superuser gets past both, and verification finds that out.
45 CFR 164.312(c)(1).
"""

import re
from collections.abc import Iterable
from typing import Any, NoReturn

from django.db import migrations, models

from phi.fields import PhiQuerySet

#: The name that both kinds of trigger begin with, on whatever table.
TRIGGER = "history"

FUNCTION_SQL = """
CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on % is refused: its rows are history', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$;
"""
FUNCTION_REVERSE_SQL = "DROP FUNCTION audit_refuse();"


class AppendOnlyError(TypeError):
    """Somebody tried to change or delete a row that is written once."""


class AppendOnlyQuerySet(PhiQuerySet):
    """A queryset that reads and adds, and refuses whatever would change or delete a row."""

    def _refuse(self) -> NoReturn:
        raise AppendOnlyError(f"{self.model._meta.label} is append-only: record a new row instead.")

    def update(self, **kwargs: Any) -> NoReturn:
        """Refuse."""
        self._refuse()

    async def aupdate(self, **kwargs: Any) -> NoReturn:
        """Refuse."""
        self._refuse()

    def delete(self) -> NoReturn:
        """Refuse."""
        self._refuse()

    async def adelete(self) -> NoReturn:
        """Refuse."""
        self._refuse()

    def bulk_update(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse."""
        self._refuse()

    def update_or_create(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse."""
        self._refuse()

    def bulk_create(
        self, objs: Iterable[models.Model], *args: Any, **kwargs: Any
    ) -> list[models.Model]:
        """Insert many rows as Django does; an upsert is refused."""
        if kwargs.get("update_conflicts"):
            self._refuse()
        return super().bulk_create(objs, *args, **kwargs)

    def _raw_delete(self, using: str | None) -> NoReturn:
        self._refuse()

    def _update(self, values: Any) -> NoReturn:
        self._refuse()


# Django takes these attributes from the methods that they replace.
AppendOnlyQuerySet.delete.alters_data = True
AppendOnlyQuerySet.delete.queryset_only = True
AppendOnlyQuerySet.adelete.alters_data = True
AppendOnlyQuerySet.adelete.queryset_only = True


class AppendOnly(models.Model):
    """A model whose rows are never changed. Its migration must also call `append_only(table)`.

    Foreign keys from and to it use PROTECT or DO_NOTHING, since a cascade would change it. The
    application's role has no UPDATE right on it, so `select_for_update()` on it is refused: lock the
    contact, the campaign, whatever the fact is about.
    """

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Insert the row; raise AppendOnlyError if it was loaded from the database or saved before."""
        if not self._state.adding or kwargs.get("force_update") or kwargs.get("update_fields"):
            raise AppendOnlyError(f"{self._meta.label} {self.pk} is append-only: it exists.")
        # force_insert, because Django would try an UPDATE first when the row's id was given by hand.
        super().save(*args, **{**kwargs, "force_insert": True})

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise AppendOnlyError."""
        raise AppendOnlyError(f"{self._meta.label} {self.pk} is append-only: it stays.")

    def fact_hash(self) -> bytes:
        """Return the SHA-256 of the row as the database stores it, 32 bytes.

        Read from the table, not from this instance, so that encrypted columns count as their sealed bytes.
        Raises LookupError if the row is not there, or its model not in `audit.facts.FACTS`.
        """
        from audit import facts

        return facts.hash_of(self)


def append_only(table: str) -> migrations.RunSQL:
    """Return the migration operation that makes the database refuse UPDATE, DELETE and TRUNCATE on a table.

    The trigger fires for each statement, so a statement that matches no row is refused too.
    The migration depends on `("audit", "0001_initial")`.
    """
    table = _checked(table)
    return migrations.RunSQL(
        f'CREATE TRIGGER {TRIGGER}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON "{table}" '
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();",
        f'DROP TRIGGER {TRIGGER}_append_only ON "{table}";',
    )


def frozen_when(table: str, column: str) -> migrations.RunSQL:
    """Return the operation that makes the database refuse UPDATE and DELETE of rows whose column is set.

    Rows are drafts until `column` (say `published_at`) is no longer null; the statement that sets it is
    the last one that may change the row. TRUNCATE is refused always.
    """
    table, column = _checked(table), _checked(column)
    return migrations.RunSQL(
        f'CREATE TRIGGER {TRIGGER}_frozen BEFORE UPDATE OR DELETE ON "{table}" FOR EACH ROW '
        f'WHEN (OLD."{column}" IS NOT NULL) EXECUTE FUNCTION audit_refuse();'
        f'CREATE TRIGGER {TRIGGER}_frozen_truncate BEFORE TRUNCATE ON "{table}" '
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();",
        f'DROP TRIGGER {TRIGGER}_frozen ON "{table}";'
        f'DROP TRIGGER {TRIGGER}_frozen_truncate ON "{table}";',
    )


def _checked(name: str) -> str:
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", name):
        raise ValueError(f"Not the plain name of a table or column: {name!r}.")
    return name
