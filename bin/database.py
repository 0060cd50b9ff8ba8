"""The servers and the database of a command that runs under .venv's Python."""

import os
import sys
from pathlib import Path

import children
from progress import Step


def state_dir() -> Path:
    """The folder of everything that the running system writes."""
    return Path(os.environ.get("HIPAAMAIL_STATE_DIR") or children.ROOT / "var")


def served(folder: Path) -> int:
    """Hold the servers that the environment does not name until we end; returns an exit code."""
    sys.path.insert(0, str(children.ROOT))
    from hipaamail import embedded

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with Step("Starting PostgreSQL and Valkey"):
            embedded.hold(folder)
    except embedded.ServerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def prepared() -> int:
    """Migrate and load the invented health system where that is still to do; returns an exit code."""
    lines: list[str] = []
    with Step("Preparing the database") as step:

        def heard(line: str) -> None:
            lines.append(line)
            if line.startswith("  Applying"):
                step.title = f"Preparing the database: {line.split()[1].removesuffix('...')}"

        code = children.run([sys.executable, "manage.py", "migrate", "--no-color"], on_line=heard)
        step.title = "Preparing the database"
    if code != 0:
        print("\n".join(lines[-20:]), "manage.py migrate failed.", sep="\n", file=sys.stderr)
        return code
    return children.run([sys.executable, "manage.py", "load_demo"])
