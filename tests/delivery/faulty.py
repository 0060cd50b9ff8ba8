"""The server of tests/smtp_faults.py beside the pipeline: in a thread, since the pipeline has a loop of its own."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.smtp_faults import Certificates, Seen, server


@contextmanager
def beside(directory: Path, *, certificate: str = "good", **answers: Any) -> Iterator[Seen]:
    """Run a server with this script and yield what it sees."""
    context = Certificates(directory).server(certificate)
    ready, over = threading.Event(), threading.Event()
    seen: list[Seen] = []

    async def run() -> None:
        async with server(context, **answers) as found:
            seen.append(found)
            ready.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        assert ready.wait(5)
        yield seen[0]
    finally:
        over.set()
        thread.join()
