"""Where a mail may lead and what it may show: addresses of links and of images."""

import re
from collections.abc import Collection
from urllib.parse import urlsplit

from builder.problems import Problem, problem
from builder.tags import Context, Hole, Registry, parse

MAX_ADDRESS = 2_000

# A merge tag inside an address while it is checked; cannot come from the author, who may write ASCII only.
_HOLE = "\ue000"
_PATH = rf"(?:[A-Za-z0-9._~!$&()*+,;=:@/?#{_HOLE}-]|%[0-9A-Fa-f]{{2}})*"
_HOST = (
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+(?:xn--[A-Za-z0-9-]{2,59}|[A-Za-z]{2,63})"
)
# No userinfo ("https://clinic.example@evil.example"), no bare numbers as a host, no hole before the first slash.
_HTTPS = re.compile(rf"https://{_HOST}(?::[0-9]{{1,5}})?(?:[/?#]{_PATH})?")
_MAILTO = re.compile(
    rf"mailto:[A-Za-z0-9.!#$%&'*+=^_`{{|}}~-]{{1,64}}@{_HOST}"
    rf"(?:\?(?:subject|body)=(?:[A-Za-z0-9._~!*(),;:@/-]|%[0-9A-Fa-f]{{2}})*)?"
)
_TEL = re.compile(r"tel:\+?[0-9][0-9().-]{1,24}(?:;ext=[0-9]{1,8})?")
_LINE_BREAK = re.compile(r"%0[ad]", re.IGNORECASE)
_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]{0,20}):")
_MEDIA = re.compile(r"media:([A-Za-z0-9_-]{1,64})")


def read_link(
    href: str, registry: Registry | None, *, path: str
) -> tuple[tuple[str | Hole, ...], list[Problem]]:
    """The parts of a link's address, holes in their URL context, and what is wrong with it."""
    if len(href) > MAX_ADDRESS:
        return (), [problem("too_long", path, MAX_ADDRESS)]
    parts, problems = parse(href, registry, context=Context.URL, path=path)
    if not problems:
        fault = _fault(parts)
        if fault:
            problems.append(problem(fault, path, _scheme(href)))
    return parts, problems


def media_id(src: str) -> str | None:
    """The id in `media:<id>`, an uploaded image; else None."""
    match = _MEDIA.fullmatch(src)
    return match[1] if match else None


def is_image_address(src: str, hosts: Collection[str]) -> bool:
    """Is this an https address on one of these hosts? Anything else would tell a stranger who reads."""
    return bool(_HTTPS.fullmatch(src)) and _HOLE not in src and host(src) in hosts


def is_resolved(src: str) -> bool:
    """Is this an address that our own server gave for an upload: https, or http while on one's own machine?"""
    here = re.fullmatch(rf"http://(?:localhost|127\.0\.0\.1)(?::[0-9]{{1,5}})?/{_PATH}", src)
    return bool(here or _HTTPS.fullmatch(src)) and _HOLE not in src


def host(address: str) -> str:
    """The host of an address that was checked, in lower case."""
    return urlsplit(address).hostname or ""


def _fault(parts: tuple[str | Hole, ...]) -> str | None:
    whole = "".join(part if isinstance(part, str) else _HOLE for part in parts)
    static = "".join(part for part in parts if isinstance(part, str))
    if not static.isascii():
        return "bad_address"
    if _HTTPS.fullmatch(whole):
        return None
    if _MAILTO.fullmatch(whole):
        return "bad_address" if _LINE_BREAK.search(whole) else None
    if _TEL.fullmatch(whole):
        return None
    scheme = _SCHEME.match(whole)
    if scheme and scheme[1].lower() not in ("https", "mailto", "tel"):
        return "bad_scheme"
    if _HOLE in re.split(r"(?<![:/])[/?#]", whole.replace("https://", "https:", 1), maxsplit=1)[0]:
        return "tag_begins_address"
    return "bad_address"


def _scheme(href: str) -> str:
    scheme = _SCHEME.match(href)
    return f"{scheme[1]}:" if scheme else ""
