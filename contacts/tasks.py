"""Imports in the background: an id in, the same functions that anybody else calls, in the name of who began it.

The broker says which import, never who: whoever could write to it would otherwise act in anybody's name.
"""

from celery import shared_task

from accounts.models import User
from contacts import importer
from contacts.models import Import


@shared_task(ignore_result=True)
def check_import(import_id: str) -> None:
    """Check an import's file."""
    import_ = Import.objects.get(pk=import_id)
    importer.check(import_, by=User.objects.get(pk=import_.created_by_id))


@shared_task(ignore_result=True)
def apply_import(import_id: str) -> None:
    """Apply an import, or go on with it."""
    import_ = Import.objects.get(pk=import_id)
    importer.apply(import_, by=User.objects.get(pk=import_.created_by_id))
