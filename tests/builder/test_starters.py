"""The templates to begin with are valid, complete, plain to read, and load nothing."""

import re

import pytest

from builder import blocks, starters
from builder.compile import compile_document
from builder.pieces import fill
from builder.preview import preview_text
from builder.tags import Registry, Tag
from tests.builder.conftest import BRAND, STOP

TAGS = Registry(
    [Tag("first_name", "First name", "contact"), Tag("clinic", "Our name", "organization")]
)


@pytest.mark.parametrize("name", starters.NAMES)
def test_a_starter_compiles_without_a_remark(name: str) -> None:
    starter = starters.about(name)

    assert blocks.validate(starter.document, tags=TAGS) == []
    mail = compile_document(
        starter.document,
        brand=BRAND,
        tags=TAGS,
        subject=starter.subject,
        preheader=starter.preheader,
    )
    assert mail.notices == ()
    assert mail.media == ()
    assert mail.pieces.required == ("unsubscribe_url",)
    assert "<img" not in mail.html
    assert set(re.findall(r"https?://([^/\"'\s]+)", mail.html)) == {"www.example.org", "www.w3.org"}
    assert len(fill(mail.pieces, {"unsubscribe_url": STOP}).body) < 50_000


@pytest.mark.parametrize("name", starters.NAMES)
def test_a_starter_reads_like_a_letter_to_a_neighbor(name: str) -> None:
    """Flesch-Kincaid: below the seventh grade."""
    starter = starters.about(name)
    mail = compile_document(starter.document, brand=BRAND, tags=TAGS, subject=starter.subject)

    letter = preview_text(mail, {"unsubscribe_url": STOP}).split("-" * 40)[1:-1]
    prose = re.sub(r"\S+: https?://\S+|\n\n", ". ", " ".join(letter))
    sentences = [s for s in re.split(r"[.!?:]+\s", prose) if re.search("[a-z]", s)]
    words = re.findall(r"[A-Za-z']+", prose)
    syllables = sum(
        len(re.findall(r"[aeiouy]+", re.sub(r"e\b", "", word.lower()))) or 1 for word in words
    )
    grade = 0.39 * len(words) / len(sentences) + 11.8 * syllables / len(words) - 15.59
    assert grade < 6.5


def test_a_starter_is_fresh_each_time() -> None:
    starters.load("flu-season")["blocks"].clear()

    assert starters.load("flu-season")["blocks"]


def test_there_is_no_other_starter() -> None:
    for name in ("../blocks", "nothing", ""):
        with pytest.raises(KeyError):
            starters.load(name)
