"""What Django's middleware does not do as we need it."""

from collections.abc import Callable
from typing import Any

from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.http import HttpRequest, HttpResponse


class LoginRequired(LoginRequiredMiddleware):
    """Ask who somebody is only where that matters.

    Django's looks at the session before it looks whether the page is open to everybody. Public pages then vary
    by a cookie, cost a query for whoever brings one, and answer a stale one by deleting it; RFC 8058 wants
    them to have nothing to do with cookies.
    """

    def process_view(
        self, request: HttpRequest, view_func: Callable[..., Any], view_args: Any, view_kwargs: Any
    ) -> HttpResponse | None:
        """Return None to let a request through, else the way to the sign-in page."""
        if not getattr(view_func, "login_required", True):
            return None
        return super().process_view(request, view_func, view_args, view_kwargs)
