"""Which addresses are usable, and which are refused without being repeated."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contacts.addresses import BadAddress, check
from phi.digest import normal_address


@pytest.mark.parametrize(
    ("written", "sendable", "normal"),
    [
        ("ann@example.org", "ann@example.org", "ann@example.org"),
        (
            " Ann.O'Neil+news@EXAMPLE.org ",
            "Ann.O'Neil+news@example.org",
            "ann.o'neil+news@example.org",
        ),
        ("ann@müller.example", "ann@xn--mller-kva.example", "ann@xn--mller-kva.example"),
        ("ann@MU\u0308LLER.example.", "ann@xn--mller-kva.example", "ann@xn--mller-kva.example"),
        ("ann@XN--MLLER-KVA.example", "ann@xn--mller-kva.example", "ann@xn--mller-kva.example"),
        ("ann@faß.example", "ann@xn--fa-hia.example", "ann@xn--fa-hia.example"),
        # A homograph is another domain, and looks it.
        ("ann@ex\u0430mple.org", "ann@xn--exmple-4nf.org", "ann@xn--exmple-4nf.org"),
        ("ann@clinic.test", "ann@clinic.test", "ann@clinic.test"),
        ("ann@x.INVALID", "ann@x.invalid", "ann@x.invalid"),
    ],
)
def test_an_address_is_sent_to_its_a_label_and_found_however_it_is_written(
    written, sendable, normal
):
    found = check(written)

    assert (found.sendable, found.normal, found.needs_smtputf8) == (sendable, normal, False)


def test_letters_before_the_at_sign_are_kept_and_need_smtputf8():
    found = check("Ju\u0308rgen@müller.example")

    assert found.sendable == "J\u00fcrgen@xn--mller-kva.example"
    assert found.normal == "j\u00fcrgen@xn--mller-kva.example"
    assert found.needs_smtputf8


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("", "address_missing"),
        ("  ", "address_missing"),
        ("ann", "address_at_sign"),
        ("@example.org", "address_at_sign"),
        ("ann@", "address_at_sign"),
        ("a@b@example.org", "address_at_sign"),
        ("ann@example.org,bob@example.org", "address_characters"),
        ("ann@example.org;bob@example.org", "address_characters"),
        ("Ann <ann@example.org>", "address_characters"),
        ("a@d>,<b@d", "address_characters"),
        ('"a\r\nRCPT TO:<x>"@example.org', "address_characters"),
        ("ann@example.org\r\nBcc: bob@example.org", "address_characters"),
        ("ann@example.org\n", "address_characters"),
        ("an n@example.org", "address_characters"),
        ("an\x00n@example.org", "address_characters"),
        ("ann\u2028@example.org", "address_characters"),
        ("ann\x85@example.org", "address_characters"),
        ("\u202eann@example.org", "address_characters"),
        ("ann\u200b@example.org", "address_characters"),
        ('"ann smith"@example.org', "address_characters"),
        ('"ann"@example.org', "address_characters"),
        ("ann\\@example.org", "address_characters"),
        ("=?utf-8?q?=0A?=@example.org", "address_encoded_word"),
        (".ann@example.org", "address_local_part"),
        ("ann..smith@example.org", "address_local_part"),
        ("ann.@example.org", "address_local_part"),
        ("ann@[127.0.0.1]", "address_ip"),
        ("ann@[IPv6", "address_ip"),
        ("ann@127.0.0.1", "address_domain"),
        ("ann@localhost", "address_local_domain"),
        ("ann@LOCALHOST.", "address_local_domain"),
        ("ann@host.local", "address_local_domain"),
        ("ann@host.onion", "address_local_domain"),
        ("ann@example", "address_domain"),
        ("ann@test", "address_domain"),
        ("ann@-example.org", "address_domain"),
        ("ann@exam_ple.org", "address_domain"),
        ("ann@example..org", "address_domain"),
        ("ann@example.org..", "address_domain"),
        ("ann@example.123", "address_domain"),
        ("ann@xn--a.org", "address_domain"),
        ("a" * 65 + "@example.org", "address_too_long"),
        ("ü" * 33 + "@example.org", "address_too_long"),
        ("a@" + "b" * 64 + ".org", "address_domain"),
        ("a@" + ".".join(["b" * 60] * 5), "address_too_long"),
    ],
)
def test_a_bad_address_is_refused_with_its_own_code(written, code):

    with pytest.raises(BadAddress) as refused:
        check(written)

    assert refused.value.code == code
    named = written.strip().split("@")
    assert not any(len(part) > 3 and part in str(refused.value) for part in named)


@pytest.mark.parametrize("local", ["a" * 64, "ü" * 32])
def test_the_longest_local_part_passes(local):
    assert check(f"{local}@example.org").local == local


@given(
    st.emails()
    | st.builds(
        "{}@{}.example".format,
        st.text("abcXYZäöÜßıİǅ.+-", min_size=1, max_size=9),
        st.text("abXYäÖß-", min_size=1, max_size=9),
    )
)
def test_its_normal_form_is_the_one_that_suppressions_are_found_by(written):
    try:
        found = check(written)
    except BadAddress:
        return

    assert found.normal == normal_address(written) == normal_address(found.sendable)
    again = check(found.sendable)
    assert (again.sendable, again.normal) == (found.sendable, found.normal)
