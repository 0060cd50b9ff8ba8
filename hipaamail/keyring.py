"""Keys of the installation: from the environment, from files, or in development made once."""

import base64
import binascii
import os
import secrets
from pathlib import Path

from hipaamail import env


class Keyring:
    """Finds a key by its variable's name.

    `make`: whether a missing key is made (development) in a 0600 file of `directory`. In production a
    missing key is returned empty, and the numbered system checks of `phi` refuse to start.
    """

    def __init__(self, directory: Path, *, make: bool) -> None:
        self.directory = directory
        self.make = make

    def text(self, name: str) -> str:
        """Return the key as it is written."""
        value = env.secret(name)
        return value if value or not self.make else self._made(name)

    def one_bytes(self, name: str) -> bytes:
        """Return the key's 32 bytes; empty when missing or malformed (a system check tells)."""
        keys = self.bytes_list(name)
        return keys[0] if keys else b""

    def bytes_list(self, name: str) -> list[bytes]:
        """Return several comma-separated keys, the newest first."""
        return [_decoded(part) for part in self.text(name).split(",") if part.strip()]

    def _made(self, name: str) -> str:
        path = self.directory / f"{name.removeprefix('HIPAAMAIL_').lower()}.key"
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Written apart and linked, so that two processes starting at once agree on one key.
        fresh = path.with_suffix(f".{os.getpid()}")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(base64.b64encode(secrets.token_bytes(32)).decode())
        try:
            os.link(fresh, path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
        return path.read_text().strip()


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        return b""
