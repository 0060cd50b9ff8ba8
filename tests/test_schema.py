"""What the database promises: rows of tenants are kept apart, history is kept."""

from django.apps import apps
from django.db import connection, models

from audit.append_only import AppendOnly
from tests.test_layers import LAYERS

#: Unique over all organizations, and why that joins nobody's data to another's.
UNIQUE_WITHOUT_ORGANIZATION = {
    "contacts.TermRow.contact": "primary key; the contact is the organization's",
}

UPDATE, DELETE, TRUNCATE = 16, 8, 32


def tenant_models():
    return [
        model
        for app in LAYERS
        if apps.is_installed(app)
        for model in apps.get_app_config(app).get_models(include_auto_created=True)
        if any(f.attname == "organization_id" for f in model._meta.concrete_fields)
    ]


def unique_sets(model):
    """Yield (name, fields) of all that must be unique in a model, its UUID key apart."""
    for field in model._meta.concrete_fields:
        made_up = field.primary_key and isinstance(field, models.UUIDField | models.AutoField)
        if field.unique and not made_up:
            yield f"{model._meta.label}.{field.name}", {field.name}
    for constraint in model._meta.constraints:
        if isinstance(constraint, models.UniqueConstraint):
            yield constraint.name, set(constraint.fields)
    for fields in model._meta.unique_together:
        yield f"{model._meta.label}.{'+'.join(fields)}", set(fields)
    if isinstance(model._meta.pk, models.CompositePrimaryKey):
        yield f"{model._meta.label}.pk", set(model._meta.pk.field_names)


def test_what_is_unique_is_unique_within_an_organization():
    joined = {
        name
        for model in tenant_models()
        for name, fields in unique_sets(model)
        if not fields & {"organization", "organization_id"}
    }

    assert joined == set(UNIQUE_WITHOUT_ORGANIZATION)


def test_every_row_of_a_tenant_has_an_organization():
    optional = [
        model._meta.label
        for model in tenant_models()
        if model._meta.get_field("organization_id").null and model._meta.app_label not in {"audit"}
    ]

    assert optional == []


def test_ids_are_made_in_python_and_in_order_of_time():
    from phi.ids import uuid7

    other = [
        model._meta.label
        for model in tenant_models()
        if isinstance(model._meta.pk, models.UUIDField) and model._meta.pk.default is not uuid7
    ]

    assert other == []


def triggers():
    """{table: bits of the operations that an enabled trigger of ours refuses}"""
    refused = {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname, t.tgtype FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
            "JOIN pg_proc p ON p.oid = t.tgfoid "
            "WHERE NOT t.tgisinternal AND t.tgenabled IN ('O', 'A') AND p.proname = 'audit_refuse'"
        )
        for table, kind in cursor.fetchall():
            refused[table] = refused.get(table, 0) | kind
    return refused


def test_every_append_only_table_refuses_update_delete_and_truncate(db):
    refused = triggers()
    history = [m for m in apps.get_models() if issubclass(m, AppendOnly)]
    open_tables = [
        model._meta.label
        for model in history
        if refused.get(model._meta.db_table, 0) & (UPDATE | DELETE | TRUNCATE)
        != UPDATE | DELETE | TRUNCATE
    ]

    assert open_tables == []
    assert {"audit.Entry", "consent.Authorization", "consent.OptOut"} <= {
        m._meta.label for m in history
    }


def test_no_foreign_key_to_or_from_history_deletes_it():
    cascading = [
        f"{model._meta.label}.{field.name}"
        for model in apps.get_models()
        for field in model._meta.concrete_fields
        if field.is_relation
        if issubclass(model, AppendOnly) or issubclass(field.related_model, AppendOnly)
        if field.remote_field.on_delete not in (models.PROTECT, models.DO_NOTHING)
    ]

    assert cascading == []
