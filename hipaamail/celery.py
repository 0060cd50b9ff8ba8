"""The Celery application: wake-ups and ids only, since the database is the queue."""

import os

from celery import Celery
from celery.signals import beat_init, celeryd_init, setup_logging, task_prerun

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hipaamail.settings")

app = Celery("hipaamail")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@setup_logging.connect
def keep_our_logging(**_: object) -> None:
    """Keep Celery from adding handlers of its own, which are not redacted."""


@beat_init.connect
@celeryd_init.connect
def refuse_an_unsafe_setting(**_: object) -> None:
    """Run the security checks, which workers and beat would not run by themselves."""
    from phi.checks import insist

    insist()


@task_prerun.connect
def drop_broken_connections(**_: object) -> None:
    """Let a task begin on a live database connection, since CELERY_DB_REUSE_MAX keeps them."""
    from django.db import close_old_connections

    close_old_connections()
