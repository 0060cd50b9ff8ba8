"""What is written once stays: triggers refuse UPDATE, DELETE and TRUNCATE."""

from django.db import migrations

from audit.append_only import append_only, frozen_when


class Migration(migrations.Migration):
    dependencies = [("consent", "0001_initial"), ("audit", "0001_initial")]
    operations = [
        append_only("consent_authorization"),
        append_only("consent_revocation"),
        append_only("consent_optout"),
        append_only("consent_suppression"),
        append_only("consent_channelpreference"),
        append_only("consent_restriction"),
        append_only("consent_unencryptedpreference"),
        frozen_when("consent_formversion", "published_at"),
    ]
