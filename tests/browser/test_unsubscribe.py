"""A person with a telephone stops email: a real browser, without JavaScript, against the real server."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from consent.models import OptOut
from delivery import unsubscribe
from tests import factories
from tests.delivery.letters import make_message

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
#: It runs as root here, and has nobody to call.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
#: Smallest side of what is touched, in CSS pixels (WCAG 2.2, 2.5.5).
TOUCH = 44

pytestmark = [
    pytest.mark.skipif(
        CHROMIUM is None,
        reason="NO BROWSER: install Chromium (apt-get install chromium), else nobody looks at the pages.",
    ),
    pytest.mark.django_db(transaction=True),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        # Playwright keeps an event loop running in this thread, which Django takes for a mistake of ours.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def phone(browser: Browser) -> Page:
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, java_script_enabled=False, has_touch=True
    )
    return context.new_page()


def link(live_server: Any, **contact: Any) -> str:
    organization = factories.make_organization(name="Lakeside Health", accent="#7a1fa2")
    message = make_message(factories.make_contact(organization, **contact))
    return f"{live_server.url}/u/{unsubscribe.token(message.pk)}"


def is_wider_than_the_screen(page: Page) -> bool:
    box = page.locator("html").bounding_box()
    reach = [element.bounding_box() for element in page.locator("main *").all()]
    return any(part["x"] + part["width"] > box["width"] + 0.5 for part in reach if part)


def test_a_person_opens_reads_presses_and_sees_that_it_stopped(
    live_server: Any, phone: Page
) -> None:
    seen: list[str] = []
    phone.on("console", lambda line: seen.append(line.text))
    phone.on("request", lambda request: seen.append(request.url.split("/", 3)[2]))

    phone.goto(link(live_server))

    assert phone.title() == "Email choices"
    assert phone.locator("h1").inner_text() == "Stop promotional email from Lakeside Health?"
    button = phone.get_by_role("button", name="Stop promotional email")
    for touched in (button, phone.get_by_role("link", name="Español")):
        assert touched.bounding_box()["height"] >= TOUCH
        assert touched.bounding_box()["width"] >= TOUCH
    assert not is_wider_than_the_screen(phone)
    assert OptOut.objects.count() == 0

    button.tap()

    expect(phone.locator("h1")).to_have_text(
        "You won’t get more promotional email from Lakeside Health."
    )
    assert phone.title() == "Email choices"
    fact = OptOut.objects.get()
    assert (fact.scope, fact.direction, fact.source) == ("commercial", "out", "page")
    # Nothing was asked of anybody else, and nothing was complained about.
    assert set(seen) == {live_server.url.removeprefix("http://")}
    assert phone.context.cookies() == []

    phone.get_by_role("button", name="Get promotional email again").tap()

    expect(phone.locator("h1")).to_contain_text("again.")
    assert OptOut.objects.count() == 2


def test_it_works_by_keyboard_alone_and_shows_where_one_is(
    live_server: Any, browser: Browser
) -> None:
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.goto(link(live_server))
    shown = "getComputedStyle(document.activeElement)"

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Español"
    assert page.evaluate(f"{shown}.outlineWidth") == "3px"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "BUTTON"
    assert page.evaluate(f"{shown}.outlineWidth") == "3px"
    assert page.evaluate(f"{shown}.backgroundColor") == "rgb(122, 31, 162)"
    page.keyboard.press("Enter")

    expect(page.locator("h1")).to_contain_text("You won’t get more promotional email")
    assert OptOut.objects.get().source == "page"


def test_the_other_language_is_one_touch_away_and_stays(live_server: Any, phone: Page) -> None:
    phone.goto(link(live_server, language="en"))

    phone.get_by_role("link", name="Español").tap()
    expect(phone.locator("html")).to_have_attribute("lang", "es")
    phone.get_by_role("button", name="Dejar de recibir promociones").tap()

    expect(phone.locator("h1")).to_have_text(
        "Ya no recibirá correos promocionales de Lakeside Health."
    )
    assert OptOut.objects.count() == 1


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_long_names_and_wrong_links_fit_the_screen(
    live_server: Any, browser: Browser, width: int
) -> None:
    page = browser.new_context(
        viewport={"width": width, "height": 800}, java_script_enabled=False
    ).new_page()
    organization = factories.make_organization(name="Rehabilitationszentrum" * 4)
    message = make_message(factories.make_contact(organization, language="es"))

    page.goto(f"{live_server.url}/u/{unsubscribe.token(message.pk)}")
    assert not is_wider_than_the_screen(page)

    page.goto(f"{live_server.url}/u/wrong")
    assert page.locator("h1").inner_text() == "This link doesn’t work"
    assert not is_wider_than_the_screen(page)
