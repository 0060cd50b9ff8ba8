"""The processes of the demo: receiving server, web server, Celery workers; all stopped at the end."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from django.conf import settings

from demo import receiver


class DidNotStart(Exception):
    """A process of the demo ended at once; its log says why."""


class Servers:
    """Starts processes in a group of their own each, logs them under the state directory, stops them all."""

    def __init__(self) -> None:
        self.logs = settings.STATE_DIR / "logs"
        self.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.running: list[tuple[str, subprocess.Popen]] = []
        self.again: dict[str, Callable[[], None]] = {}
        self.receiver: receiver.Running | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def receive(self, store: Path, key: bytes, **options: Any) -> receiver.Running:
        """Start a receiving SMTP server that keeps what it gets under `key`."""
        self.receiver = receiver.start(store, key=key, **options)
        return self.receiver

    def workers(self, environment: dict[str, str]) -> None:
        """Start one worker for each sending address on its own queue, and one for everything else, with beat."""
        for address in settings.SENDING_IPS:
            self._worker(address, ["-Q", f"ip-{address}"], environment)
        self._worker("default", ["-Q", "default", "-B"], environment)

    def web(self, port: int, environment: dict[str, str]) -> None:
        """Start the web server on a loopback port and wait until it answers."""
        command = ["gunicorn", "hipaamail.wsgi", "--bind", f"127.0.0.1:{port}", "--workers", "1"]
        # No access log: a path may hold a token.
        self._start("web", [*command, "--log-level", "warning", "--no-control-socket"], environment)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2):  # noqa: S310
                    return
            except (urllib.error.URLError, OSError):
                self._check()
                time.sleep(0.1)
        raise DidNotStart(f"The web server does not answer; see {self.logs / 'web.log'}.")

    def revive(self) -> list[str]:
        """Start each worker anew that has died, and return their names."""
        dead = [
            (name, process)
            for name, process in self.running
            if name in self.again and process.poll() is not None
        ]
        for name, process in dead:
            self.running.remove((name, process))
            # What a killed worker leaves of its group would keep its address.
            _signal(process, signal.SIGKILL)
            self.again[name]()
        return [name for name, _ in dead]

    def stop(self) -> None:
        """End them all: asked first, killed after ten seconds."""
        for _, process in self.running:
            if process.poll() is None:
                _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + 10
        for _, process in self.running:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal(process, signal.SIGKILL)
                process.wait()
        self.running.clear()
        if self.receiver is not None:
            self.receiver.stop()
            self.receiver = None

    def _worker(self, name: str, arguments: Sequence[str], environment: dict[str, str]) -> None:
        label = f"worker-{name}"
        self.again[label] = lambda: self._worker(name, arguments, environment)
        self._start(
            label,
            [
                *("celery", "-A", "hipaamail", "worker", "-n", f"{name}@{os.getpid()}", "-c", "1"),
                *("--without-gossip", "--without-mingle", "--loglevel", "WARNING"),
                *arguments,
            ],
            environment,
        )

    def _start(self, name: str, module: Sequence[str], environment: dict[str, str]) -> None:
        log = os.open(self.logs / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", *module],
                cwd=settings.BASE_DIR,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        finally:
            os.close(log)
        self.running.append((name, process))

    def _check(self) -> None:
        for name, process in self.running:
            if process.poll() is not None:
                raise DidNotStart(f"{name} ended at once; see {self.logs / f'{name}.log'}.")


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _signal(process: subprocess.Popen, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def state(name: str) -> Path:
    """Return a path in the state directory."""
    return settings.STATE_DIR / name
