"""The public pages: stopping email by the link in it, for people and for mail programs."""

from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from csp.decorators import csp
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import TooManyFieldsSent
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_safe

from builder import colours
from delivery import accent, unsubscribe, wording
from delivery.models import Message
from phi.keys import Unreadable

View = Callable[..., HttpResponse]

#: The largest body that is read; ours has 11 bytes, a mail program's as a form of parts a few hundred.
LARGEST_BODY = 4096

POLICY = {
    "default-src": ["'none'"],
    "style-src": ["'self'"],
    "form-action": ["'self'"],
    "base-uri": ["'none'"],
    "frame-ancestors": ["'none'"],
}


def private(view: View) -> View:
    """Mark an answer as nobody's to keep, to index or to tell of: its address is a key."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response = view(request, *args, **kwargs)
        response["Cache-Control"] = "no-store"
        response["Referrer-Policy"] = "no-referrer"
        response["X-Robots-Tag"] = "noindex, nofollow"
        if request.method == "HEAD":
            # Servers drop the body anyhow, and gunicorn logs a warning for each.
            response["Content-Length"] = str(len(response.content))
            response.content = b""
        return response

    return csp(POLICY)(wrapped)


@login_not_required
@csrf_exempt
@private
@require_http_methods(["GET", "HEAD", "POST"])
def stop(request: HttpRequest, token: str) -> HttpResponse:
    """Ask (GET), or stop (POST): RFC 8058, with no cookie, sign-in, referrer or redirect.

    GET changes nothing, since mail scanners follow links. Every POST stops, whatever its body says, but for
    the one of our own form that takes a stop back: a mail program that sends the pair of RFC 8058 in another
    case, as parts, or not at all, speaks for a person who wants to be left alone, and an unwanted stop can
    be taken back while an unheard one cannot.
    """
    if _body_length(request) > LARGEST_BODY:
        return HttpResponse("Too long.\n", content_type="text/plain; charset=utf-8", status=413)
    message = _message(unsubscribe.read(token))
    if message is None:
        return render(request, "404.html", status=404)
    if request.method == "POST":
        return _posted(request, message)
    return _page(request, message, "stopped" if unsubscribe.is_stopped(message) else "ask")


@login_not_required
@require_safe
def accent_sheet(request: HttpRequest, colour: str) -> HttpResponse:
    """Return the style sheet of a colour (six hexadecimal digits)."""
    response = HttpResponse(accent.sheet(f"#{colour}"), content_type="text/css; charset=utf-8")
    response["Cache-Control"] = "public, max-age=31536000, immutable"
    return response


def _posted(request: HttpRequest, message: Message) -> HttpResponse:
    form = _form(request)
    if form.get("again") == "yes":
        unsubscribe.take_back(message)
        again = not unsubscribe.is_stopped(message)
        return _page(request, message, "again" if again else "stopped")
    on_page = form.get("confirm") == "yes"
    unsubscribe.stop(message, source=unsubscribe.PAGE if on_page else unsubscribe.ONE_CLICK)
    if on_page:
        return _page(request, message, "stopped", just_now=True)
    done = wording.COMMON[_language(request, message)]["one_click"]
    return HttpResponse(f"{done}\n", content_type="text/plain; charset=utf-8")


def _message(message_id: UUID | None) -> Message | None:
    if message_id is None:
        return None
    return (
        Message.objects.select_related("organization", "campaign", "contact")
        .defer("values")
        .filter(pk=message_id)
        .first()
    )


def _page(
    request: HttpRequest, message: Message, state: str, *, just_now: bool = False
) -> HttpResponse:
    language = _language(request, message)
    purpose = unsubscribe.purpose_of(message)
    brand = message.organization.accent.lower()
    context = {
        "state": state,
        "language": language,
        "other_language": "en" if language == "es" else "es",
        "words": wording.words(language, purpose.stop_scope, message.organization.name),
        "organization": message.organization,
        "accent": brand.removeprefix("#") if colours.COLOUR.fullmatch(brand) else "",
        "just_now": just_now,
        "can_take_back": state == "stopped" and unsubscribe.can_take_back(message),
        "has_permission": purpose.needs_authorization,
    }
    response = render(request, "delivery/unsubscribe.html", context)
    response["Content-Language"] = language
    return response


def _language(request: HttpRequest, message: Message) -> str:
    """What the reader chose on the page, else the person's language, else the browser's."""
    try:
        spoken = message.contact.language
    except Unreadable:  # the person's data was destroyed; the link still works
        spoken = None
    return (
        wording.known(request.GET.get("language"))
        or wording.known(spoken)
        or wording.known(getattr(request, "LANGUAGE_CODE", None))
        or "en"
    )


def _form(request: HttpRequest) -> QueryDict:
    """Return the fields of a url-encoded body, as our form sends it; what a stranger sends is not parsed."""
    if request.content_type != "application/x-www-form-urlencoded":
        return QueryDict()
    try:
        return QueryDict(request.body, encoding="utf-8")
    except TooManyFieldsSent:
        return QueryDict()


def _body_length(request: HttpRequest) -> int:
    length = request.META.get("CONTENT_LENGTH") or "0"
    return int(length) if length.isdecimal() else 0
