"""Every address of the site, app by app."""

from django.urls import URLPattern, URLResolver, include, path

from hipaamail import health

urlpatterns: list[URLPattern | URLResolver] = [
    path("healthz", health.healthz, name="healthz"),
    path("", include("delivery.urls")),
]
