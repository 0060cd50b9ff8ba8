"""Signatures that an independent verifier accepts, and that any change breaks."""

import hashlib
import re

import dkim as dkimpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delivery import dkim

PEM, RECORD = dkim.new_key()
KEY = dkim.load_key(PEM)
HEADERS = [
    (b"From", b"Lakeside Clinic <news@clinic.example>"),
    (b"To", b"pat@receiver.example"),
    (b"Subject", b"Your  flu \t shot\r\n   this autumn"),
    (b"Date", b"Tue, 24 Nov 2026 08:00:00 +0000"),
    (b"Message-ID", b"<019abc@clinic.example>"),
    (b"Reply-To", b"office@clinic.example"),
    (b"MIME-Version", b"1.0"),
    (b"Content-Type", b"text/plain; charset=utf-8"),
    (b"Content-Transfer-Encoding", b"quoted-printable"),
    (b"Content-Language", b"en"),
    (b"List-Id", b"<flu.clinic.example>"),
    (b"List-Unsubscribe", b"<https://clinic.example/u/x>, <mailto:u@clinic.example>"),
    (b"List-Unsubscribe-Post", b"List-Unsubscribe=One-Click"),
    (b"Feedback-ID", b"1:2:3:clinic"),
    (b"X-Unsigned", b"whatever"),
]
BODY = b"Dear Pat, \r\n\r\n  come  by.\t\r\n\r\n\r\n"


def sign(headers=HEADERS, **options) -> bytes:
    arguments = {"domain": "clinic.example", "selector": "s1", "key": KEY, "at": 1_795_000_000}
    if "body_sha256" not in options:
        options.setdefault("body", BODY)
    return dkim.sign(headers, **{**arguments, **options})


def message(signature: bytes, headers=HEADERS, body: bytes = BODY) -> bytes:
    return signature + b"".join(n + b": " + v + b"\r\n" for n, v in headers) + b"\r\n" + body


def verifies(mail: bytes, record: str = RECORD) -> bool:
    asked = []

    def look_up(name, timeout=5):
        asked.append(name)
        return record.encode()

    answer = dkimpy.verify(mail, dnsfunc=look_up)
    assert asked in ([], [b"s1._domainkey.clinic.example."])
    return answer


def test_a_signed_message_verifies():
    signature = sign()
    assert verifies(message(signature))
    assert signature.startswith(b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=clinic")
    assert signature.endswith(b"\r\n") and max(map(len, signature.split(b"\r\n"))) <= 78
    assert b"l=" not in re.sub(rb"b=[^;]*", b"", signature)


def test_a_key_of_another_pair_does_not_verify():
    _, other = dkim.new_key()
    assert not verifies(message(sign()), record=other)


def test_the_digest_of_a_canonical_body_serves_in_place_of_the_body():
    body = b"Dear Pat,\r\ncome by.\r\n"
    by_digest = sign(body_sha256=hashlib.sha256(body).digest())
    assert by_digest == sign(body=body)
    assert verifies(message(by_digest, body=body))


def test_the_record_has_the_public_key_and_nothing_else():
    assert dkim.dns_value(PEM) == RECORD
    assert RECORD.startswith("v=DKIM1; h=sha256; k=rsa; p=MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A")
    assert b"PRIVATE KEY" in PEM and KEY.key_size == 2048


SIGNED = [name for name, _ in HEADERS if name != b"X-Unsigned"]


@pytest.mark.parametrize("name", SIGNED)
def test_a_changed_header_breaks_the_signature(name):
    changed = [(n, v + b"x" if n == name else v) for n, v in HEADERS]
    assert not verifies(message(sign(), headers=changed))


@pytest.mark.parametrize("name", SIGNED)
def test_a_removed_header_breaks_the_signature(name):
    removed = [(n, v) for n, v in HEADERS if n != name]
    assert not verifies(message(sign(), headers=removed))


@pytest.mark.parametrize("name", dkim.OVERSIGNED)
@pytest.mark.parametrize("place", ["first", "last"])
def test_an_added_header_that_readers_act_on_breaks_the_signature(name, place):
    """A second one, or the first of one that the message did not have (Cc, Sender)."""
    extra = (name.title(), b"<https://evil.example>")
    headers = [extra, *HEADERS] if place == "first" else [*HEADERS, extra]
    assert verifies(message(sign()))
    assert not verifies(message(sign(), headers=headers))


def test_what_compliance_names_is_oversigned():
    needed = {"from", "to", "cc", "subject", "date", "reply-to", "sender", "message-id"}
    needed |= {"content-type", "mime-version", "list-unsubscribe", "list-unsubscribe-post"}
    assert needed <= {name.decode() for name in dkim.OVERSIGNED}


@pytest.mark.parametrize("change", [b"X" + BODY, BODY + b"more\r\n", BODY.replace(b"by", b"in")])
def test_a_changed_body_breaks_the_signature(change):
    assert not verifies(message(sign(), body=change))


def test_white_space_that_servers_may_change_does_not():
    headers = [(n.lower(), b" " + v.replace(b"\r\n   ", b" ")) for n, v in HEADERS]
    body = BODY.replace(b"  come  by.\t", b" come by.").rstrip(b"\r\n") + b"\r\n"
    assert verifies(message(sign(), headers=headers, body=body))


def test_headers_that_repeat_are_signed_from_the_last_upwards():
    headers = [*HEADERS, (b"Precedence", b"bulk"), (b"Precedence", b"list")]
    assert verifies(message(sign(headers), headers=headers))
    assert not verifies(message(sign(headers), headers=[*headers[:-2], headers[-1], headers[-2]]))


# What the signer refuses.


@pytest.mark.parametrize(
    "value",
    [
        b"Hi\r\nBcc: a@x.example",
        b"Hi\nBcc: a@x.example",
        b"Hi\rBcc: a@x.example",
        b"Hi\r\n",
        b"Hi\r\n\r\nbody",
        b"Hi\x00",
    ],
)
def test_a_value_that_starts_another_header_is_not_signed(value):
    headers = [(n, value if n == b"Subject" else v) for n, v in HEADERS]
    with pytest.raises(dkim.BadHeaders) as caught:
        sign(headers)
    assert "subject" in str(caught.value) and "Hi" not in str(caught.value)


@pytest.mark.parametrize("name", [b"", b"Sub ject", b"Subject:", b"S\r\nBcc", b"S\xc3\xbc", b"X\n"])
def test_a_name_that_is_none_is_not_signed(name):
    with pytest.raises(dkim.BadHeaders):
        sign([*HEADERS, (name, b"x")])


@pytest.mark.parametrize(
    "name", [b"From", b"TO", b"subject", b"Date", b"List-Unsubscribe", b"List-Id"]
)
def test_a_header_that_stands_twice_is_not_signed(name):
    with pytest.raises(dkim.BadHeaders, match="more than once"):
        sign([*HEADERS, (name, b"second")])


def test_a_message_of_nobody_is_not_signed():
    with pytest.raises(dkim.BadHeaders, match="from"):
        sign(HEADERS[1:])


@pytest.mark.parametrize(
    "options",
    [
        {"domain": "clinic.example; l=0"},
        {"domain": "clinic"},
        {"domain": "Clinic.example"},
        {"domain": "clinic.example\n"},
        {"selector": "s1; h=from"},
        {"selector": ""},
        {"body": BODY, "body_sha256": b"x" * 32},
        {"body": None},
        {"body_sha256": b"x" * 31},
    ],
)
def test_arguments_that_would_change_the_tags_are_refused(options):
    with pytest.raises(ValueError, match="domain and selector|body|32 bytes"):
        sign(**options)


def test_short_and_foreign_keys_are_refused():
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    for key in (short, ed25519.Ed25519PrivateKey.generate()):
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        with pytest.raises(ValueError, match="2048"):
            dkim.load_key(pem)


# Any header, any body.

_text = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
_space = st.sampled_from([" ", "  ", "\t", " \t", "\r\n ", "\r\n\t  "])
values = st.lists(st.tuples(_text, _space), max_size=8).map(
    lambda words: "".join(word + space for word, space in words).strip().encode()
)
names = st.sampled_from(
    [b"Subject", b"Feedback-ID", b"References", b"Content-Language", b"Reply-To"]
)
lines = st.lists(
    st.text(st.sampled_from("aZ. \t=\x0b\x0c\x1cé"), max_size=12).map(str.encode), max_size=8
)
bodies = st.tuples(lines, st.booleans()).map(
    lambda made: b"\r\n".join(made[0]) + (b"\r\n" if made[1] else b"")
)


def as_sent(body: bytes) -> bytes:
    """The body as it leaves: SMTP ends it with a line end if it has none."""
    return body if body.endswith(b"\r\n") else body + b"\r\n"


@given(st.dictionaries(names, values), bodies)
@settings(max_examples=100, deadline=None)
def test_any_headers_and_body_verify(some, body):
    headers = [(b"From", b"news@clinic.example"), *some.items()]
    signature = sign(headers, body=body)
    assert verifies(message(signature, headers=headers, body=as_sent(body)))


@given(bodies)
@settings(max_examples=200, deadline=None)
def test_bodies_are_canonicalised_as_dkimpy_does(body):
    theirs = dkimpy.canonicalization.Relaxed.canonicalize_body(as_sent(body))
    assert dkim.relaxed_body_sha256(body) == hashlib.sha256(theirs).digest()
