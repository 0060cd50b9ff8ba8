"""The set-up of bin/demo and bin/test, from a bare machine on: standard library only.

    python bin/setup.py demo|test [arguments]

Makes .venv, installs what requirements.txt (test: requirements-dev.txt) names, sees to Pango (and for
tests to Chromium), then becomes run_demo.py or run_checks.py under .venv's Python.
"""

import ctypes
import ctypes.util
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

import children
import run_checks
import run_demo
from progress import Step

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
#: Digests of the requirements that .venv has.
STAMP = VENV / "hipaamail-installed.json"
#: What WeasyPrint 70 loads: name for the linker, file name on Linux.
PANGO = {
    "gobject-2.0": "libgobject-2.0.so.0",
    "pango-1.0": "libpango-1.0.so.0",
    "pangoft2-1.0": "libpangoft2-1.0.so.0",
    "harfbuzz": "libharfbuzz.so.0",
    "fontconfig": "libfontconfig.so.1",
}
PANGO_PACKAGES = ("libpango-1.0-0", "libpangoft2-1.0-0", "fonts-dejavu-core")
#: Requirements bring others (29 brought 74).
PACKAGES_PER_REQUIREMENT = 2.6


class SetUpError(Exception):
    """Something is missing; the message says in one sentence what to do."""


def main(arguments: list[str]) -> int:
    """Set up, then become the command; returns an exit code only when that fails."""
    command, *rest = arguments
    module = {"demo": run_demo, "test": run_checks}[command]
    module.options(rest)  # refuses wrong arguments before anything is installed
    children.heed_signals()
    try:
        with Path(__file__).open() as one_at_a_time:
            fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
            prepare(tests=command == "test")
    except SetUpError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return become([PYTHON, Path(module.__file__), *rest])


def become(command: list[str | Path]) -> NoReturn:
    """Hand this process over to a program."""
    os.execv(command[0], command)


def prepare(*, tests: bool) -> None:
    """Bring .venv and the system libraries to what the code needs. Raises SetUpError."""
    requirements = ROOT / ("requirements-dev.txt" if tests else "requirements.txt")
    if digest(requirements) not in installed():
        make_venv()
        install(requirements)
    if not has_pango() and not (apt_install(*PANGO_PACKAGES) and has_pango()):
        raise SetUpError(
            "PDF reports need Pango: install it and run this again (Debian, Ubuntu: "
            f"apt-get install {' '.join(PANGO_PACKAGES)}; Fedora: dnf install pango; macOS: brew install pango)."
        )
    if tests:
        see_to_chromium()


# --- .venv -------------------------------------------------------------------------------------


def installed() -> set[str]:
    """Return the digests of what .venv has; none if it does not work."""
    if not PYTHON.exists():
        return set()
    try:
        return set(json.loads(STAMP.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return set()


def make_venv() -> None:
    """Make .venv with the Python that runs this, unless there is one that works."""
    check = "import sys, pip; sys.exit(sys.version_info < (3, 11))"
    if PYTHON.exists() and quiet([PYTHON, "-c", check]) == 0:
        return
    if importlib.util.find_spec("ensurepip") is None:
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        if not apt_install(package):
            raise SetUpError(
                f"This Python cannot make virtual environments: run apt-get install {package}."
            )
    with Step("Making .venv"):
        lines: list[str] = []
        if children.run([sys.executable, "-m", "venv", "--clear", VENV], on_line=lines.append):
            raise SetUpError("\n".join([*lines, f"{sys.executable} cannot make {VENV}."]))


def install(requirements: Path) -> None:
    """Install the requirements by pip and remember that they are there. Raises SetUpError."""
    STAMP.unlink(missing_ok=True)
    pip = [PYTHON, "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    lines: list[str] = []
    count = PipCount(int(len(names(requirements)) * PACKAGES_PER_REQUIREMENT), packages)

    def heard(line: str) -> None:
        lines.append(line)
        count.hear(line)

    with Step(f"Installing {requirements.name}", count.measure):
        code = children.run([*pip, "-r", requirements], on_line=heard)
    if code != 0:
        told = [line for line in lines if line.startswith("ERROR")] or lines[-5:]
        raise SetUpError("\n".join([*told, f"pip could not install {requirements.name}."]))
    has = {digest(requirements)} | {digest(included) for included in files(requirements)}
    STAMP.write_text(json.dumps(sorted(has)), encoding="utf-8")


def files(requirements: Path) -> list[Path]:
    """Return the file and those that its `-r` lines include."""
    included = re.findall(r"^-r\s+(\S+)", requirements.read_text(encoding="utf-8"), re.MULTILINE)
    inner = [file for name in included for file in files(requirements.parent / name)]
    return [requirements, *inner]


def names(requirements: Path) -> list[str]:
    """Return the lines that name a package."""
    lines = (line for file in files(requirements) for line in file.read_text("utf-8").splitlines())
    return [line for line in lines if re.match(r"[A-Za-z0-9]", line)]


def digest(requirements: Path) -> str:
    """Stand for what the file and its includes say, and for the Python it was said to."""
    said = b"\0".join(file.read_bytes() for file in files(requirements))
    return hashlib.sha256(said + sys.version.encode()).hexdigest()


def packages() -> int:
    """Count the packages that .venv has now."""
    return sum(1 for _ in VENV.glob("lib/python*/site-packages/*.dist-info"))


class PipCount:
    """How far pip is: one half for collecting packages, the other for installing them.

    pip says how many packages it will collect only when it has; until then their number is estimated.
    While it installs it says nothing, so what is there is counted (`present`).
    """

    def __init__(self, expected: int, present: Callable[[], int]) -> None:
        self.expected = expected
        self.collected = 0
        self.present = present
        self.before: int | None = None

    def hear(self, line: str) -> None:
        """Take in pip's next line."""
        if line.startswith("Collecting "):
            self.collected += 1
            self.expected = max(self.expected, self.collected)
        elif line.startswith("Installing collected packages: "):
            self.before = self.present()
            self.collected = self.expected = line.count(",") + 1

    def measure(self) -> tuple[int, int]:
        """Return how much of how much is done."""
        installed = 0 if self.before is None else max(self.present() - self.before, 0)
        return self.collected + installed, 2 * self.expected


# --- System packages ---------------------------------------------------------------------------


def has_pango() -> bool:
    """Whether all libraries load that WeasyPrint needs."""
    return all(loads(name, file) for name, file in PANGO.items())


def loads(name: str, file: str) -> bool:
    """Whether a shared library can be loaded, by its file name or wherever the system finds it."""
    for candidate in (file, ctypes.util.find_library(name)):
        try:
            if candidate and ctypes.CDLL(candidate):
                return True
        except OSError:
            continue
    return False


def see_to_chromium() -> None:
    """Install Chromium for the browser tests where we may; without it they are skipped, loudly."""
    tried = VENV / "chromium-tried"
    if shutil.which("chromium") or tried.exists():
        return
    if apt_install("chromium") or os.geteuid() != 0:
        return
    print("Chromium cannot be installed: the browser tests will be skipped.", file=sys.stderr)
    tried.touch()  # apt-get would fail again


def apt_install(*packages: str) -> bool:
    """Install Debian packages, as root where there is apt; say what failed."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"]
    lines: list[str] = []
    with Step(f"Installing {', '.join(packages)}"):
        children.run([*apt, "update"], env=env, on_line=lines.append)
        options = ["install", "-y", "--no-install-recommends", "--no-upgrade"]
        if children.run([*apt, *options, *packages], env=env, on_line=lines.append) == 0:
            return True
    print("\n".join(lines[-5:]), file=sys.stderr)
    return False


def quiet(command: Iterable[str | Path]) -> int:
    """Run a program whose output nobody needs."""
    return children.run(list(command), on_line=lambda line: None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
