"""Where the mail of a domain goes, asked of a real name server on this machine."""

import asyncio
import socket
import threading
from collections.abc import Iterator

import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery import mx
from delivery.replies import Kind, classify

NOBODY = mx.parse_routes("")

# (name, type) → records, or "SERVFAIL" or "SILENT". A name with any record exists; others don't.
ZONE: dict[tuple[str, str], list[str] | str] = {
    ("clinic.example", "MX"): ["20 mx2.clinic.example.", "10 mx1.clinic.example."],
    ("mx1.clinic.example", "A"): ["8.8.8.1"],
    ("mx1.clinic.example", "AAAA"): ["2600::1"],
    ("mx2.clinic.example", "A"): ["8.8.8.2"],
    ("equal.example", "MX"): [f"10 mx{n}.equal.example." for n in range(6)],
    **{(f"mx{n}.equal.example", "A"): [f"8.8.9.{n}"] for n in range(6)},
    ("many.example", "MX"): [f"{n} mx{n}.many.example." for n in range(40)],
    **{(f"mx{n}.many.example", "A"): [f"8.8.7.{m}" for m in range(n + 1)] for n in range(40)},
    ("null.example", "MX"): ["0 ."],
    ("null.example", "A"): ["8.8.8.3"],
    ("half-null.example", "MX"): ["0 .", "10 mx1.clinic.example."],
    ("plain.example", "A"): ["8.8.8.4"],
    ("empty.example", "TXT"): ['"nothing to see"'],
    ("broken.example", "MX"): "SERVFAIL",
    ("broken.example", "A"): ["8.8.8.5"],
    ("silent.example", "MX"): "SILENT",
    ("no-address.example", "MX"): ["10 nowhere.example."],
    ("half.example", "MX"): ["10 nowhere.example.", "20 mx1.clinic.example."],
    ("failing.example", "A"): "SERVFAIL",
    ("failing.example", "AAAA"): "SERVFAIL",
    ("inward.example", "MX"): ["5 inside.example.", "10 mx1.clinic.example."],
    ("inside.example", "A"): ["127.0.0.1", "10.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1"],
    ("inside.example", "AAAA"): [
        "::1",
        "fd00::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
    ],
    ("only-inward.example", "MX"): ["5 inside.example."],
    ("numeric.example", "MX"): ["5 127.0.0.1.", "6 localhost.", "7 mx1.clinic.example."],
    ("alias.example", "CNAME"): ["clinic.example."],
    ("alias-host.example", "MX"): ["10 www.clinic.example."],
    ("www.clinic.example", "CNAME"): ["mx2.clinic.example."],
    ("xn--dmain-jua.example", "MX"): ["10 mx1.clinic.example."],
}


def answer(query: dns.message.Message) -> dns.message.Message | None:
    question = query.question[0]
    name = question.name.to_text(omit_final_dot=True).lower()
    kind = dns.rdatatype.to_text(question.rdtype)
    response = dns.message.make_response(query)
    response.flags |= dns.flags.RA
    while target := ZONE.get((name, "CNAME")):
        response.answer.append(dns.rrset.from_text(name + ".", 60, "IN", "CNAME", *target))
        name = target[0].rstrip(".")
    found = ZONE.get((name, kind))
    if found == "SILENT":
        return None
    if found == "SERVFAIL":
        response.set_rcode(dns.rcode.SERVFAIL)
    elif found:
        response.answer.append(dns.rrset.from_text(name + ".", 60, "IN", kind, *found))
    elif not any(owner == name for owner, _ in ZONE):
        response.set_rcode(dns.rcode.NXDOMAIN)
    return response


@pytest.fixture(scope="module")
def resolver() -> Iterator[dns.resolver.Resolver]:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    stop = threading.Event()

    def serve() -> None:
        server.settimeout(0.1)
        while not stop.is_set():
            try:
                wire, peer = server.recvfrom(4096)
            except TimeoutError:
                continue
            if response := answer(dns.message.from_wire(wire)):
                server.sendto(response.to_wire(want_shuffle=False), peer)

    thread = threading.Thread(target=serve)
    thread.start()
    made = dns.resolver.Resolver(configure=False)
    made.nameservers = ["127.0.0.1"]
    made.port = server.getsockname()[1]
    made.lifetime = 0.5
    yield made
    stop.set()
    thread.join()
    server.close()


@pytest.fixture
def resolve(resolver):
    def ask(domain: str, **options) -> list[mx.Host]:
        return mx.resolve(domain, resolver=resolver, routes=NOBODY, **options)

    return ask


def names(hosts: list[mx.Host]) -> list[str]:
    return [host.name for host in hosts]


def test_mail_servers_come_by_preference_with_their_addresses(resolve):
    assert resolve("clinic.example") == [
        mx.Host("mx1.clinic.example", 25, ("8.8.8.1", "2600::1")),
        mx.Host("mx2.clinic.example", 25, ("8.8.8.2",)),
    ]


def test_the_same_without_blocking_the_loop(resolver):
    hosts = asyncio.run(mx.resolve_async("plain.example", resolver=resolver, routes=NOBODY))
    assert hosts == [mx.Host("plain.example", 25, ("8.8.8.4",))]


def test_equal_preferences_are_shuffled(resolve):
    orders = {tuple(names(resolve("equal.example"))) for _ in range(12)}
    assert len(orders) > 3 and all(len(set(order)) == 6 for order in orders)


def test_a_domain_with_endless_mail_servers_is_cut_short(resolve):
    hosts = resolve("many.example")
    assert names(hosts) == [f"mx{n}.many.example" for n in range(mx.MAX_HOSTS)]
    assert max(len(host.addresses) for host in hosts) == mx.MAX_ADDRESSES


@pytest.mark.parametrize(
    "domain", ["dömain.example", "DÖMAIN.Example", "xn--dmain-jua.example", "dömain.example."]
)
def test_internationalised_domains_are_asked_for_by_their_a_label(resolve, domain):
    assert names(resolve(domain)) == ["mx1.clinic.example"]


def test_aliases_are_followed(resolve):
    assert names(resolve("alias.example")) == ["mx1.clinic.example", "mx2.clinic.example"]
    assert resolve("alias-host.example")[0].addresses == ("8.8.8.2",)


def test_without_mx_records_the_domain_itself_is_the_server(resolve):
    assert resolve("plain.example") == [mx.Host("plain.example", 25, ("8.8.8.4",))]


def test_with_mx_records_the_domains_own_address_is_never_used(resolve):
    """`broken` and `null` have an address too; their MX decides."""
    with pytest.raises(mx.LookupFailed):
        resolve("broken.example")
    with pytest.raises(mx.NullMX):
        resolve("null.example")


@pytest.mark.parametrize(
    ("domain", "error", "temporary", "code", "kind"),
    [
        ("null.example", mx.NullMX, False, "556 5.1.10", Kind.HARD_RECIPIENT),
        ("nowhere.example", mx.NoSuchDomain, False, "550 5.1.2", Kind.HARD_RECIPIENT),
        ("empty.example", mx.NoMailServer, False, "550 5.4.4", Kind.SOFT_NETWORK),
        ("broken.example", mx.LookupFailed, True, "451 4.4.3", Kind.SOFT_NETWORK),
        ("silent.example", mx.LookupFailed, True, "451 4.4.3", Kind.SOFT_NETWORK),
        ("failing.example", mx.LookupFailed, True, "451 4.4.3", Kind.SOFT_NETWORK),
        ("no-address.example", mx.LookupFailed, True, "451 4.4.3", Kind.SOFT_NETWORK),
        ("only-inward.example", mx.LookupFailed, True, "451 4.4.3", Kind.SOFT_NETWORK),
    ],
)
def test_no_host_has_a_reason_by_name(resolve, domain, error, temporary, code, kind):
    with pytest.raises(mx.Unresolvable) as caught:
        resolve(domain)
    assert type(caught.value) is error and caught.value.temporary is temporary
    assert str(caught.value.reply) == code and caught.value.reply.local
    assert classify(caught.value.reply).kind is kind
    assert domain not in str(caught.value)


def test_a_null_record_beside_others_is_passed_over(resolve):
    assert names(resolve("half-null.example")) == ["mx1.clinic.example"]


def test_a_server_without_an_address_is_passed_over(resolve):
    assert names(resolve("half.example")) == ["mx1.clinic.example"]


def test_a_strangers_record_does_not_lead_into_our_network(resolve):
    assert names(resolve("inward.example")) == ["mx1.clinic.example"]
    assert names(resolve("numeric.example")) == ["mx1.clinic.example"]
    inward = resolve("inward.example", public_only=False)
    assert names(inward) == ["inside.example", "mx1.clinic.example"]


BAD = [
    "[127.0.0.1]",
    "[IPv6:::1]",
    "127.0.0.1",
    "0x7f.1",
    "2130706433",
    "1.0x7f000001",
    "::1",
    "localhost",
    "LOCALHOST.",
    "x.localhost",
    "localhost.localdomain",
    "single",
    "",
    ".",
    "a..example",
    ".example.org",
    "-a.example",
    "a-.example",
    "a_b.example",
    "a b.example",
    "a\r\n.example",
    "a\x00.example",
    "a/b.example",
    "x" * 64 + ".example",
    "x.example." * 30 + "example",
    "xn--a.example",
    "a\u200bb@x",
    "①.",
]


@pytest.mark.parametrize("domain", BAD)
def test_what_is_no_mail_domain_is_refused_before_any_look_up(domain):
    with pytest.raises(mx.BadDomain) as caught:
        mx.resolve(domain, routes=mx.parse_routes("*=127.0.0.1:9"), resolver=object())
    assert not caught.value.temporary
    assert classify(caught.value.reply).kind is Kind.HARD_RECIPIENT


def test_domains_are_lower_case_a_labels():
    assert mx.a_label("Example.ORG.") == "example.org"
    assert mx.a_label("faß.example") == "xn--fa-hia.example"  # not fass (IDNA 2008)
    assert mx.a_label("ｅｘａｍｐｌｅ。org") == "example.org"


@given(st.text(max_size=30))
def test_any_text_is_a_plain_name_or_refused(text):
    try:
        name = mx.a_label(text)
    except mx.BadDomain:
        return
    assert name.isascii() and name == name.lower() and mx.a_label(name) == name
    assert not set(name) & set("<>@[]\r\n \"'\\/:;,")


# Routes.


def test_the_closest_route_wins():
    routes = mx.parse_routes(
        " *=127.0.0.1:2526 , example.org=127.0.0.2:2600,*.example.org=127.0.0.3:1,"
        "*.b.example.org=[::1]:25,*.test=relay.internal:2525,"
    )
    assert routes.find("example.org") == mx.Route("127.0.0.2", 2600)
    assert routes.find("a.example.org") == mx.Route("127.0.0.3", 1)
    assert routes.find("a.b.example.org") == mx.Route("::1", 25)
    assert routes.find("b.example.org") == mx.Route("127.0.0.3", 1)
    assert routes.find("clinic.test") == mx.Route("relay.internal", 2525)
    assert routes.find("elsewhere.net") == mx.Route("127.0.0.1", 2526)
    assert mx.parse_routes("example.org=127.0.0.2:1").find("elsewhere.net") is None
    assert mx.parse_routes("").find("example.org") is None


def test_routes_may_be_given_in_unicode():
    assert mx.parse_routes("dömain.example=127.0.0.1:1").find("xn--dmain-jua.example")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("*", "entry 1: expected DOMAIN=HOST:PORT"),
        ("*=127.0.0.1:25,example.org", "entry 2: expected DOMAIN=HOST:PORT"),
        ("*=127.0.0.1", "entry 1: expected HOST:PORT"),
        ("*=:25", "entry 1: expected HOST:PORT"),
        ("*=::1:25", "entry 1: expected HOST:PORT"),
        ("*=[zz]:25", "entry 1: expected HOST:PORT"),
        ("*=[1:2]:25", "entry 1: not an IPv6 address"),
        ("*=127.0.0.1:0", "entry 1: the port"),
        ("*=127.0.0.1:65536", "entry 1: the port"),
        ("*=127.0.0.1:x", "entry 1: expected HOST:PORT"),
        ("*=a:1,*=b:2", "entry 2: a second route"),
        ("localhost=127.0.0.1:25", "entry 1: "),
        ("=127.0.0.1:25", "entry 1: "),
        ("*.=127.0.0.1:25", "entry 1: "),
        ("a@b.example=127.0.0.1:25", "entry 1: "),
    ],
)
def test_a_route_that_cannot_be_read_says_which_and_why(raw, message):
    with pytest.raises(mx.BadRoutes, match=message):
        mx.parse_routes(raw)


def test_a_route_is_taken_without_asking_dns():
    routes = mx.parse_routes("*=127.0.0.1:2526")
    hosts = mx.resolve("nowhere.example", routes=routes, resolver=object())
    assert hosts == [mx.Host("127.0.0.1", 2526, ("127.0.0.1",), routed=True)]


def test_the_settings_routes_are_used_by_default(settings):
    settings.HIPAAMAIL_ROUTES = "example.org=127.0.0.1:2526"
    assert mx.route_for("example.org") == mx.Route("127.0.0.1", 2526)
    assert mx.resolve("example.org")[0].port == 2526
    settings.HIPAAMAIL_ROUTES = ""
    assert mx.route_for("example.org") is None


def test_a_route_to_an_unknown_name_fails_for_now(monkeypatch):
    def nothing(*_args, **_options):
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", nothing)
    with pytest.raises(mx.LookupFailed):
        mx.resolve("example.org", routes=mx.parse_routes("*=relay.internal:25"))


def test_a_host_is_reached_from_an_address_of_its_own_family():
    host = mx.Host("mx.example", 25, ("8.8.8.1", "2600::1"))
    assert host.from_source("127.0.0.11") == ("8.8.8.1",)
    assert host.from_source("2001:db8::5") == ("2600::1",)
    assert host.from_source("") == host.addresses


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("aspmx.l.google.com", "google.com"),
        ("alt1.gmr-smtp-in.l.google.com.", "google.com"),
        ("aspmx2.googlemail.com", "google.com"),
        ("clinic-example.mail.protection.outlook.com", "outlook.com"),
        ("mta5.am0.yahoodns.net", "yahoodns.net"),
        ("mx.hospital.co.uk", "hospital.co.uk"),
        ("mx.hospital.nhs.uk", "nhs.uk"),
        ("mx.example.de", "example.de"),
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("mailhost", "mailhost"),
    ],
)
def test_who_runs_a_mail_server(host, expected):
    assert mx.operator(host) == expected
