"""Keeps PHI out of logs and error pages: addresses, dates and quoted database values are blanked."""

import logging
import re
from typing import Any

from django.http import HttpRequest
from django.views.debug import SafeExceptionReporterFilter

ADDRESS = re.compile(r"[^\s<>\"'(),;:=\[\]]+@[^\s<>\"'(),;:\[\]]+")
#: What PostgreSQL quotes from a row: `Key (email)=(…) already exists`, `Failing row contains (…)`, `DETAIL:` lines.
DATABASE_VALUES = re.compile(r"(?P<head>DETAIL:|Failing row contains|Key \([^)]*\)=)\s*.*", re.S)
DATE = re.compile(r"\b(?:19|20)\d\d-[01]\d-[0-3]\d\b(?!T)")


def redact(text: str) -> str:
    """Return `text` without addresses, calendar days and values that the database quoted."""
    text = DATABASE_VALUES.sub(lambda m: m["head"] + " [withheld]", text)
    return DATE.sub("[date]", ADDRESS.sub("[address]", text))


class Formatter(logging.Formatter):
    """Formats a record as one redacted line; an exception shows its type and where, never its message.

    Messages of exceptions may quote what was being handled, so only those that are ours are kept.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record)) if not record.exc_info else self._with_trace(record)

    def _with_trace(self, record: logging.LogRecord) -> str:
        kind, _, trace = record.exc_info or (None, None, None)
        info, record.exc_info, record.exc_text = record.exc_info, None, None
        try:
            line = redact(super().format(record))
        finally:
            record.exc_info = info
        places = []
        while trace is not None:
            code = trace.tb_frame.f_code
            places.append(f"  {code.co_filename}:{trace.tb_lineno} in {code.co_name}")
            trace = trace.tb_next
        return "\n".join([line, *places, kind.__qualname__ if kind else ""])


class NothingShown(SafeExceptionReporterFilter):
    """Error reports carry no local variables, no settings, no request data."""

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
