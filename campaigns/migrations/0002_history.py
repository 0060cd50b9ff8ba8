"""What is written once stays: triggers refuse UPDATE, DELETE and TRUNCATE."""

from django.db import migrations

from audit.append_only import append_only


class Migration(migrations.Migration):
    dependencies = [("campaigns", "0001_initial"), ("audit", "0001_initial")]
    operations = [
        append_only("campaigns_submission"),
        append_only("campaigns_approval"),
    ]
