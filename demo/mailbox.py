"""A sealed box of received messages: one file each, under a key that is only ever in memory.

What the demonstration receives holds invented patients' names and addresses, and its state directory
must not show one in clear.
"""

import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM


@dataclass(frozen=True, slots=True)
class Received:
    """One message as it arrived. `tls_version` is empty for what came in clear."""

    number: int
    peer_ip: str
    port: int
    helo: str
    tls_version: str
    tls_cipher: str
    envelope_from: str
    envelope_to: str
    received_at: datetime
    message: bytes


class Store:
    """A directory of sealed messages, one file each, readable by the holder of the key alone."""

    def __init__(self, directory: Path, key: bytes) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        self._directory = directory
        self._seal = AESGCM(key)
        self._number = max((int(path.stem) for path in directory.glob("*.sealed")), default=0)

    def add(self, **facts: str | int | bytes) -> None:
        """Seal and keep one message; it is there as a whole or not at all."""
        self._number += 1
        name = f"{self._number:09d}.sealed"
        message = bytes(facts.pop("message"))  # type: ignore[arg-type]
        head = {**facts, "number": self._number, "received_at": time.time()}
        nonce = secrets.token_bytes(12)
        plain = json.dumps(head).encode() + b"\n" + message
        sealed = nonce + self._seal.encrypt(nonce, plain, name.encode())
        unborn = self._directory / f"{name}.new"
        descriptor = os.open(unborn, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(sealed)
            unborn.rename(self._directory / name)
        except OSError:
            unborn.unlink(missing_ok=True)
            raise


def read_all(directory: Path, key: bytes) -> Iterator[Received]:
    """Yield the messages of a store in the order of their arrival.

    Raises:
        cryptography.exceptions.InvalidTag: another key, or a file that was changed or renamed.
    """
    seal = AESGCM(key)
    for path in sorted(directory.glob("*.sealed")):
        sealed = path.read_bytes()
        plain = seal.decrypt(sealed[:12], sealed[12:], path.name.encode())
        head, _, message = plain.partition(b"\n")
        facts = json.loads(head)
        facts["received_at"] = datetime.fromtimestamp(facts["received_at"], UTC)
        yield Received(**facts, message=message)
