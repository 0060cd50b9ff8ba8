"""The log's tables, and the functions and triggers that keep them as they were written."""

import audit.models
from audit.append_only import FUNCTION_REVERSE_SQL, FUNCTION_SQL, append_only
import django.db.models.deletion
import django.db.models.functions.text
import django.db.models.lookups
from django.db import migrations, models

# The database says when an entry was written, and in which transaction, whatever the INSERT says.
STAMP_SQL = """
CREATE FUNCTION audit_stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.xid := pg_current_xact_id();
    NEW.at := clock_timestamp();
    RETURN NEW;
END $$;
CREATE TRIGGER history_stamp BEFORE INSERT ON audit_entry
    FOR EACH ROW EXECUTE FUNCTION audit_stamp();
"""
STAMP_REVERSE_SQL = """
DROP TRIGGER history_stamp ON audit_entry;
DROP FUNCTION audit_stamp();
"""


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.RunSQL(FUNCTION_SQL, FUNCTION_REVERSE_SQL),
        migrations.CreateModel(
            name='Entry',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('xid', audit.models.Xid(db_default=audit.models.CurrentXid(), editable=False)),
                ('at', models.DateTimeField(db_default=audit.models.ClockTimestamp(), editable=False)),
                ('action', models.CharField(max_length=64)),
                ('organization_id', models.UUIDField()),
                ('actor', models.CharField(max_length=100)),
                ('target_label', models.CharField(blank=True, max_length=64)),
                ('target_id', models.UUIDField(null=True)),
                ('count', models.BigIntegerField(null=True)),
                ('fields', models.JSONField(default=list)),
                ('detail', models.JSONField(default=dict)),
                ('facts', models.JSONField(default=dict)),
            ],
        ),
        migrations.CreateModel(
            name='Fact',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('label', models.CharField(max_length=64)),
                ('row_id', models.UUIDField()),
                ('sha256', models.BinaryField()),
            ],
        ),
        migrations.CreateModel(
            name='Block',
            fields=[
                ('number', models.BigIntegerField(primary_key=True, serialize=False)),
                ('previous', models.BinaryField()),
                ('root', models.BinaryField()),
                ('count', models.BigIntegerField()),
                ('total', models.BigIntegerField()),
                ('first_id', models.BigIntegerField(null=True)),
                ('last_id', models.BigIntegerField(null=True)),
                ('watermark', audit.models.Xid()),
                ('sealed_at', models.DateTimeField()),
                ('public_key', models.BinaryField()),
                ('signature', models.BinaryField()),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(django.db.models.lookups.Exact(django.db.models.functions.text.Length('previous'), 32), django.db.models.lookups.Exact(django.db.models.functions.text.Length('root'), 32), django.db.models.lookups.Exact(django.db.models.functions.text.Length('public_key'), 32), django.db.models.lookups.Exact(django.db.models.functions.text.Length('signature'), 64), ('count__gte', 0), ('number__gte', 0)), name='block_shape')],
            },
        ),
        migrations.CreateModel(
            name='Membership',
            fields=[
                ('entry', models.OneToOneField(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, primary_key=True, related_name='sealed', serialize=False, to='audit.entry')),
                ('position', models.IntegerField()),
                ('leaf', models.BinaryField()),
            ],
        ),
        migrations.AddIndex(
            model_name='entry',
            index=models.Index(fields=['organization_id', 'at'], name='entry_by_organization'),
        ),
        migrations.AddIndex(
            model_name='entry',
            index=models.Index(fields=['target_id'], name='entry_by_target'),
        ),
        migrations.AddIndex(
            model_name='entry',
            index=models.Index(fields=['xid'], name='entry_by_xid'),
        ),
        migrations.AddConstraint(
            model_name='entry',
            constraint=models.CheckConstraint(condition=models.Q(('action__regex', '^[a-z_]+\\.[a-z_]+$')), name='entry_action_shape'),
        ),
        migrations.AddConstraint(
            model_name='entry',
            constraint=models.CheckConstraint(condition=models.Q(('actor__regex', '^[a-z_]+:[A-Za-z0-9_.-]+$')), name='entry_actor_shape'),
        ),
        migrations.AddConstraint(
            model_name='entry',
            constraint=models.CheckConstraint(condition=models.Q(('target_label__regex', '^([a-z_]+\\.[A-Za-z0-9_]+)?$')), name='entry_target_shape'),
        ),
        migrations.AddField(
            model_name='fact',
            name='entry',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='vouched', to='audit.entry'),
        ),
        migrations.AddField(
            model_name='membership',
            name='block',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='members', to='audit.block'),
        ),
        migrations.AddIndex(
            model_name='fact',
            index=models.Index(fields=['row_id'], name='fact_by_row'),
        ),
        migrations.AddConstraint(
            model_name='fact',
            constraint=models.UniqueConstraint(fields=('entry', 'label', 'row_id'), name='fact_once'),
        ),
        migrations.AddConstraint(
            model_name='fact',
            constraint=models.CheckConstraint(condition=django.db.models.lookups.Exact(django.db.models.functions.text.Length('sha256'), 32), name='fact_sha256_is_whole'),
        ),
        migrations.AddConstraint(
            model_name='membership',
            constraint=models.UniqueConstraint(fields=('block', 'position'), name='membership_place'),
        ),
        migrations.AddConstraint(
            model_name='membership',
            constraint=models.CheckConstraint(condition=django.db.models.lookups.Exact(django.db.models.functions.text.Length('leaf'), 32), name='membership_leaf_is_whole'),
        ),
        append_only('audit_entry'),
        append_only('audit_fact'),
        append_only('audit_block'),
        append_only('audit_membership'),
        migrations.RunSQL(STAMP_SQL, STAMP_REVERSE_SQL),
    ]
