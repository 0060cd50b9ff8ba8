"""Every column of every table is encrypted, or on the register with its reason; every encrypted one has an end."""

import re

import pytest
from django.apps import apps
from django.utils.module_loading import import_string

from phi.fields import Encrypted
from phi.register import CLEAR, ERASERS_OF

CITATION = re.compile(r"\d+ CFR \d+\.\d+")
#: Words that would say in a column's name that it is about a person.
PERSONAL = re.compile(
    r"name|mail|birth|address|phone|city|zip|street|ssn|mrn|sex|gender|race|diagnos|condition|note|comment|evidence|text"
)
#: Columns in clear whose name sounds personal. Each was looked at; a new one has to be, too.
LOOKED_AT = {
    "accounts.Organization": {"name", "postal_address"},
    "accounts.User": {"email", "name"},
    "accounts.TOTPDevice": {"name"},
    "auth.Group": {"name"},
    "auth.Permission": {"name", "codename"},
    "builder.EmailTemplate": {"name"},
    "campaigns.Campaign": {"name"},
    "campaigns.Sender": {"display_name"},
    "campaigns.Submission": {"text"},
    "consent.ChannelPreference": {"email_allowed"},
    "consent.FormVersion": {"name", "statement_condition"},
    "consent.OptOut": {"email_digest"},
    "consent.Suppression": {"email_digest"},
    "contacts.Contact": {"email_digest"},
    "contacts.Segment": {"name"},
    "delivery.IPPool": {"name"},
    "delivery.SendingIP": {"address"},
}


def columns(*, encrypted):
    """{model: its columns that are, or are not, encrypted}, of all installed apps, third-party ones too."""
    found = {
        model._meta.label: {
            field.name
            for field in model._meta.local_concrete_fields
            if isinstance(field, Encrypted) == encrypted
        }
        for model in apps.get_models(include_auto_created=True)
        if not model._meta.proxy
    }
    return {label: names for label, names in found.items() if names}


def test_every_column_in_clear_is_on_the_register():
    assert columns(encrypted=False) == {label: set(names) for label, names in CLEAR.items()}


def test_every_reason_is_one():
    reasons = {reason for names in CLEAR.values() for reason in names.values()}

    assert [reason for reason in reasons if len(reason) < 10] == []


def test_a_column_that_sounds_personal_was_looked_at():
    sounding = {
        label: {name for name in names if PERSONAL.search(name)} for label, names in CLEAR.items()
    }

    assert {label: names for label, names in sounding.items() if names} == LOOKED_AT


def test_every_encrypted_column_names_its_eraser_or_the_rule_that_keeps_it():
    assert columns(encrypted=True) == {label: set(names) for label, names in ERASERS_OF.items()}


@pytest.mark.parametrize(
    "end", sorted({end for names in ERASERS_OF.values() for end in names.values()})
)
def test_an_end_is_a_function_or_a_citation(end):
    assert CITATION.search(end) or callable(import_string(end))


def test_evidence_is_kept_and_what_is_kept_by_law_in_append_only_rows_is_evidence():
    """A column under the evidence key outlives rotations, so only what the law keeps may be sealed so."""
    not_kept = [
        f"{model._meta.label}.{field.name}"
        for model in apps.get_models()
        for field in model._meta.local_concrete_fields
        if isinstance(field, Encrypted)
        and field.evidence
        and not CITATION.search(ERASERS_OF[model._meta.label][field.name])
    ]

    assert not_kept == []
