"""The log's heads outside the database: what a database that was cut short, or put back, cannot take along.

`AUDIT_HEADS` holds `heads-YYYY-MM.jsonl`, one line for each block, and `latest.json`, the newest line alone, for
copying to where nobody may overwrite. Keep the directory on another volume than the database, better on
another host. A line is `{"block": header, "signature": hex}`.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from audit.models import Block
from audit.signing import link

LATEST = "latest.json"


@dataclass(frozen=True, slots=True)
class Head:
    """One line: a block's header as it was signed."""

    number: int
    total: int
    header: bytes
    signature: bytes
    public_key: bytes

    @property
    def hash(self) -> bytes:
        """The hash by which the next block points at this one."""
        return link(self.header, self.signature)


class UnreadableHead(ValueError):
    """A line that is no head."""


def extent() -> list[tuple[Path, int]]:
    """Return the files of heads with their sizes now, so that what is appended later can be left out."""
    return [(path, path.stat().st_size) for path in _files()]


def read(files: list[tuple[Path, int]]) -> Iterator[Head | UnreadableHead]:
    """Yield all heads of an `extent()`, oldest first; for a line that cannot be read, an UnreadableHead.

    A last line without its newline was being written when the machine stopped: it is passed over, and
    `publish()` writes it again.
    """
    for path, size in files:
        with path.open("rb") as file:
            for place, line in enumerate(file, 1):
                size -= len(line)
                if size < 0 or not line.endswith(b"\n"):
                    break
                try:
                    yield _parsed(line)
                except (ValueError, KeyError, TypeError):
                    yield UnreadableHead(f"{path.name}, line {place}")


def latest() -> Head | UnreadableHead | None:
    """Return the head in `latest.json`; None if there is no such file."""
    try:
        return _parsed((Path(settings.AUDIT_HEADS) / LATEST).read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return UnreadableHead(LATEST)


def publish() -> int:
    """Append a line for each block that has none yet; return how many were written.

    Called after each sealing, and safe to call at any time, from any process: a crash between the commit of a
    block and its line is made good by the next call. Each line is on the disk when this returns.
    """
    directory = Path(settings.AUDIT_HEADS)
    directory.mkdir(mode=0o750, parents=True, exist_ok=True)
    with _locked(directory):
        files = _files()
        newest = _last(files)
        blocks = list(Block.objects.filter(number__gt=newest).order_by("number")[:10_000])
        by_file: dict[str, list[Block]] = {}
        name = files[-1].name if files else ""
        for block in blocks:
            # A clock set back must not put a line before older ones.
            name = max(name, f"heads-{block.sealed_at:%Y-%m}.jsonl")
            by_file.setdefault(name, []).append(block)
        for name, lines in by_file.items():
            _append(directory / name, b"".join(map(_line, lines)))
        if blocks:
            _replace(directory / LATEST, _line(blocks[-1]))
            _sync(directory)
    return len(blocks)


def _line(block: Block) -> bytes:
    return b'{"block":%b,"signature":"%b"}\n' % (
        block.header(),
        bytes(block.signature).hex().encode(),
    )


def _parsed(line: bytes) -> Head:
    held = json.loads(line)
    block = held["block"]
    return Head(
        number=int(block["number"]),
        total=int(block["total"]),
        # The header was written by canonical.block_line(), so this gives back its very bytes.
        header=json.dumps(block, sort_keys=True, separators=(",", ":")).encode(),
        signature=bytes.fromhex(held["signature"]),
        public_key=bytes.fromhex(block["public_key"]),
    )


def _files() -> list[Path]:
    return sorted(Path(settings.AUDIT_HEADS).glob("heads-????-??.jsonl"))


def _last(files: list[Path]) -> int:
    """Return the number of the newest head on file, -1 if there is none, after removing a torn last line."""
    for path in reversed(files):
        with path.open("rb+") as file:
            content = _tail(file)
            if content and not content.endswith(b"\n"):
                keep = content.rfind(b"\n") + 1
                file.truncate(file.seek(0, os.SEEK_END) - len(content) + keep)
                content = content[:keep]
            for line in reversed(content.splitlines()):
                try:
                    return _parsed(line).number
                except (ValueError, KeyError, TypeError):
                    continue
    return -1


def _tail(file: object, size: int = 64 * 1024) -> bytes:
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - size))
    content = file.read()
    # The first line of the piece may be cut; a line is far shorter than the piece.
    return content if end <= size else content[content.find(b"\n") + 1 :]


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    with (directory / ".lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _append(path: Path, lines: bytes) -> None:
    with path.open("ab") as file:
        file.write(lines)
        file.flush()
        os.fsync(file.fileno())


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
