"""The public pages as people, mail programs, scanners and strangers reach them."""

import html.parser
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.http import HttpResponse
from django.template.loader import render_to_string
from django.test import Client, RequestFactory

from audit.models import Entry
from consent import stop as consent
from consent.models import OptOut
from delivery import unsubscribe, views
from delivery.models import Event, Message
from phi import keys
from phi.redact import Formatter
from tests import factories
from tests.delivery.letters import make_message

ONE_CLICK = "List-Unsubscribe=One-Click"
URLENCODED = "application/x-www-form-urlencoded"
PARTS = (
    '--b\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n'
    '--b\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\nxyz\r\n--b--\r\n'
)


@pytest.fixture
def message(organization: Any) -> Message:
    contact = factories.make_contact(
        organization, email="river@mail.example", first_name="River", last_name="Stone"
    )
    return make_message(contact)


@pytest.fixture
def stranger() -> Client:
    """Somebody without a cookie whom no test helper lets past the CSRF check."""
    return Client(enforce_csrf_checks=True)


def path_of(message: Message) -> str:
    return f"/u/{unsubscribe.token(message.pk)}"


def press(client: Client, message: Message, button: str = "confirm", **extra: Any) -> HttpResponse:
    return client.post(path_of(message), f"{button}=yes", content_type=URLENCODED, **extra)


def written() -> tuple[int, int, int]:
    return OptOut.objects.count(), Event.objects.count(), Entry.objects.count()


def text_of(response: HttpResponse) -> str:
    return response.content.decode()


# --- looking changes nothing


@pytest.mark.parametrize("method", ["get", "head"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Purpose": "prefetch;prerender"},
        {"Purpose": "prefetch", "User-Agent": "LinkScanner/1.0"},
        {"Referer": "https://webmail.example/?confirm=yes"},
    ],
)
def test_looking_changes_nothing(
    stranger: Client, message: Message, method: str, headers: dict
) -> None:
    before = written()

    for query in ("", "?confirm=yes", "?List-Unsubscribe=One-Click", "?again=yes"):
        response = getattr(stranger, method)(path_of(message) + query, headers=headers)
        assert response.status_code == 200

    assert written() == before


def test_asking_for_the_head_only_gets_no_body(rf: RequestFactory, message: Message) -> None:
    token = unsubscribe.token(message.pk)
    # Without the test client, which drops the body itself.
    page, head = views.stop(rf.get("/u/x"), token), views.stop(rf.head("/u/x"), token)

    assert head.content == b""
    assert head["Content-Length"] == str(len(page.content))


@pytest.mark.parametrize("method", ["put", "patch", "delete", "options", "trace"])
def test_other_methods_are_refused_and_change_nothing(
    stranger: Client, message: Message, method: str
) -> None:
    before = written()

    response = getattr(stranger, method)(path_of(message))

    assert response.status_code == 405
    assert response["Allow"] == "GET, HEAD, POST"
    assert written() == before


# --- one click (RFC 8058)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (ONE_CLICK, URLENCODED),
        (ONE_CLICK, f"{URLENCODED}; charset=UTF-8"),
        (PARTS, "multipart/form-data; boundary=b"),
        (f"a=1&{ONE_CLICK}&recipient=somebody&again=no", URLENCODED),
        ("list-unsubscribe=one-click", URLENCODED),
        ("List-Unsubscribe=Two-Clicks", URLENCODED),
        ("", URLENCODED),
        ("", ""),
        ("%00%ff%fe=\xff", URLENCODED),
        ("&" * 4000, URLENCODED),
        ("{}", "application/json"),
        ("no parts at all", "multipart/form-data"),
        (f"{ONE_CLICK}&token=another", URLENCODED),
    ],
)
def test_a_mail_program_stops_in_one_request(
    stranger: Client, message: Message, body: str, content_type: str
) -> None:
    response = stranger.generic("POST", path_of(message), body, content_type=content_type)

    assert response.status_code == 200
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert text_of(response) == "Done. You won’t get more of these emails.\n"
    fact = OptOut.objects.get()
    assert (fact.contact_id, fact.source, fact.direction) == (
        message.contact_id,
        "one_click",
        "out",
    )
    assert Event.objects.get().message_id == message.pk


def test_a_body_without_a_length_is_not_read_and_stops_too(
    stranger: Client, message: Message
) -> None:
    # gunicorn hands a chunked body on without CONTENT_LENGTH, and Django then sees none.
    response = stranger.post(
        path_of(message), ONE_CLICK, content_type=URLENCODED, CONTENT_LENGTH=""
    )

    assert response.status_code == 200
    assert OptOut.objects.count() == 1


def test_a_body_that_is_too_long_is_not_read(stranger: Client, message: Message) -> None:
    before = written()

    response = stranger.post(
        path_of(message), ONE_CLICK + "&x=" + "x" * 5000, content_type=URLENCODED
    )

    assert response.status_code == 413
    assert written() == before


def test_the_address_in_the_header_is_the_one_that_works(
    stranger: Client, message: Message, settings: Any
) -> None:
    settings.PUBLIC_URL = "https://mail.lakeside.example"
    path = unsubscribe.url(message.pk).removeprefix("https://mail.lakeside.example")

    assert stranger.post(path, ONE_CLICK, content_type=URLENCODED).status_code == 200
    assert OptOut.objects.get().contact_id == message.contact_id


@pytest.mark.django_db(transaction=True)
def test_twenty_at_once_are_one_stop() -> None:
    message = make_message(factories.make_contact())
    path, answers, start = path_of(message), [], threading.Barrier(20)

    def post() -> None:
        try:
            start.wait()
            answers.append(Client().post(path, ONE_CLICK, content_type=URLENCODED).status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=post) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == [200] * 20
    assert (OptOut.objects.count(), Event.objects.count()) == (1, 1)
    for action in ("opt_out.recorded", "event.received"):
        assert Entry.objects.filter(action=action).count() == 1


def test_when_it_cannot_be_recorded_the_answer_says_so(
    message: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consent, "record", lambda *a, **kw: 1 / 0)
    client = Client(raise_request_exception=False)

    response = client.post(path_of(message), ONE_CLICK, content_type=URLENCODED)

    assert response.status_code == 500
    assert OptOut.objects.count() == 0


# --- the page


def test_the_page_asks_one_question(stranger: Client, message: Message) -> None:
    page = text_of(stranger.get(path_of(message)))

    assert "<title>Email choices</title>" in page
    assert "Stop promotional email from Lakeside Health?" in page
    assert page.count("<button") == 1
    assert "1 Harbor Street, Springfield, IL 62701" in page


def test_pressing_the_button_stops_and_says_so(stranger: Client, message: Message) -> None:
    response = press(stranger, message)

    page = text_of(response)
    assert response.status_code == 200
    assert "You won’t get more promotional email from Lakeside Health." in page
    assert "Messages about your own care and bills may still come." in page
    assert "An email that was already on its way may still arrive." in page
    assert "doesn’t take back a permission" in page
    assert OptOut.objects.get().source == "page"


def test_looking_again_shows_that_it_stopped(stranger: Client, message: Message) -> None:
    press(stranger, message)
    before = written()

    page = text_of(stranger.get(path_of(message)))

    assert "You won’t get more promotional email" in page
    assert "on its way" not in page
    assert 'name="confirm"' not in page
    assert written() == before


def test_a_mistake_is_taken_back_with_one_button(stranger: Client, message: Message) -> None:
    assert 'name="again"' in text_of(press(stranger, message))

    page = text_of(press(stranger, message, "again"))

    assert "You’ll get promotional email from Lakeside Health again." in page
    assert not unsubscribe.is_stopped(message)
    after = written()
    assert "again." in text_of(press(stranger, message, "again"))
    assert written() == after


def test_a_stop_by_telephone_is_not_offered_back(stranger: Client, message: Message) -> None:
    consent.opt_out(message.contact, "commercial", source="phone", by="system:tests")
    before = written()

    page = text_of(press(stranger, message, "again"))

    assert 'name="again"' not in page
    assert "If you want it again, write to us at the address below." in page
    assert unsubscribe.is_stopped(message)
    assert written() == before


def test_a_permission_is_spoken_of_only_where_one_was_needed(
    stranger: Client, organization: Any
) -> None:
    message = make_message(factories.make_contact(organization), purpose="OWN_PRODUCT")

    assert "permission" not in text_of(press(stranger, message))


@pytest.mark.parametrize(
    ("purpose", "question"),
    [
        ("TREATMENT", "Stop email about health and care from Lakeside Health?"),
        ("FUNDRAISING", "Stop email that asks for donations to Lakeside Health?"),
        ("MARKETING_PAID", "Stop promotional email from Lakeside Health?"),
    ],
)
def test_the_question_is_about_what_would_stop(
    stranger: Client, organization: Any, purpose: str, question: str
) -> None:
    message = make_message(factories.make_contact(organization), purpose=purpose)

    assert question in text_of(stranger.get(path_of(message)))


def test_nothing_on_the_page_tells_who_the_person_is(stranger: Client, message: Message) -> None:
    pages = [
        text_of(answer)
        for answer in (
            stranger.get(path_of(message)),
            press(stranger, message),
            press(stranger, message, "again"),
            stranger.post(path_of(message), ONE_CLICK, content_type=URLENCODED),
        )
    ]

    for page in pages:
        for secret in ("River", "Stone", "river", "mail.example", str(message.contact_id)):
            assert secret not in page
        assert message.campaign.name not in page
        assert unsubscribe.token(message.pk) not in page


def test_a_name_is_shown_as_it_is_written(db: None, stranger: Client) -> None:
    organization = factories.make_organization(
        name='<b onclick="x">{title} & %s</b>', postal_address="1 Main St\n<i>Town</i>"
    )
    message = make_message(factories.make_contact(organization))

    page = text_of(stranger.get(path_of(message)))

    assert "&lt;b onclick=&quot;x&quot;&gt;{title} &amp; %s&lt;/b&gt;" in page
    assert "1 Main St<br>&lt;i&gt;Town&lt;/i&gt;" in page
    assert "<b onclick" not in page


# --- languages


@pytest.mark.parametrize(
    ("spoken", "browser", "chosen", "expected"),
    [
        ("es", "", "", "es"),
        ("es-MX", "en-US,en", "", "es"),
        ("en", "es", "", "en"),
        (None, "es-US,es;q=0.9", "", "es"),
        ("vi", "es", "", "es"),
        ("vi", "vi", "", "en"),
        (None, "", "", "en"),
        ("es", "es", "en", "en"),
        ("en", "en", "es", "es"),
        ("es", "", "klingon", "es"),
    ],
)
def test_the_language_is_the_readers(
    stranger: Client,
    organization: Any,
    spoken: str | None,
    browser: str,
    chosen: str,
    expected: str,
) -> None:
    message = make_message(factories.make_contact(organization, language=spoken))
    path = path_of(message) + (f"?language={chosen}" if chosen else "")

    response = stranger.get(path, headers={"Accept-Language": browser})

    page = text_of(response)
    assert f'<html lang="{expected}">' in page
    assert response["Content-Language"] == expected
    assert ("¿Dejar de recibir correos promocionales de Lakeside Health?" in page) is (
        expected == "es"
    )


def test_the_chosen_language_stays_after_the_button(stranger: Client, message: Message) -> None:
    page = text_of(stranger.get(path_of(message) + "?language=es"))
    assert 'action="' not in page  # so the form goes back to this very address

    response = stranger.post(
        path_of(message) + "?language=es", "confirm=yes", content_type=URLENCODED
    )

    assert "Ya no recibirá correos promocionales de Lakeside Health." in text_of(response)


def test_the_page_works_when_the_persons_data_was_destroyed(
    stranger: Client, organization: Any
) -> None:
    message = make_message(factories.make_contact(organization, language="es"))
    keys.destroy_keys(organization.pk)

    response = stranger.get(path_of(message))

    assert response.status_code == 200
    assert '<html lang="en">' in text_of(response)


# --- links that are none


def test_every_wrong_link_gets_the_same_page(stranger: Client, message: Message) -> None:
    token = unsubscribe.token(message.pk)
    flipped = [
        token[:place] + ("A" if right != "A" else "B") + token[place + 1 :]
        for place, right in enumerate(token)
    ]
    wrong = [
        *flipped,
        *(token[:-1], token + "A", token + "/", token + "/x", "x", "a" * 9000, str(message.pk)),
        *("accent/zzzzzz.css", "accent/0e5a5a.css/", "../healthz", "%00", "ünïcode", "?x"),
    ]
    before = written()

    answers = [stranger.get(f"/u/{text}") for text in wrong]
    answers += [
        stranger.post(f"/u/{text}", ONE_CLICK, content_type=URLENCODED) for text in wrong[:50]
    ]
    answers.append(stranger.get("/nothing-here"))

    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.content for answer in answers}) == 1
    assert "This link doesn’t work" in text_of(answers[0])
    assert "Este enlace no funciona" in text_of(answers[0])
    assert written() == before


def test_a_token_whose_message_is_gone_gets_the_same_page(
    stranger: Client, message: Message
) -> None:
    path = path_of(message)
    wrong = stranger.get("/u/x").content
    Message.objects.filter(pk=message.pk).delete()

    assert stranger.get(path).content == wrong


def test_a_wrong_link_costs_no_query(
    stranger: Client, message: Message, django_assert_num_queries: Callable
) -> None:
    with django_assert_num_queries(0):
        stranger.get("/u/short")
        stranger.get(path_of(message)[:-1] + "_")


# --- what every answer carries


def answers_to(client: Client, message: Message) -> dict[str, HttpResponse]:
    path = path_of(message)
    return {
        "ask": client.get(path),
        "head": client.head(path),
        "stopped": press(client, message),
        "again": press(client, message, "again"),
        "one click": client.post(path, ONE_CLICK, content_type=URLENCODED),
        "no such link": client.get("/u/x"),
        "method": client.put(path),
        "too long": client.post(path, "x" * 5000, content_type=URLENCODED),
    }


def test_every_answer_keeps_the_address_to_itself(stranger: Client, message: Message) -> None:
    for name, answer in answers_to(stranger, message).items():
        assert answer["Cache-Control"] == "no-store", name
        assert answer["Referrer-Policy"] == "no-referrer", name
        assert answer["X-Robots-Tag"] == "noindex, nofollow", name
        assert answer["X-Content-Type-Options"] == "nosniff", name
        assert answer["X-Frame-Options"] == "DENY", name
        assert not answer.has_header("Location"), name


@pytest.mark.parametrize("brought", [{}, {"sessionid": "a" * 32, "csrftoken": "x" * 32}])
def test_no_answer_sets_a_cookie_or_looks_at_one(
    stranger: Client, message: Message, brought: dict
) -> None:
    stranger.cookies.load(brought)

    for name, answer in answers_to(stranger, message).items():
        assert not answer.cookies, name
        assert "cookie" not in answer.get("Vary", "").lower(), name


def test_the_policy_lets_nothing_in_but_our_style_sheets(
    stranger: Client, message: Message
) -> None:
    policy = stranger.get(path_of(message))["Content-Security-Policy"]

    assert sorted(part.strip() for part in policy.split(";")) == [
        "base-uri 'none'",
        "default-src 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "style-src 'self'",
    ]


class Parts(html.parser.HTMLParser):
    """Collects the elements and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


def test_the_pages_have_no_script_no_inline_style_and_nothing_of_others(
    stranger: Client, message: Message
) -> None:
    pages = [text_of(answer) for answer in answers_to(stranger, message).values() if answer.content]
    pages += [render_to_string(f"{code}.html") for code in ("400", "403", "403_csrf", "404", "500")]

    for page in pages:
        for tag, attributes in Parts(page).elements:
            assert tag not in {"script", "style", "img", "iframe", "object", "base"}
            for name, value in attributes.items():
                assert name != "style"
                assert not name.startswith("on")
                if name in {"href", "src", "action"}:
                    assert (value or "").startswith(("/static/", "/u/accent/", "?language="))


@pytest.mark.parametrize("code", ["400", "403", "403_csrf", "404", "500"])
def test_error_pages_speak_both_languages_and_need_nothing(code: str) -> None:
    page = render_to_string(f"{code}.html")

    assert '<html lang="en">' in page
    assert 'lang="es"' in page
    assert page.count("<h1>") == 1
    assert "/static/css/public.css" in page


# --- the log


def test_no_log_line_shows_a_token(
    message: Message, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(raise_request_exception=False)
    token = unsubscribe.token(message.pk)
    with caplog.at_level(logging.DEBUG):
        answers_to(client, message)
        client.get(f"/u/{token}/more")
        monkeypatch.setattr(unsubscribe, "is_stopped", lambda message: 1 / 0)
        client.get(f"/u/{token}")

    lines = [Formatter().format(record) for record in caplog.records]
    assert any("Internal Server Error" in line for line in lines)
    assert any("Method Not Allowed" in line for line in lines)
    assert [line for line in lines if token[:20] in line or token[-20:] in line] == []


# --- the organization's colour


def test_the_page_wears_the_organizations_colour(db: None, stranger: Client) -> None:
    organization = factories.make_organization(accent="#7A1FA2")
    page = text_of(stranger.get(path_of(make_message(factories.make_contact(organization)))))

    assert '<link rel="stylesheet" href="/u/accent/7a1fa2.css">' in page
    response = stranger.get("/u/accent/7a1fa2.css")
    assert response["Content-Type"] == "text/css; charset=utf-8"
    assert response["Cache-Control"] == "public, max-age=31536000, immutable"
    assert not response.cookies
    assert text_of(response).startswith(":root{--hm-accent:#7a1fa2;")


def test_what_is_no_colour_leaves_ours(db: None, stranger: Client) -> None:
    organization = factories.make_organization()
    type(organization).objects.filter(pk=organization.pk).update(accent="}*{x:y")

    page = text_of(stranger.get(path_of(make_message(factories.make_contact(organization)))))

    assert "/u/accent/" not in page
