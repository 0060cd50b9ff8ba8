"""bin/: what needs no network and no second machine."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = ROOT / "bin"


@pytest.fixture
def bin_(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The modules of bin/, which are no package, imported for one test."""
    monkeypatch.syspath_prepend(str(BIN))
    names = [path.stem for path in BIN.glob("*.py")]
    yield SimpleNamespace(**{name: __import__(name) for name in names})
    for name in names:
        del sys.modules[name]


# --- What is installed ----------------------------------------------------------------------------


def test_a_change_of_an_included_file_changes_the_digest(
    bin_: SimpleNamespace, tmp_path: Path
) -> None:
    base, dev = tmp_path / "requirements.txt", tmp_path / "requirements-dev.txt"
    base.write_text("# comment\nDjango==5.2.19\npsycopg[binary]==3.3.9\n")
    dev.write_text("-r requirements.txt\npytest==9.2.0\n")
    before = bin_.setup.digest(base), bin_.setup.digest(dev)

    assert bin_.setup.names(dev) == ["pytest==9.2.0", "Django==5.2.19", "psycopg[binary]==3.3.9"]
    base.write_text(base.read_text() + "bleach==6.4.0\n")
    after = bin_.setup.digest(base), bin_.setup.digest(dev)

    assert len({*before, *after}) == 4


def test_what_the_tests_need_covers_what_the_demo_needs_but_not_the_other_way_round(
    bin_: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, dev = tmp_path / "requirements.txt", tmp_path / "requirements-dev.txt"
    base.write_text("Django==5.2.19\n")
    dev.write_text("-r requirements.txt\npytest==9.2.0\n")
    monkeypatch.setattr(bin_.setup, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(bin_.setup, "STAMP", tmp_path / "stamp.json")
    commands: list[list[str]] = []
    monkeypatch.setattr(bin_.children, "run", lambda command, **_: commands.append(command) or 0)
    digests = {bin_.setup.digest(base), bin_.setup.digest(dev)}

    assert bin_.setup.installed() == set()
    bin_.setup.install(dev)
    assert bin_.setup.installed() == digests
    bin_.setup.install(base)
    assert bin_.setup.installed() == {bin_.setup.digest(base)}
    assert [command[-1] for command in commands] == [dev, base]


def test_a_failed_installation_is_not_remembered(
    bin_: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("Django==0\n")
    stamp = tmp_path / "stamp.json"
    stamp.write_text(json.dumps(["of before"]))
    monkeypatch.setattr(bin_.setup, "STAMP", stamp)

    def refuse(command: list[str], on_line: object) -> int:
        on_line("Collecting Django==0")
        on_line("ERROR: No matching distribution found for Django==0")
        return 1

    monkeypatch.setattr(bin_.children, "run", refuse)
    with pytest.raises(
        bin_.setup.SetUpError, match="^ERROR: No matching .*\npip could not install"
    ):
        bin_.setup.install(requirements)

    assert not stamp.exists()


def test_pip_is_half_done_when_all_is_collected_and_done_when_all_is_there(
    bin_: SimpleNamespace,
) -> None:
    there = 2
    count = bin_.setup.PipCount(expected=10, present=lambda: there)

    assert count.measure() == (0, 20)
    for name in ("a", "b", "c"):
        count.hear(f"Collecting {name}")
        count.hear(f"  Downloading {name}-1.whl (3 kB)")
    assert count.measure() == (3, 20)
    count.hear("Installing collected packages: a, b, c")
    assert count.measure() == (3, 6)
    there = 5
    assert count.measure() == (6, 6)


def test_the_bar_fills_from_nothing_to_everything_and_fits_the_terminal(
    bin_: SimpleNamespace,
) -> None:
    assert bin_.progress.bar(0, 8, 1.4, "Doing", 80) == f"[{'.' * 24}]   0 % 1 s  Doing"
    assert bin_.progress.bar(4, 8, 2, "Doing", 80) == f"[{'#' * 12}{'.' * 12}]  50 % 2 s  Doing"
    assert bin_.progress.bar(9, 8, 3, "Doing", 80) == f"[{'#' * 24}] 100 % 3 s  Doing"
    assert bin_.progress.bar(0, 0, 0, "Doing", 80).count("#") == 4
    assert len(bin_.progress.bar(4, 8, 2, "Doing" * 40, 60)) == 60


# --- Commands -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the next release"),
        (["--contacts", "x.csv"], "the next release"),
        (["--once", "--contacts", "/nowhere/x.csv"], "there is no file /nowhere/x.csv"),
        (["--once", "--segmen", "{}"], "unrecognized arguments"),
    ],
)
def test_the_demo_refuses_what_it_cannot_do_before_it_sets_anything_up(
    arguments: list[str], said: str, tmp_path: Path
) -> None:
    result = subprocess.run(
        [BIN / "demo", *arguments],
        cwd=tmp_path,
        env=os.environ | {"HIPAAMAIL_STATE_DIR": str(tmp_path / "state")},
        capture_output=True,
        text=True,
    )

    assert result.returncode == 2
    assert said in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_python_of_the_path_is_passed_over_when_it_is_too_old_or_broken(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("demo", "python.sh"):
        shutil.copy2(BIN / name, tmp_path / "bin" / name)
    for name, script in (
        ("python3", "exit 1"),  # says that it is older
        ("python3.13", "echo python3.13: command not found >&2; exit 127"),
        ("python3.12", 'test "$1" = -c || echo "$0" "$@"'),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:/usr/bin:/bin"

    chosen = subprocess.run(
        [tmp_path / "bin/demo", "--once"],
        env={"PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert chosen.stdout.split() == [
        str(tmp_path / "python3.12"),
        str(tmp_path / "bin/setup.py"),
        "demo",
        "--once",
    ]

    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("dirname", "readlink"):
        (tools / name).symlink_to(shutil.which(name))
    none = subprocess.run(
        ["/bin/sh", tmp_path / "bin/demo"], env={"PATH": str(tools)}, capture_output=True, text=True
    )
    assert (none.returncode, none.stdout) == (1, "")
    assert none.stderr.startswith("hipaamail needs Python 3.11 or newer")


def test_production_settings_are_checked_without_anything_of_this_machine(
    bin_: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in (
        "DATABASE_URL",
        "DATABASE_OWNER_URL",
        "BROKER_URL",
        "CACHE_URL",
        "HIPAAMAIL_EMBEDDED",
    ):
        monkeypatch.setenv(name, "of this machine")

    env = bin_.run_checks.production(str(tmp_path))

    assert "of this machine" not in env.values()
    assert "sslmode=verify-full" in env["DATABASE_URL"]
    assert env["PATH"] == os.environ["PATH"]
    assert (
        env["HIPAAMAIL_MASTER_KEY"]
        != bin_.run_checks.production(str(tmp_path))["HIPAAMAIL_MASTER_KEY"]
    )


# --- Processes ------------------------------------------------------------------------------------

#: Starts a grandchild that ignores what it can, tells its number, and waits.
FAMILY = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"]{session})
print(child.pid, flush=True)
{after}
"""
COMMAND = """
import sys
sys.path.insert(0, {bin!r})
import children
family = [sys.executable, "-c", {family!r}]
sys.exit(children.unwound(lambda arguments: children.run(family), []))
"""


def test_exit_codes_are_the_programs_own_and_the_shells_for_signals(bin_: SimpleNamespace) -> None:
    lines: list[str] = []
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"

    assert bin_.children.run([sys.executable, "-c", code], on_line=lines.append) == 3
    assert sorted(lines) == ["err", "out"]
    assert bin_.children.run(["sh", "-c", "kill -TERM $$"]) == 128 + signal.SIGTERM


@pytest.mark.parametrize("session", ["", ", start_new_session=True"])
def test_what_a_program_leaves_behind_ends_with_it(session: str, tmp_path: Path) -> None:
    left = tmp_path / "left"
    family = FAMILY.format(session=session, after="").replace(
        "print(child.pid, flush=True)", f"open({str(left)!r}, 'w').write(str(child.pid))"
    )
    command = COMMAND.format(bin=str(BIN), family=family)

    assert subprocess.run([sys.executable, "-c", command]).returncode == 0
    assert gone(int(left.read_text()))


@pytest.mark.parametrize("session", ["", ", start_new_session=True"])
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_the_whole_family(number: int, code: int, session: str) -> None:
    family = FAMILY.format(session=session, after="time.sleep(60)")
    command = COMMAND.format(bin=str(BIN), family=family)

    with subprocess.Popen(
        [sys.executable, "-c", command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        grandchild = int(process.stdout.readline())
        process.send_signal(number)

        assert process.wait(timeout=10) == code
    assert gone(grandchild)


def test_impatience_ends_a_program_that_will_not(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    command = COMMAND.format(bin=str(BIN), family=deaf)

    with subprocess.Popen(
        [sys.executable, "-c", command], stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)

        assert process.wait(timeout=10) == 130
    assert time.monotonic() - began < 5


def gone(pid: int) -> bool:
    """Whether the process has ended, if need be as a zombie that its new parent has yet to bury."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False
