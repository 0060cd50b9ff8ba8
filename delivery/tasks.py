"""Wake-ups: each carries at most an id, and the database says what there is to do."""

import uuid

from celery import shared_task
from django.db.models import Q

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
    """Tell each address that has something to send, or claims to settle, to look for work, on its own queue."""
    waiting = Message.objects.filter(state__in=Message.CLAIMABLE, campaign__status="sending")
    # Whatever became of campaign and address: a process that died may have left them.
    held = Message.objects.filter(state__in=Message.HELD)
    for sending_ip in SendingIP.objects.filter(
        Q(pk__in=held.values("sending_ip_id"))
        | Q(is_open=True, pk__in=waiting.values("sending_ip_id"))
    ):
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
