"""What logs and error pages show of an exception, a message or a request: nothing about a person."""

import logging
import sys

import psycopg
import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.test import RequestFactory
from django.views.debug import technical_500_response

from accounts.models import User
from phi.keys import Unreadable
from phi.redact import Formatter, PlacesOnly, excepthook, redact
from tests.factories import make_user

#: An invented patient, in every form in which she could turn up.
CANARIES = ["Zelda", "Quimby", "zelda.quimby", "quimby.example", "1951-04-02", "555-867-5309"]
SENTENCE = "Zelda Quimby <zelda.quimby@quimby.example>, born 1951-04-02, 555-867-5309"


class SMTPReply(Exception):
    """As a package raises it: the text is the other server's."""


def shows(text):
    return [canary for canary in CANARIES if canary in text]


def logged(message, *args, error=None, **kwargs):
    info = None if error is None else (type(error), error, error.__traceback__)
    record = logging.LogRecord("test", logging.ERROR, __file__, 1, message, args, info, **kwargs)
    return Formatter().format(record)


def raised(error, cause=None):
    try:
        if cause is None:
            raise error
        try:
            raise cause
        except type(cause) as first:
            raise error from first
    except type(error) as caught:
        return caught


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("to ann@mail.example now", "to [address] now"),
        ("to <Ann.B+c@mail.example>", "to <[address]>"),
        ("jos\u00e9@b\u00fccher.example.", "[address]"),
        ("born 1951-04-02", "born [date]"),
        ("born 19510402!", "born [date]!"),
        ("born 4/2/1951 or 02.04.1951", "born [date] or [date]"),
        ("at 2026-11-24T08:00:00Z", "at 2026-11-24T08:00:00Z"),
        ("ssn 123-45-6789", "ssn [number]"),
        ("call (555) 867-5309 or +1-555-867-5309", "call [number] or [number]"),
        ("Key (email)=(Zelda) already exists.", "Key (email)= [withheld]"),
        (
            "Failing row contains (1, Zelda, Quimby).\nmore Quimby",
            "Failing row contains [withheld]",
        ),
        ('invalid input syntax for type uuid: "Zelda"', "invalid input syntax for [withheld]"),
        ("line one\nCRITICAL forged\x1b[31m", "line one\\nCRITICAL forged\\x1b[31m"),
        (
            "message 01a20cb8-1860-7163-95a7-d598e3ae3eed",
            "message 01a20cb8-1860-7163-95a7-d598e3ae3eed",
        ),
        (
            "550 5.1.1 from 127.0.0.11:2526 in 1234567890 ms",
            "550 5.1.1 from 127.0.0.11:2526 in 1234567890 ms",
        ),
    ],
)
def test_patterns_take_out_what_identifies_and_leave_what_helps(text, left):
    assert redact(text) == left


def test_a_line_has_time_level_logger_and_message():
    line = logged("took %d rows", 5)

    assert line.endswith(" ERROR test took 5 rows")
    assert line[:2] == "20"
    assert "[date]" not in line


def test_exceptions_given_as_message_or_argument_show_their_type_only():
    error = SMTPReply(f"550 {SENTENCE} over quota")

    for line in (
        logged(error),
        logged("refused: %s", error),
        logged("refused: %(e)s", {"e": error}),
    ):
        assert shows(line) == []
        assert "SMTPReply" in line


def test_a_traceback_names_places_of_the_whole_chain_and_no_message():
    error = raised(SMTPReply(SENTENCE), cause=ValueError(SENTENCE))
    text = logged("failed", error=error)

    assert shows(text) == []
    assert text.index("ValueError") < text.index("SMTPReply")
    assert "test_redact.py" in text
    assert "in raised" in text


def test_a_chain_that_bites_its_tail_ends():
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first

    assert logged("failed", error=first).count("ValueError") == 2


def test_messages_of_our_own_exceptions_are_kept_and_redacted():
    text = logged("failed", error=raised(Unreadable(f"data key 7: {SENTENCE.split(' <')[1]}")))

    assert "phi.keys.Unreadable: data key 7" in text
    assert "quimby.example" not in text
    assert "1951-04-02" not in text


def test_an_exception_from_a_package_that_only_looks_like_ours_is_not_ours():
    kind = type("Unreadable", (Exception,), {"__module__": "phial.keys"})

    assert "Zelda" not in logged("failed", error=raised(kind("Zelda")))


def test_a_unique_violation_shows_no_value(db):
    make_user(email="zelda.quimby@quimby.example", name="Zelda Quimby")
    with pytest.raises(IntegrityError) as caught, transaction.atomic():
        make_user(email="zelda.quimby@quimby.example", name="Zelda Quimby")

    assert "zelda.quimby" in str(caught.value)
    for text in (
        logged("failed", error=caught.value),
        logged("failed: %s", caught.value),
        logged(f"failed: {caught.value}"),
    ):
        assert shows(text) == []
    assert "UniqueViolation" in logged("failed", error=caught.value)


def test_a_failing_check_and_a_bad_type_show_no_value(db):
    for sql in (
        "UPDATE accounts_user SET email = 'ZELDA.QUIMBY@quimby.example' RETURNING name",
        "SELECT 'Zelda Quimby'::uuid",
        "SELECT 'Zelda Quimby' FROM nowhere",
    ):
        make_user(name="Zelda Quimby")
        with (
            pytest.raises(DatabaseError) as caught,
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(sql)
        assert shows(logged(f"failed: {caught.value}", error=caught.value)) == []
        assert isinstance(caught.value.__cause__, psycopg.Error)


def test_what_celery_says_of_a_failed_task_shows_neither_exception_nor_arguments():
    context = {
        "name": "delivery.tasks.wake",
        "id": "01a2",
        "description": "raised unexpected",
        "exc": f"SMTPReply({SENTENCE!r})",
        "traceback": SENTENCE,
        "args": f"({SENTENCE!r},)",
        "kwargs": SENTENCE,
    }
    message = "Task %(name)s[%(id)s] %(description)s: %(exc)s %(args)s %(kwargs)s %(traceback)s"
    line = logged(message, context)

    assert shows(line) == []
    assert "Task delivery.tasks.wake[01a2] raised unexpected" in line


def test_a_message_that_does_not_fit_its_arguments_is_withheld_and_not_raised(capsys):
    line = logged("%d of %s", SENTENCE)

    assert shows(line) == []
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("message", [None, 5, ["ann@mail.example"], {"email": "ann@mail.example"}])
def test_a_message_that_is_no_text_is_redacted_too(message):
    assert "ann@" not in logged(message)


def test_a_stack_is_shown_by_its_places():
    line = logged("here", sinfo="Stack (most recent call last):\n  File x, line 1")

    assert "Stack (most recent call last)" in line


def page(settings, *, debug):
    settings.DEBUG = debug
    settings.DEFAULT_EXCEPTION_REPORTER = "phi.redact.PlacesOnly"
    request = RequestFactory().post(
        "/contacts/?name=Zelda+Quimby",
        {"email": "zelda.quimby@quimby.example", "password": "Quimby"},
        headers={"cookie": "who=Zelda"},
    )
    patient = SENTENCE  # a local variable, as a debug page would show it
    try:
        raise SMTPReply(patient)
    except SMTPReply:
        return technical_500_response(request, *sys.exc_info())


@pytest.mark.parametrize("debug", [True, False])
def test_the_debug_page_shows_places_only(settings, debug):
    body = page(settings, debug=debug).content.decode()

    assert shows(body) == []
    assert "SMTPReply" in body
    assert "test_redact.py" in body
    assert settings.SECRET_KEY not in body


def test_the_reporters_text_shows_places_only():
    error = raised(SMTPReply(SENTENCE))
    reporter = PlacesOnly(
        RequestFactory().get("/?n=Zelda"), type(error), error, error.__traceback__
    )

    assert shows(reporter.get_traceback_text()) == []
    assert shows(reporter.get_traceback_html()) == []


def test_reporters_of_others_get_no_settings_no_request_and_no_variables():
    from django.views.debug import ExceptionReporter

    error = raised(SMTPReply("x"), cause=None)
    request = RequestFactory().post("/", {"name": "Zelda Quimby"}, headers={"cookie": "who=Zelda"})
    data = ExceptionReporter(request, type(error), error, error.__traceback__).get_traceback_data()

    assert data["settings"] == {}
    assert data["request_meta"] == {}
    assert list(data["filtered_POST_items"]) == []
    assert all(frame["vars"] == [] for frame in data["frames"])


def test_a_process_that_dies_says_where(caplog):
    error = raised(SMTPReply(SENTENCE))
    with caplog.at_level(logging.CRITICAL, "hipaamail"):
        excepthook(type(error), error, error.__traceback__)

    (record,) = caplog.records
    text = Formatter().format(record)
    assert shows(text) == []
    assert "in raised" in text


def test_nobody_is_named_in_the_text_of_a_user():
    assert "quimby.example" not in repr(User(email="zelda.quimby@quimby.example", name="Z"))


def test_every_handler_is_redacted():
    """No logger, Django's own included, writes past the formatter."""
    loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]
    writing = {
        (logger.name, type(handler).__name__)
        for logger in loggers
        for handler in logger.handlers
        if not isinstance(handler, logging.NullHandler)
        and not type(handler).__module__.startswith("_pytest")
        and not isinstance(handler.formatter, Formatter)
    }

    assert writing == set()


def test_the_site_reports_errors_by_places_only(settings):
    assert settings.DEFAULT_EXCEPTION_REPORTER == "phi.redact.PlacesOnly"
    assert settings.DEFAULT_EXCEPTION_REPORTER_FILTER == "phi.redact.NothingShown"
