"""PDF out of our own templates: the one door to WeasyPrint, which may fetch nothing but what we hand it."""

from typing import Any

import weasyprint
from django.contrib.staticfiles import finders
from django.core.exceptions import SuspiciousFileOperation
from django.template.loader import render_to_string
from django.utils.translation import get_language
from weasyprint.urls import FatalURLFetchingError, URLFetcher, URLFetcherResponse

#: What a template puts before the name of one of our static files: `url(static:css/report.css)`.
STATIC = "static:"
#: File endings that a document may ask for, and what they are.
KINDS = {
    "css": "text/css",
    "png": "image/png",
    "svg": "image/svg+xml",
    "woff2": "font/woff2",
    "ttf": "font/ttf",
}


class Refused(ValueError):
    """A document asked for something that is neither in it nor among our static files."""


class OursOnly(URLFetcher):
    """Gives a document its `data:` addresses and our static files, and nothing from disk or network.

    WeasyPrint's own fetcher reads `file://` and any address that the server can reach: a picture in a report
    would be a way to read /etc/passwd (server-side request forgery).
    """

    def __init__(self) -> None:
        super().__init__(allowed_protocols=["data"], allow_redirects=False, fail_on_errors=True)

    def fetch(self, url: str, headers: dict[str, str] | None = None) -> URLFetcherResponse:
        """Return what the address stands for; raises Refused."""
        if url[:5].lower() == "data:":
            return super().fetch(url, headers)
        name = url.removeprefix(STATIC)
        kind = KINDS.get(name.rpartition(".")[2]) if name != url else None
        path = _found(name) if kind else None
        if path is None:
            raise Refused("neither data: nor one of our static files")
        with open(path, "rb") as file:
            return URLFetcherResponse(url, file.read(), {"Content-Type": kind})


def _found(name: str) -> str | None:
    try:
        return finders.find(name)
    except SuspiciousFileOperation:  # a path that leads out of them
        return None


def render(template: str, context: dict[str, Any]) -> bytes:
    """Return the template as an accessible PDF (PDF/UA-1, ISO 14289-1).

    The template gets the context and `language`, for `<html lang="{{ language }}">`, without which screen
    readers guess; it needs a `<title>` as well. Raises Refused when it asks for more than `data:` and
    `static:` addresses.
    """
    html = render_to_string(template, {"language": get_language() or "en", **context})
    document = weasyprint.HTML(string=html, base_url=None, url_fetcher=OursOnly())
    try:
        return document.write_pdf(pdf_variant="pdf/ua-1")
    except FatalURLFetchingError:
        # Its message quotes the address, which may hold anything.
        raise Refused("The document asks for more than data: and our static files.") from None
