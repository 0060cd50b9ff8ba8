"""What a refusal means, by code, by operator, and only then by text."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.replies import Action, Kind, Reply, classify, retry_after


def verdict(text: str, operator: str | None = None):
    """`550-5.1.1 no such user` → its verdict."""
    code, _, rest = text.partition(" ")
    return classify(Reply.of_lines(int(code), [rest.encode()]), operator)


@pytest.mark.parametrize(
    ("reply", "kind", "action"),
    [
        ("550 5.1.1 x", Kind.HARD_RECIPIENT, Action.SUPPRESS),
        ("550 5.1.2 x", Kind.HARD_RECIPIENT, Action.SUPPRESS),
        ("553 5.1.3 x", Kind.HARD_RECIPIENT, Action.SUPPRESS),
        ("550 5.1.6 x", Kind.HARD_RECIPIENT, Action.SUPPRESS),
        ("556 5.1.10 x", Kind.HARD_RECIPIENT, Action.SUPPRESS),
        ("550 5.7.13 x", Kind.HARD_RECIPIENT, Action.SUPPRESS),
        ("550 5.7.17 x", Kind.HARD_RECIPIENT, Action.SUPPRESS),
        ("550 5.7.18 x", Kind.HARD_RECIPIENT, Action.SUPPRESS),
        ("450 4.2.1 x", Kind.SOFT_MAILBOX, Action.RETRY),
        ("452 4.2.2 x", Kind.SOFT_MAILBOX, Action.RETRY),
        ("552 5.2.2 x", Kind.SOFT_MAILBOX, Action.RETRY),
        ("452 4.3.1 x", Kind.SOFT_MAILBOX, Action.RETRY),
        ("451 4.7.1 greylisted", Kind.SOFT_MAILBOX, Action.RETRY),
        ("451 4.3.2 x", Kind.SOFT_NETWORK, Action.BACK_OFF),
        ("451 4.4.1 x", Kind.SOFT_NETWORK, Action.BACK_OFF),
        ("451 4.4.7 x", Kind.SOFT_NETWORK, Action.BACK_OFF),
        ("421 x", Kind.SOFT_NETWORK, Action.BACK_OFF),
        ("552 5.3.4 x", Kind.CONTENT, Action.STOP_TEMPLATE),
        ("554 5.6.0 x", Kind.CONTENT, Action.STOP_TEMPLATE),
        ("554 5.7.0 message content rejected", Kind.CONTENT, Action.STOP_TEMPLATE),
        ("553 5.6.7 x", Kind.CONTENT, Action.REVIEW),
        ("550 5.7.1 blocked using a blocklist", Kind.POLICY_BLOCK, Action.PAUSE_POOL),
        ("421 4.7.28 x", Kind.POLICY_BLOCK, Action.PAUSE_POOL),
        ("421 4.7.0 unusual rate of unsolicited mail", Kind.POLICY_BLOCK, Action.PAUSE_POOL),
        ("550 5.7.20 x", Kind.AUTH_CONFIG, Action.PAUSE_STREAM),
        ("550 5.7.26 x", Kind.AUTH_CONFIG, Action.PAUSE_STREAM),
        ("550 5.7.515 x", Kind.AUTH_CONFIG, Action.PAUSE_STREAM),
        ("553 5.1.8 x", Kind.AUTH_CONFIG, Action.PAUSE_STREAM),
        ("554 5.7.10 x", Kind.TLS_POLICY, Action.FALL_BACK),
        ("454 4.7.5 x", Kind.TLS_POLICY, Action.FALL_BACK),
        ("530 5.7.0 must issue STARTTLS first", Kind.TLS_POLICY, Action.FALL_BACK),
        ("503 5.5.1 x", Kind.PROTOCOL_BUG, Action.PAGE),
        ("452 4.5.3 x", Kind.PROTOCOL_BUG, Action.PAGE),
        ("500 what", Kind.PROTOCOL_BUG, Action.PAGE),
        ("550 5.7.1 relaying denied", Kind.UNKNOWN, Action.REVIEW),
        ("550 5.4.6 loop", Kind.UNKNOWN, Action.REVIEW),
        ("550 5.7.1 no", Kind.UNKNOWN, Action.REVIEW),
        ("550 no", Kind.UNKNOWN, Action.REVIEW),
        ("451 later", Kind.SOFT_NETWORK, Action.BACK_OFF),
    ],
)
def test_the_table(reply, kind, action):
    found = verdict(reply)
    assert (found.kind, found.action) == (kind, action)
    assert found.retry == reply.startswith("4")


def test_only_hard_and_repeated_soft_refusals_suppress():
    assert verdict("550 5.1.1 x").suppress_after == 1
    assert verdict("550 5.2.1 disabled").suppress_after == 2
    full = verdict("452 4.2.2 full")
    assert (full.suppress_after, full.suppress_over) == (5, timedelta(days=14))
    for reply in ("550 5.7.1 no", "554 5.6.0 x", "550 5.7.26 x", "421 4.7.28 x", "550 no", "503 x"):
        assert verdict(reply).suppress_after == 0


def test_our_faults_alert_and_theirs_do_not():
    assert verdict("550 5.7.26 x").alert and verdict("503 5.5.1 x").alert
    assert verdict("554 5.6.0 x").alert and verdict("550 5.7.1 on a blocklist").alert
    assert not verdict("550 5.1.1 x").alert and not verdict("553 5.6.7 x").alert


def test_an_address_that_changed_hands_is_an_incident():
    assert verdict("550 5.7.17 x").incident
    assert not verdict("550 5.7.18 x").incident


def test_an_operator_may_mean_something_else_by_a_registered_code():
    assert verdict("550 5.7.30 x").kind is Kind.TLS_POLICY
    assert verdict("550 5.7.30 x", "google.com").kind is Kind.AUTH_CONFIG
    assert verdict("550 5.4.1 access denied").kind is Kind.SOFT_NETWORK
    assert verdict("550 5.4.1 access denied", "outlook.com").kind is Kind.HARD_RECIPIENT
    assert verdict("550 5.4.1 access denied", "outlook.com").suppress_after == 2
    assert verdict("550 5.7.606 banned", "outlook.com").kind is Kind.POLICY_BLOCK
    assert verdict("550 5.1.1 x", "nobody.example").kind is Kind.HARD_RECIPIENT


def test_a_contradictory_pair_is_judged_by_its_basic_digit():
    temporary = verdict("450 5.1.1 x")
    assert temporary.retry and temporary.kind is Kind.SOFT_MAILBOX
    assert temporary.action is Action.RETRY and temporary.suppress_after == 5
    for reply in ("450 5.7.17 x", "450 4.7.13 x"):
        assert verdict(reply).kind is Kind.SOFT_MAILBOX
    assert verdict("451 4.4.1 access denied", "outlook.com").kind is Kind.SOFT_NETWORK
    permanent = verdict("550 4.1.1 x")
    assert not permanent.retry and permanent.kind is Kind.HARD_RECIPIENT


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ("550 No such user here", Kind.HARD_RECIPIENT),
        ("550 5.0.0 user unknown", Kind.HARD_RECIPIENT),
        ("554 delivery error: this address does not exist", Kind.HARD_RECIPIENT),
        ("550 sender address rejected: domain not found", Kind.AUTH_CONFIG),
        ("550 fails DMARC", Kind.AUTH_CONFIG),
        ("554 listed at spamhaus", Kind.POLICY_BLOCK),
        ("450 user unknown", Kind.SOFT_MAILBOX),
    ],
)
def test_a_text_is_read_where_the_code_says_nothing(reply, kind):
    found = verdict(reply)
    assert found.kind is kind
    if kind is Kind.HARD_RECIPIENT:
        assert found.suppress_after == 2  # a text may be misread once


@pytest.mark.parametrize("text", ["user unknown", "blocked by spamhaus", "greylisted", "relay"])
def test_a_text_never_overrules_a_code(text):
    assert verdict(f"550 5.1.1 {text}").kind is Kind.HARD_RECIPIENT
    assert verdict(f"554 5.6.0 {text}").kind is Kind.CONTENT
    assert verdict(f"421 4.4.2 {text}").kind is Kind.SOFT_NETWORK
    assert not verdict(f"550 5.7.1 {text}").retry


@given(
    st.integers(400, 599), st.from_regex(r"\A[245]\.\d{1,3}\.\d{1,3} ?", fullmatch=False), st.text()
)
def test_every_refusal_has_a_verdict(code, enhanced, text):
    found = classify(Reply.of_lines(code, [f"{enhanced} {text}".encode("utf-8", "replace")]))
    assert found.retry == (code < 500)
    if code < 500:
        assert found.kind is not Kind.HARD_RECIPIENT
    if found.action is Action.SUPPRESS:
        assert code >= 500 and found.suppress_after in (1, 2)


@pytest.mark.parametrize("code", [220, 250, 354])
def test_an_acceptance_is_no_refusal(code):
    with pytest.raises(ValueError, match="no refusal"):
        classify(Reply(code))


def test_a_reply_of_several_lines_is_one_text_without_controls():
    reply = Reply.of_lines(550, [b"5.1.1 no\x1b[31m such", b"5.1.1 user\x00\xff", b"5.1.1"])
    assert (reply.code, reply.enhanced) == (550, "5.1.1")
    assert reply.text == "no [31m such user \ufffd"
    assert Reply.of_lines(550, [b"x" * 4000]).text == "x" * 500


def test_a_reply_in_a_log_does_not_show_its_text():
    reply = Reply.of_lines(550, [b"5.1.1 pat@receiver.example is unknown"])
    assert f"{reply} {reply!r}" == "550 5.1.1 <Reply 550 5.1.1>"
    assert repr(Reply(421, "4.4.2", "secret", local=True)) == "<Reply 421 4.4.2 local>"


def test_retries_begin_at_five_minutes_and_grow_to_hours():
    waits = [retry_after(attempt, random=lambda: 0.0) for attempt in range(1, 9)]
    assert waits[:6] == [timedelta(minutes=m) for m in (5, 30, 60, 120, 240, 240)]
    assert retry_after(10_000, random=lambda: 0.0) == timedelta(hours=4)
    assert retry_after(1, random=lambda: 1.0) == timedelta(minutes=7.5)
    assert retry_after(1, scale=0.01, random=lambda: 0.0) == timedelta(seconds=3)


@given(st.integers(1, 50))
def test_what_was_deferred_together_does_not_come_back_together(attempt):
    waits = {retry_after(attempt) for _ in range(20)}
    assert len(waits) > 10
    assert min(waits) >= retry_after(attempt, random=lambda: 0.0)


@pytest.mark.parametrize(("attempt", "scale"), [(0, 1.0), (1, 0.0), (1, -1.0)])
def test_nonsense_is_no_wait(attempt, scale):
    with pytest.raises(ValueError, match="attempt"):
        retry_after(attempt, scale=scale)
