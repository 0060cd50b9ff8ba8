"""What the scheduler wakes in files."""

from celery import shared_task

from files import staging


@shared_task
def expire() -> int:
    """Delete staged files whose time is over."""
    return staging.expire()
