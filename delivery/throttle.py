"""Step 6, throttle: which sending IP, how many now, for this receiving provider; then claim.

A claim is a short transaction: rows are taken with SKIP LOCKED, counted as an attempt, and bound to the
journal of the process that takes them, before anything is on a wire.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction

from delivery.models import Message, SendingIP

#: Messages claimed at once: large enough for few transactions, small enough that a pause works within a second.
SET = 50


@contextmanager
def alone_on(address: str) -> Iterator[bool]:
    """Hold the advisory lock of a sending address; yield False when another process holds it."""
    with connection.cursor() as cursor:
        cursor.execute("select pg_try_advisory_lock(hashtextextended(%s, 0))", [address])
        alone = cursor.fetchone()[0]
    try:
        yield alone
    finally:
        # On a connection that broke the lock is gone already.
        if alone and connection.is_usable():
            with connection.cursor() as cursor:
                cursor.execute("select pg_advisory_unlock(hashtextextended(%s, 0))", [address])


@transaction.atomic
def claim(sending_ip: SendingIP, journal_id: uuid.UUID, size: int = SET) -> list[Message]:
    """Claim up to `size` due messages of one campaign for an address and return them, oldest first.

    Closed addresses, streams and destinations, and campaigns that are not sending, yield nothing.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """with due as (
                 select m.id, m.campaign_id from delivery_message m
                 join campaigns_campaign c on c.id = m.campaign_id and c.status = 'sending'
                   and (c.latest_at is null or c.latest_at > statement_timestamp())
                 join delivery_sendingip i on i.id = m.sending_ip_id and i.is_open
                 join delivery_ippool p on p.id = i.pool_id
                 join delivery_stream s on s.id = p.stream_id and s.is_open
                 join accounts_organization o on o.id = m.organization_id
                   and o.is_active and o.sending_stopped_at is null
                 left join delivery_destination d on d.id = m.destination_id
                 where m.sending_ip_id = %s and m.state in ('queued', 'deferred')
                   and m.due_at <= statement_timestamp()
                   and (d.closed_until is null or d.closed_until <= statement_timestamp())
                 order by m.due_at, m.id limit %s
                 for update of m skip locked)
               update delivery_message m
               set state = 'claimed', reason = '', attempt = m.attempt + 1, journal_id = %s,
                   claimed_at = clock_timestamp()
               from due where m.id = due.id and due.campaign_id = (select campaign_id from due limit 1)
               returning m.id""",
            [sending_ip.pk, size, journal_id],
        )
        ids = [row[0] for row in cursor.fetchall()]
    return list(
        Message.objects.filter(pk__in=ids)
        .select_related("contact__organization")
        .order_by("due_at", "pk")
    )
