"""Keeps PHI out of logs and error pages: addresses, days and quoted values are blanked, and an exception shows
where it happened, not what it says."""

import functools
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from django.apps import apps
from django.conf import settings
from django.http import HttpRequest
from django.utils.html import escape
from django.views.debug import ExceptionReporter, SafeExceptionReporterFilter

WITHHELD = "[withheld]"
#: Each with what takes its place. Names have no pattern: they are kept out by not printing messages.
PATTERNS = (
    # The token of a public link: whoever holds it may act for the person (/u/<token>).
    (re.compile(r"(?<=/)[A-Za-z0-9_-]{40,}"), "[token]"),
    # From here on PostgreSQL quotes a row, a value, or the statement.
    (
        re.compile(
            r"(DETAIL:|CONTEXT:|LINE \d+:|Failing row contains|Key \([^)]*\)=|invalid input \w+ for)\s*.*",
            re.S,
        ),
        rf"\1 {WITHHELD}",
    ),
    (re.compile(r"[^\s<>\"'(),;:=\[\]]+@[^\s<>\"'(),;:=\[\]]+"), "[address]"),
    (re.compile(r"\b(?:19|20)\d\d-?[01]\d-?[0-3]\d(?![\dT])"), "[date]"),
    (re.compile(r"\b[0-3]?\d[/.][0-3]?\d[/.](?:19|20)\d\d\b"), "[date]"),
    (re.compile(r"\b\d{3}-\d{2}-\d{4}\b"), "[number]"),
    (re.compile(r"(?<!\w)(?:\+?1[-. ])?\(?\d{3}\)?[-. ]\d{3}[-. ]\d{4}\b"), "[number]"),
)
#: What would begin a forged line, or speak to the terminal.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def redact(text: str) -> str:
    """Return `text` as one line, without addresses, calendar days, numbers of persons and database values."""
    for pattern, instead in PATTERNS:
        text = pattern.sub(instead, text)
    return CONTROL.sub(lambda m: repr(m[0])[1:-1], text)


def told(error: BaseException) -> str:
    """Return what may be said of an exception: its type, and its message if the type is one of ours.

    Ours are written to hold ids and field names only. Others quote what was being handled.
    """
    kind = type(error)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if apps.apps_ready and kind.__module__.partition(".")[0] in _our_packages():
        return f"{name}: {redact(str(error))}"
    return name


def places(error: BaseException | None) -> Iterator[str]:
    """Yield the lines of a traceback that quotes nothing, the first cause first."""
    chain: list[BaseException] = []
    while error is not None and not any(error is link for link in chain):
        chain.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    for link in reversed(chain):
        trace = link.__traceback__
        while trace is not None:
            code = trace.tb_frame.f_code
            yield f"  {code.co_filename}:{trace.tb_lineno} in {code.co_name}"
            trace = trace.tb_next
        yield told(link)


class Formatter(logging.Formatter):
    """Formats a record as one redacted line, with the places of its exception below."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record; never raises."""
        head = f"{self.formatTime(record)} {record.levelname} {record.name}"
        lines = [f"{head} {redact(_message(record))}"]
        if record.exc_info:
            lines += places(record.exc_info[1])
        if record.stack_info:
            lines.append(self.formatStack(record.stack_info))
        return "\n".join(lines)


class PlacesOnly(ExceptionReporter):
    """What the debug page and reports to administrators show: types and places."""

    def get_traceback_text(self) -> str:
        """Return the places as text."""
        return "\n".join(places(self.exc_value))

    def get_traceback_html(self) -> str:
        """Return the places as a page."""
        return (
            "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Error</title></head>"
            f"<body><pre>{escape(self.get_traceback_text())}</pre></body></html>"
        )


class NothingShown(SafeExceptionReporterFilter):
    """For reporters of others: no local variables, no settings, no request data."""

    def is_active(self, request: HttpRequest | None) -> bool:
        return True

    def get_safe_settings(self) -> dict[str, Any]:
        return {}

    def get_safe_request_meta(self, request: HttpRequest) -> dict[str, Any]:
        return {}

    def get_safe_cookies(self, request: HttpRequest) -> dict[str, Any]:
        return {}

    def get_post_parameters(self, request: HttpRequest | None) -> dict[str, Any]:
        return {}

    def get_traceback_frame_variables(self, request: HttpRequest, tb_frame: Any) -> list:
        return []


def excepthook(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print what ended a process, as `sys.excepthook`."""
    logging.getLogger("hipaamail").critical("The process ends.", exc_info=(kind, error, trace))


def _message(record: logging.LogRecord) -> str:
    args = record.args
    if isinstance(args, dict):
        args = {key: _argument(value) for key, value in args.items()}
        # Celery hands over the exception as text already, and the arguments of the task.
        args |= {key: WITHHELD for key in ("exc", "traceback", "args", "kwargs") if key in args}
    else:
        args = tuple(_argument(value) for value in args or ())
    try:
        text = str(_argument(record.msg))
        return text % args if args else text
    except (TypeError, ValueError, KeyError):
        return f"{WITHHELD} (a message that does not fit its arguments)"


def _argument(value: Any) -> Any:
    return told(value) if isinstance(value, BaseException) else value


@functools.cache
def _our_packages() -> frozenset[str]:
    base = Path(settings.BASE_DIR)
    return frozenset(
        config.name.partition(".")[0]
        for config in apps.get_app_configs()
        if Path(config.path).parent == base
    )
