#!/usr/bin/env python
"""Django's commands: `.venv/bin/python manage.py …`, after bin/demo or bin/test has made .venv."""

import os
import signal
import sys


def main() -> None:
    """Run the command on the command line."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hipaamail.settings")
    # Exit handlers run on SIGTERM too, so that the embedded servers stop with the last who needs them.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        from django.core.management import execute_from_command_line
    except ImportError:
        sys.exit(
            "Django is not installed here: run bin/test once, then .venv/bin/python manage.py …"
        )
    if os.environ.get("HIPAAMAIL_ENV") == "production":
        from phi.redact import excepthook

        # A command that dies prints no message of a package: psycopg, for one, quotes rows.
        sys.excepthook = excepthook
    try:
        execute_from_command_line(sys.argv)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main()
