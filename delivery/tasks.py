"""Wake-ups: each carries at most an id, and the database says what there is to do."""

import uuid

from celery import shared_task

from delivery import freeze, pipeline, retention
from delivery.models import Message, SendingIP

WAKE_SECONDS = 2


@shared_task
def launch_due() -> None:
    """Begin the campaigns whose time has come, and settle the finished ones."""
    freeze.launch_due()
    freeze.tidy()


@shared_task
def wake() -> None:
    """Tell each open address to look for work, on its own queue."""
    open_campaigns = Message.objects.filter(
        state__in=Message.OPEN, campaign__status="sending"
    ).values("sending_ip_id")
    for sending_ip in SendingIP.objects.filter(is_open=True, pk__in=open_campaigns):
        send_slice.apply_async(
            [str(sending_ip.pk)], queue=f"ip-{sending_ip.address}", expires=WAKE_SECONDS
        )


@shared_task
def send_slice(sending_ip_id: str) -> None:
    """Send what is due on an address."""
    pipeline.send_slice(uuid.UUID(sending_ip_id))


@shared_task
def empty_values() -> None:
    """Empty the merge values of old messages."""
    retention.empty_values()
