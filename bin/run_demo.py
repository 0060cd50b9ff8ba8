"""bin/demo after the set-up: the platform on invented patients, under .venv's Python."""

import argparse
import os
import sys
from pathlib import Path

import children
from database import prepared, served, state_dir

LATER = "The staff pages come with the next release; until then bin/demo --once runs the main job from CSV to report."


def options(arguments: list[str]) -> argparse.Namespace:
    """Read the arguments; wrong ones exit with 2."""
    parser = argparse.ArgumentParser(
        prog="bin/demo",
        description="Sets up and runs hipaamail on an invented health system.",
        epilog=LATER,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="import, segment, approve, send and report once; the last line is a JSON object",
    )
    parser.add_argument(
        "--contacts", type=Path, metavar="FILE", help="a CSV file in place of the invented one"
    )
    parser.add_argument(
        "--segment", metavar="JSON", help="criteria as in docs/segments.md; default: everyone"
    )
    parser.add_argument("--state-dir", type=Path, metavar="DIR", help="instead of var/")
    chosen = parser.parse_args(arguments)
    if not chosen.once:
        parser.error(LATER)
    if chosen.contacts and not chosen.contacts.is_file():
        parser.error(f"there is no file {chosen.contacts}")
    return chosen


def main(arguments: list[str]) -> int:
    """Serve, prepare the database, do the main job; returns its exit code."""
    chosen = options(arguments)
    if chosen.state_dir:
        os.environ["HIPAAMAIL_STATE_DIR"] = str(chosen.state_dir.absolute())
    passed = []
    if chosen.contacts:
        passed += ["--contacts", str(chosen.contacts.absolute())]
    if chosen.segment is not None:
        passed += ["--segment", chosen.segment]
    return (
        served(state_dir())
        or prepared()
        or children.run([sys.executable, "manage.py", "demo_once", *passed])
    )


if __name__ == "__main__":
    sys.exit(children.unwound(main, sys.argv[1:]))
