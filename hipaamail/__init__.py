"""Wiring: settings, URLs, Celery, middleware, embedded servers. Nobody imports this package."""

from hipaamail.celery import app as celery_app

__all__ = ["celery_app"]
