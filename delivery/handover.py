"""The mark before the wire: after it, no revocation that was committed before can have been missed (ADR 0007)."""

import uuid
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from django.db import connection, transaction

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
    faults: Mapping[uuid.UUID, str] = MappingProxyType({}),
) -> set[uuid.UUID]:
    """Decide about claimed messages under lock and mark those that may go; return their ids.

    `messages`: each with its contact as it was when the message was composed; whoever has another address by
    now gives the claim back, to be composed anew. `faults`: why some could not be composed; what the gate says
    of the person goes before it. `values`: what was filled into each message, kept with the mark so that "what
    exactly did we send" can be answered whatever happens next; without it what is kept stays.
    What may not go is withheld with its reason; a campaign that may not go on gives its claims back.
    An exception leaves every claim as it was, and nothing is sent.
    """
    claimed = {message.pk: message for message in messages}
    if not _may_go_on(question, campaign_id):
        give_back(claimed)
        return set()
    decisions = gate.decide_locked(question, {one.contact_id for one in claimed.values()})
    # A contact that the gate does not know gets no answer: held, never sent.
    reasons = {
        pk: decisions.get(one.contact_id, "erased") or faults.get(pk, "")
        for pk, one in claimed.items()
    }
    withhold({pk: reason for pk, reason in reasons.items() if reason})
    go = [one for pk, one in claimed.items() if not reasons[pk]]
    with connection.cursor() as cursor:
        cursor.execute(
            """update delivery_message m set state = 'handing_over', handed_over_at = clock_timestamp(),
                 "values" = coalesce(filled.sealed, m."values")
               from unnest(%s::uuid[], %s::bytea[], %s::bytea[]) as filled(id, email_digest, sealed)
               join contacts_contact c on c.email_digest = filled.email_digest
               where m.id = filled.id and c.id = m.contact_id and m.state in ('claimed', 'handing_over')
               returning m.id""",
            [
                [one.pk for one in go],
                [bytes(one.contact.email_digest or b"") for one in go],
                [_sealed(question, one.pk, values) for one in go],
            ],
        )
        marked = {row[0] for row in cursor.fetchall()}
    give_back(one.pk for one in go if one.pk not in marked)
    return marked


def _may_go_on(question: gate.Ask, campaign_id: uuid.UUID) -> bool:
    """Say whether the campaign may go on, and hold what says so: a pause, a cancel or the kill switch is either
    seen here or comes after the mark. Nothing leaves after the latest time, whoever comes late to tidy up."""
    with connection.cursor() as cursor:
        cursor.execute(
            """select c.status = 'sending' and o.is_active and o.sending_stopped_at is null
                 and (c.latest_at is null or c.latest_at > clock_timestamp())
               from campaigns_campaign c join accounts_organization o on o.id = c.organization_id
               where c.id = %s and c.organization_id = %s for share of c, o""",
            [campaign_id, question.organization.pk],
        )
        return cursor.fetchone() == (True,)


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
            """update delivery_message set attempt = attempt - 1, journal_id = null,
                 state = case when attempt > 1 then 'deferred' else 'queued' end
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
