"""What Celery's beat runs for the log."""

from celery import shared_task

from audit import seal as sealing


@shared_task(ignore_result=True)
def seal() -> None:
    """Seal what was recorded since; every five seconds, so that heads are out within ten."""
    sealing.seal()
