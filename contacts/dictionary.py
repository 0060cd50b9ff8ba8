"""The dictionary of terms: from a field's blinded text to a short number, made once, safe for many at once."""

import uuid
from collections.abc import Iterable

from django.db import connection

from phi.digest import digest

#: (field key, text): what is blinded, e.g. ("state", "=ca").
Term = tuple[str, str]

#: A digest of 256 bits has eight pieces of 32, whose top bit is dropped: eight tries before it gives up.
TRIES = 8
_MASK = 2**31 - 1


#: Many digests as one parameter, a table `given(blind, place)`: the driver takes longer to write an array of them
#: than we take to make them.
GIVEN_SQL = (
    "(SELECT decode(hex, 'hex') AS blind, place "
    "FROM string_to_table(%s, ',') WITH ORDINALITY AS texts(hex, place)) AS given"
)


def in_hex(blinds: Iterable[bytes]) -> str:
    """Return the parameter of `GIVEN_SQL`; their order is kept in `place`."""
    return ",".join(blind.hex() for blind in blinds)


class NoNumberLeft(Exception):
    """All eight numbers of a digest are taken by others: cannot happen before there are a billion terms."""


def blinded(organization_id: uuid.UUID, term: Term) -> bytes:
    """Return the digest of a term under the organization's key: other organizations get another."""
    field, text = term
    return digest(organization_id, f"term:{field}", text)


def candidate(blind: bytes, attempt: int) -> int:
    """Return the number that a digest asks for at the given attempt; 0 stands for no term and is never used."""
    return int.from_bytes(blind[4 * attempt : 4 * attempt + 4], "big") & _MASK


def look_up(organization_id: uuid.UUID, terms: Iterable[Term]) -> dict[Term, int]:
    """Return the numbers of those terms that have one; makes none, so that asking leaves no trace."""
    return _named(organization_id, _digests(organization_id, terms))


def learn(organization_id: uuid.UUID, terms: Iterable[Term]) -> dict[Term, int]:
    """Return the numbers of all terms, and make those that have none yet.

    Two processes may learn the same terms at once: the one that comes second waits for the first to commit,
    then reads. Call it outside a long transaction where there is a choice; whoever keeps the answer must forget
    it when the transaction is rolled back.
    """
    digests = _digests(organization_id, terms)
    known = _named(organization_id, digests)
    for attempt in range(TRIES):
        missing = {blind: term for blind, term in digests.items() if term not in known}
        if not missing:
            return known
        _insert(organization_id, missing, attempt)
        known |= _named(organization_id, missing)
    if len(known) == len(digests):
        return known
    raise NoNumberLeft(f"organization {organization_id}")


def _digests(organization_id: uuid.UUID, terms: Iterable[Term]) -> dict[bytes, Term]:
    return {blinded(organization_id, term): term for term in terms}


def _named(organization_id: uuid.UUID, digests: dict[bytes, Term]) -> dict[Term, int]:
    if not digests:
        return {}
    with connection.cursor() as cursor:
        # One search in the index for each, whatever the planner believes about a dictionary that just grew.
        cursor.execute(
            f"SELECT given.blind, t.number FROM {GIVEN_SQL}, LATERAL (SELECT number, organization_id "  # noqa: S608
            "FROM contacts_term WHERE digest = given.blind LIMIT 1) AS t WHERE t.organization_id = %s",
            [in_hex(digests), organization_id],
        )
        return {digests[bytes(blind)]: number for blind, number in cursor.fetchall()}


def _insert(organization_id: uuid.UUID, blinds: Iterable[bytes], attempt: int) -> None:
    # In one order for everybody, so that two who learn the same terms don't wait for each other in a circle.
    rows = sorted((blind, number) for blind in blinds if (number := candidate(blind, attempt)))
    with connection.cursor() as cursor:
        # What is skipped is either known by now, or its number is another term's: the next attempt tells.
        cursor.execute(
            "INSERT INTO contacts_term (organization_id, number, digest) "  # noqa: S608
            f"SELECT %s, (%s::int4[])[given.place], given.blind FROM {GIVEN_SQL} ORDER BY given.place "
            "ON CONFLICT DO NOTHING",
            [organization_id, [number for _, number in rows], in_hex(blind for blind, _ in rows)],
        )
