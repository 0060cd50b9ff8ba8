"""Templates to begin with: whole documents, kept as JSON beside this file."""

import json
from dataclasses import dataclass
from pathlib import Path

NAMES = ("flu-season", "new-clinic")


@dataclass(frozen=True, slots=True)
class Starter:
    """A template to begin with, and the subject and preview line that go with it."""

    name: str
    title: str
    subject: str
    preheader: str
    document: dict


def about(name: str) -> Starter:
    """A starter by name, its document fresh and free to change. Raises KeyError for another name."""
    if name not in NAMES:
        raise KeyError(name)
    kept = json.loads((Path(__file__).parent / f"{name}.json").read_text(encoding="utf-8"))
    return Starter(name=name, **kept)


def load(name: str) -> dict:
    """A starter's document. Raises KeyError for another name."""
    return about(name).document
