"""Addresses of the public pages; `u/` is delivery.unsubscribe.PATH."""

from django.urls import path, register_converter

from delivery import views


class Colour:
    """Six lower-case hexadecimal digits."""

    regex = "[0-9a-f]{6}"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(Colour, "colour")

app_name = "delivery"
urlpatterns = [
    path("u/accent/<colour:colour>.css", views.accent_sheet, name="accent"),
    # Whatever is asked for below u/ gets the same answer when it is no token.
    path("u/<path:token>", views.stop, name="unsubscribe"),
]
