"""The docs are true: the files, commands and settings that they name exist, and the steps are the code's."""

import re

import pytest
from django.core.management import get_commands

from tests.test_layers import LAYERS, OUTER_APPS, ROOT

PAGES = sorted([*ROOT.glob("docs/**/*.md"), *ROOT.glob("*.md")])
FILE = re.compile(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|js|md|html|css|sh|toml|txt|json))`")
COMMAND = re.compile(r"manage\.py ([a-z_]+)")
SETTING = re.compile(r"\bHIPAAMAIL_[A-Z_]+\b")
JOURNEY = ROOT / "docs" / "how-a-message-travels.md"
#: What the running system makes, so that a fresh clone has none of it.
MADE_LATER = ("var/", "static/vendor/", ".venv/")


@pytest.fixture(scope="module")
def code():
    """The text of all that can read a setting."""
    places = [*LAYERS, *OUTER_APPS, "bin"]
    files = [
        p for place in places for p in (ROOT / place).rglob("*") if p.suffix in {".py", ".sh", ""}
    ]
    return "\n".join(path.read_text() for path in files if path.is_file())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_and_command_named_in_the_docs_exists(page):
    text = page.read_text()
    missing = [
        name
        for name in FILE.findall(text)
        if not name.startswith(MADE_LATER) and not (ROOT / name).exists()
    ]
    unknown = set(COMMAND.findall(text)) - set(get_commands())

    assert missing == []
    assert unknown == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_setting_named_in_the_docs_is_read_somewhere(page, code):
    # NAME_FILE names the file that holds NAME.
    names = {name.removesuffix("_FILE") for name in SETTING.findall(page.read_text())}

    assert {name for name in names if name not in code} == set()


def test_links_between_pages_lead_somewhere():
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / target).exists()
    ]

    assert broken == []


def test_the_journey_page_and_the_code_agree_on_the_steps():
    told = [
        (int(number), path)
        for number, path in re.findall(r"^(\d+)\. `([\w/]+\.py)`", JOURNEY.read_text(), re.M)
    ]
    written = sorted(
        (int(step[1]), str(path.relative_to(ROOT)))
        for app in LAYERS
        for path in (ROOT / app).rglob("*.py")
        if (step := re.match(r'"""Step (\d+), ', path.read_text()))
    )

    assert [number for number, _ in told] == list(range(1, 12))
    assert told == written


def test_the_journey_page_names_each_step_as_its_module_does():
    words = dict(
        re.findall(r"^\d+\. `([\w/]+\.py)`: \*\*([\w -]+)\.\*\*", JOURNEY.read_text(), re.M)
    )
    named = {
        path: re.match(r'"""Step \d+, ([\w -]+):', (ROOT / path).read_text())[1] for path in words
    }

    assert words == named
    assert len(words) == 11
