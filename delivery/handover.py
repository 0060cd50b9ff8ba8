"""The mark before the wire: after it, no revocation that was committed before can have been missed (ADR 0007)."""

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from django.db import connection, transaction

from campaigns.models import Campaign
from consent import gate
from delivery.models import Message

#: Seconds within which the bytes follow the mark; later, the mark is made again.
MARK_LASTS = 2.0


@transaction.atomic
def hand_over(
    question: gate.Ask,
    campaign_id: uuid.UUID,
    messages: Iterable[Message],
    values: Mapping[uuid.UUID, dict[str, Any]] | None = None,
) -> set[uuid.UUID]:
    """Decide about claimed messages under lock and mark those that may go; return their ids.

    The campaign's row is held FOR SHARE, so a pause or cancel is either seen here or comes after the mark.
    `values`: what was filled into each message, kept with the mark so that "what exactly did we send" can be
    answered whatever happens next; without it what is kept stays.
    What may not go is withheld with its reason; a campaign that is not sending any more gives its claims back.
    An exception leaves every claim as it was, and nothing is sent.
    """
    contacts = {message.pk: message.contact_id for message in messages}
    with connection.cursor() as cursor:
        cursor.execute(
            "select status from campaigns_campaign where id = %s and organization_id = %s for share",
            [campaign_id, question.organization.pk],
        )
        row = cursor.fetchone()
        if row is None or row[0] != Campaign.Status.SENDING:
            give_back(contacts)
            return set()
        decisions = gate.decide_locked(question, set(contacts.values()))
        # A contact that the gate does not know gets no answer: held, never sent.
        reasons = {pk: decisions.get(contact, "erased") for pk, contact in contacts.items()}
        go = [pk for pk, reason in reasons.items() if not reason]
        withhold({pk: reason for pk, reason in reasons.items() if reason})
        cursor.execute(
            """update delivery_message m set state = 'handing_over', handed_over_at = clock_timestamp(),
                 "values" = coalesce(filled.sealed, m."values")
               from unnest(%s::uuid[], %s::bytea[]) as filled(id, sealed)
               where m.id = filled.id and m.state in ('claimed', 'handing_over') returning m.id""",
            [go, [_sealed(question, pk, values) for pk in go]],
        )
        return {row[0] for row in cursor.fetchall()}


def _sealed(
    question: gate.Ask, message_id: uuid.UUID, values: Mapping[uuid.UUID, dict[str, Any]] | None
) -> bytes | None:
    if values is None:
        return None
    field = Message._meta.get_field("values")
    return bytes(field.seal(values[message_id], question.organization.pk, message_id))


def give_back(message_ids: Iterable[uuid.UUID]) -> None:
    """Return claims of which nothing was on the wire; the attempt does not count."""
    with connection.cursor() as cursor:
        cursor.execute(
            """update delivery_message set state = 'queued', attempt = attempt - 1, journal_id = null
               where id = any(%s) and state in ('claimed', 'handing_over')""",
            [list(message_ids)],
        )


def withhold(reasons: Mapping[uuid.UUID, str]) -> None:
    """Withhold claimed messages, each for its reason."""
    with connection.cursor() as cursor:
        cursor.execute(
            """update delivery_message m set state = 'withheld', finished_at = clock_timestamp(),
                 journal_id = null, reason = held.reason
               from unnest(%s::uuid[], %s::text[]) as held(id, reason)
               where m.id = held.id and m.state in ('claimed', 'handing_over')""",
            [list(reasons), list(reasons.values())],
        )
