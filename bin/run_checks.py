"""bin/test after the set-up: every check, under .venv's Python; pytest's summary is the last line."""

import argparse
import base64
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable

import children
from database import prepared, served, state_dir

MANAGE = [sys.executable, "manage.py"]


def options(arguments: list[str]) -> list[str]:
    """Return pytest's arguments; `--help` is ours."""
    parser = argparse.ArgumentParser(
        prog="bin/test",
        description="Sets up, then checks formatting, lint, migrations, production settings, and runs pytest.",
        usage="bin/test [pytest's arguments]",
        allow_abbrev=False,
    )
    return parser.parse_known_args(arguments)[1]


def main(arguments: list[str]) -> int:
    """Run the steps up to the first failure; returns its exit code, pytest's if all went well."""
    chosen = options(arguments)
    with tempfile.TemporaryDirectory(prefix="hipaamail-") as folder:
        steps: list[tuple[str, Callable[[], int]]] = [
            (
                "ruff format --check .",
                lambda: shown([sys.executable, "-m", "ruff", "format", "--check", "."]),
            ),
            ("ruff check .", lambda: shown([sys.executable, "-m", "ruff", "check", "."])),
            ("servers", lambda: served(state_dir())),
            (
                "manage.py makemigrations --check",
                lambda: shown([*MANAGE, "makemigrations", "--check", "--dry-run"]),
            ),
            (
                "manage.py check --deploy",
                lambda: shown(
                    [*MANAGE, "check", "--deploy", "--fail-level", "WARNING"], production(folder)
                ),
            ),
            ("manage.py migrate, load_demo", prepared),
        ]
        for name, step in steps:
            began = time.monotonic()
            code = step()
            seconds = time.monotonic() - began
            if code != 0:
                print(f"FAILED  {name}  (exit code {code})", flush=True)
                return code
            print(f"ok      {name}  {seconds:.1f} s", flush=True)
    if shutil.which("chromium") is None:
        print("SKIPPED the browser tests: Chromium is not installed", flush=True)
    return children.run([sys.executable, "-m", "pytest", "-n", str(workers()), *chosen])


def shown(command: list[str], env: dict[str, str] | None = None) -> int:
    """Run a check and show what it printed if it fails."""
    lines: list[str] = []
    code = children.run(command, env=env, on_line=lines.append)
    if code != 0:
        print("\n".join(lines), flush=True)
    return code


def workers() -> int:
    """Processes for pytest: one a core, at most eight, since each makes a database of its own."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2, 8)


def production(folder: str) -> dict[str, str]:
    """Return an environment as production has it, with invented keys; nothing is connected to."""
    ours = ("HIPAAMAIL_", "DATABASE_", "BROKER_URL", "CACHE_URL")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}

    def key() -> str:
        return base64.b64encode(secrets.token_bytes(32)).decode()

    return inherited | {
        "HIPAAMAIL_ENV": "production",
        "HIPAAMAIL_STATE_DIR": folder,
        "HIPAAMAIL_SECRET_KEY": secrets.token_urlsafe(64),
        "HIPAAMAIL_MASTER_KEY": key(),
        "HIPAAMAIL_AUDIT_KEY": key(),
        "HIPAAMAIL_TOKEN_KEY": key(),
        "HIPAAMAIL_HOSTS": "mail.health.example",
        "HIPAAMAIL_PUBLIC_URL": "https://mail.health.example",
        "HIPAAMAIL_ENCRYPTED_VOLUMES": "yes",
        "HIPAAMAIL_SENDING_IPS": "192.0.2.11,192.0.2.12",
        "DATABASE_URL": "postgres://hipaamail_app:invented@database.health.example/hipaamail?sslmode=verify-full",
        "BROKER_URL": "rediss://:invented@broker.health.example/0?ssl_cert_reqs=required",
    }


if __name__ == "__main__":
    sys.exit(children.unwound(main, sys.argv[1:]))
