"""The Celery application: wake-ups and ids only, since the database is the queue."""

import os

from celery import Celery
from celery.signals import task_prerun

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hipaamail.settings")

app = Celery("hipaamail")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@task_prerun.connect
def drop_broken_connections(**_: object) -> None:
    """Let a task begin on a live database connection, since CELERY_DB_REUSE_MAX keeps them."""
    from django.db import close_old_connections

    close_old_connections()
