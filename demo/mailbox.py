"""A sealed box of received messages, under a key that is only ever in memory.

What the demonstration receives holds invented patients' names and addresses, and its state directory
must not show one in clear. A receiver appends frames to a file of its own: the length (4 bytes), a
nonce (12 bytes), and the message under AES-256-GCM, bound to the file's name and the frame's place.
"""

import itertools
import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_LENGTH = 4
_NONCE = 12


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
    """The file of one receiver in a directory of sealed messages."""

    def __init__(self, directory: Path, key: bytes) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        self._name = f"{time.time_ns()}-{os.getpid()}.sealed"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(directory / self._name, flags, 0o600)
        self._seal = AESGCM(key)
        self._frames = 0

    def add(self, message: bytes, **facts: str | int) -> None:
        """Seal and keep one message. It is in the file when this returns."""
        head = json.dumps({**facts, "received_at": time.time()}).encode()
        nonce = secrets.token_bytes(_NONCE)
        place = _place(self._name, self._frames)
        frame = nonce + self._seal.encrypt(nonce, head + b"\n" + message, place)
        whole = len(frame).to_bytes(_LENGTH, "big") + frame
        if os.write(self._descriptor, whole) != len(whole):
            raise OSError("the message could not be stored whole")
        self._frames += 1

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def read_all(directory: Path, key: bytes) -> Iterator[Received]:
    """Yield the messages of a store in the order of their arrival, those of a running receiver too.

    A frame that is still being written is left out.

    Raises:
        cryptography.exceptions.InvalidTag: another key, or a file that was changed or renamed.
    """
    seal = AESGCM(key)
    number = 0
    for path in sorted(directory.glob("*.sealed")):
        with path.open("rb") as file:
            for index in itertools.count():
                length = int.from_bytes(file.read(_LENGTH), "big")
                frame = file.read(length)
                if not length or len(frame) < length:
                    break
                place = _place(path.name, index)
                plain = seal.decrypt(frame[:_NONCE], frame[_NONCE:], place)
                head, _, message = plain.partition(b"\n")
                facts = json.loads(head)
                at = datetime.fromtimestamp(facts.pop("received_at"), UTC)
                number += 1
                yield Received(number=number, received_at=at, message=message, **facts)


def _place(name: str, index: int) -> bytes:
    return f"{name}\x00{index}".encode()
