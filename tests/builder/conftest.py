"""What the builder's tests share: an organization's brand, its merge tags, small documents."""

from collections.abc import Callable
from typing import Any

import pytest

from builder.brand import Brand
from builder.compile import Compiled, compile_document
from builder.tags import Registry, Tag

BRAND = Brand(
    organization="Lakeside Health",
    postal_address="12 Shore Road\nMadison, WI 53703",
    reason="You get this because you gave Lakeside Health permission to write to you.",
    sender_name="Lakeside Health, Community Team",
)
TAGS = Registry(
    [
        Tag("first_name", "First name", "contact"),
        Tag("clinic", "Our name", "organization"),
        Tag("doctor", "Doctor", "treatment"),
        Tag("last_visit", "Last visit", "treatment", "date"),
    ]
)
STOP = "https://mail.lakeside.example/u/8f3kd0s9fk3ldk"


def document(*blocks: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """A valid document around these blocks; ids are given where they have none."""
    numbered = [{"id": f"b{i}", **block} for i, block in enumerate(blocks)]
    return {
        "version": 1,
        "settings": settings,
        "blocks": [
            {"id": "header", "type": "header"},
            *numbered,
            {"id": "footer", "type": "footer"},
        ],
    }


def text(html: str, **more: Any) -> dict[str, Any]:
    """A text block."""
    return {"type": "text", "html": html, **more}


@pytest.fixture
def compiled() -> Callable[..., Compiled]:
    """Compile blocks for Lakeside, with a subject."""

    def compile_blocks(*blocks: dict[str, Any], **more: Any) -> Compiled:
        settings = more.pop("settings", {})
        arguments = {
            "brand": BRAND,
            "tags": TAGS,
            "subject": "Hello",
            "resolve_media": {"lake": "https://mail.lakeside.example/m/lake.png"}.__getitem__,
        }
        return compile_document(document(*blocks, **settings), **arguments | more)

    return compile_blocks
