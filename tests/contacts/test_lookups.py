"""Another organization's things are as unknown as things that never were."""

import uuid

import pytest
from django.http import Http404

from contacts import importer, segments
from contacts.lookups import contact_for, import_for, segment_for
from tests import factories
from tests.contacts.conftest import stage

pytestmark = pytest.mark.django_db


@pytest.fixture
def things(organization, alice):
    """One of each kind in Lakeside, with the function that finds it."""
    file = stage(organization, "email\na@x.example\n", by=alice)
    return [
        (contact_for, factories.make_person(organization)),
        (segment_for, segments.create(organization, "S", segments.EVERYONE, by=alice)),
        (import_for, importer.start(organization, file, by=alice)),
    ]


def test_what_is_ours_is_found_by_id_or_text(organization, things):
    for find, thing in things:
        assert find(organization, thing.pk) == find(organization, str(thing.pk)) == thing


def test_what_is_not_ours_is_not(other_organization, things):
    for find, thing in things:
        with pytest.raises(Http404):
            find(other_organization, thing.pk)


@pytest.mark.parametrize(
    "pk", ["", "x", "1", None, 5, uuid.UUID(int=7), str(uuid.UUID(int=7)), "' OR 1=1"]
)
def test_what_is_no_id_finds_nothing(organization, things, pk):
    for find, _ in things:
        with pytest.raises(Http404):
            find(organization, pk)


def test_the_erased_are_not_found(organization, petra):
    from contacts.erase import erase

    person = factories.make_person(organization)
    erase(person, by=petra)

    with pytest.raises(Http404):
        contact_for(organization, person.pk)
