"""Who writes: what an organization says about itself in every mail."""

from dataclasses import dataclass

from builder import characters, colours, links
from builder.problems import Problem, problem

NEEDED = ("organization", "postal_address", "reason", "sender_name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Brand:
    """An organization's own part of a mail. The footer is made from it and not from the document.

    `postal_address` (15 U.S.C. 7704(a)(5)(A)(iii)) may have several lines. `reason` is a sentence, "You
    get this because …"; `notice` a further one where the law or an authorization asks for it (that it is
    an advertisement; who paid). `logo` is "media:<id>" or empty. `preferences_url` is the same for all.
    """

    organization: str
    postal_address: str
    reason: str
    sender_name: str
    notice: str = ""
    logo: str = ""
    accent: str = ""
    unsubscribe_label: str = ""
    preferences_url: str = ""
    preferences_label: str = ""


def address_lines(brand: Brand) -> list[str]:
    """The postal address as lines, the organization's name first."""
    lines = [line.strip() for line in characters.lines(brand.postal_address).split("\n")]
    lines = [line for line in lines if line]
    return lines if lines[0] == brand.organization.strip() else [brand.organization.strip(), *lines]


def problems(brand: Brand) -> list[Problem]:
    """What is missing or wrong in a brand."""
    found = [
        problem("incomplete_brand", f"brand.{name}", name.replace("_", " "))
        for name in NEEDED
        if not characters.lines(getattr(brand, name)).strip()
    ]
    if brand.accent and not colours.COLOUR.fullmatch(brand.accent):
        found.append(problem("bad_colour", "brand.accent"))
    if brand.logo and not links.media_id(brand.logo):
        found.append(problem("bad_image", "brand.logo"))
    if brand.preferences_url and not links.is_resolved(brand.preferences_url):
        found.append(problem("bad_address", "brand.preferences_url"))
    return found
