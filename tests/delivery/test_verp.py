"""Bounce addresses that only their maker can make."""

import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delivery import verp

KEY = b"k" * 32
ID = uuid.UUID("0199abcd-1234-7890-8123-456789abcdef")


def test_the_address_names_its_message():
    address = verp.envelope_sender(ID, KEY, "bounce.clinic.example")
    local, _, domain = address.partition("@")

    assert domain == "bounce.clinic.example" and local.startswith("b+") and len(local) <= 64
    assert verp.read(address, KEY) == ID
    assert verp.read(verp.token_for(ID, KEY), KEY) == ID


@given(st.uuids(), st.binary(min_size=16, max_size=40))
def test_every_id_comes_back(message_id, key):
    token = verp.token_for(message_id, key)
    assert verp.read(token, key) == message_id
    assert verp.read(f"B+{token.upper()}@Bounce.Example", key) == message_id


def test_another_key_or_id_is_another_token():
    token = verp.token_for(ID, KEY)
    assert verp.read(token, b"x" * 32) is None
    assert verp.token_for(uuid.uuid4(), KEY)[26:] != token[26:]


@given(st.integers(0, 30 * 8 - 1))
@settings(max_examples=240)
def test_a_flipped_bit_matches_nothing(bit):
    import base64

    raw = bytearray(base64.b32decode(verp.token_for(ID, KEY).upper()))
    raw[bit // 8] ^= 1 << bit % 8
    assert verp.read(base64.b32encode(bytes(raw)).decode().lower(), KEY) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "b+@x.example",
        "b+" + "a" * 48 + "@x.example",
        "a" * 48,
        "a" * 47,
        "a" * 49,
        "0" * 48,
        "é" * 48,
        "=" * 48,
        "postmaster@x.example",
        "<script>@x.example",
        "b+" + "\u212a" * 48,
    ],
)
def test_what_we_did_not_make_matches_nothing(text):
    assert verp.read(text, KEY) is None


def test_variants_of_a_true_token_match_nothing():
    token = verp.token_for(ID, KEY)
    for text in (
        token[:-1],
        token + "a",
        f"c+{token}@x.example",
        f"{token}@x.example",  # our addresses begin with b+
        f" b+{token}@x.example",
        f"b+{token}\n@x.example",
        f"b+b+{token}@x.example",
    ):
        assert verp.read(text, KEY) is None


def test_a_letter_whose_lower_case_is_ours_is_not_taken_for_it():
    token = verp.token_for(ID, KEY)
    while "k" not in token:
        token = verp.token_for(uuid.uuid4(), KEY)
    assert verp.read(token.replace("k", "\u212a"), KEY) is None  # the Kelvin sign


def test_a_short_key_is_refused():
    with pytest.raises(ValueError, match="16 bytes"):
        verp.token_for(ID, b"short")
