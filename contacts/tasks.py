"""Imports in the background: ids in, the same functions that anybody else calls."""

from celery import shared_task

from accounts.models import User
from contacts import importer
from contacts.models import Import


@shared_task(ignore_result=True)
def check_import(import_id: str, user_id: str) -> None:
    """Check an import's file."""
    importer.check(Import.objects.get(pk=import_id), by=User.objects.get(pk=user_id))


@shared_task(ignore_result=True)
def apply_import(import_id: str, user_id: str) -> None:
    """Apply an import, or go on with it."""
    importer.apply(Import.objects.get(pk=import_id), by=User.objects.get(pk=user_id))
