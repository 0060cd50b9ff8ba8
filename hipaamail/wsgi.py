"""The web server's entry."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hipaamail.settings")
application = get_wsgi_application()

from phi.checks import insist  # noqa: E402 - the apps must be loaded first

insist()
