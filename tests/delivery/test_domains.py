"""Sending domains: the records to publish, and a domain that is verified by what the world can see."""

import json
import re

import dns.exception
import dns.resolver
import dns.rrset
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from accounts.models import SendingDomain
from audit.models import Entry
from delivery import dkim, domains, mx
from delivery.models import DkimKey, SendingIP
from tests.factories import BY, make_addresses, make_organization

pytestmark = pytest.mark.django_db

NAME, BOUNCE = "clinic.example", "bounce.clinic.example"


class Resolver:
    """Answers from {(name, type): [text, …]}; what is not there does not exist."""

    def __init__(self, zone):
        self.zone = zone

    def resolve(self, name, kind, search=True):
        values = self.zone.get((name.removesuffix("."), kind))
        if values is None:
            raise dns.resolver.NXDOMAIN
        if isinstance(values, Exception):
            raise values
        if kind == "TXT":
            # As published: strings of at most 255 characters.
            values = [
                " ".join(f'"{value[i : i + 255]}"' for i in range(0, len(value), 255))
                for value in values
            ]
        return dns.rrset.from_text(name, 300, "IN", kind, *values)


@pytest.fixture
def domain(organization):
    # As they come from the table, they are in no order.
    make_addresses(organization, "127.0.0.12", "127.0.0.11")
    for number, address in enumerate(SendingIP.objects.order_by("address"), start=1):
        SendingIP.objects.filter(pk=address.pk).update(helo=f"mail{number}.{NAME}")
    return domains.add_domain(organization, NAME, by=BY)


@pytest.fixture
def zone(domain, monkeypatch):
    """The DNS as it should be."""
    published = {
        (name, kind): [value]
        for name, types in domains.records(domain.organization).items()
        for kind, value in types.items()
    }
    monkeypatch.setattr(mx, "_system_resolver", lambda: Resolver(published))
    return published


def verified(domain):
    return SendingDomain.objects.get(pk=domain.pk).verified_at is not None


def test_the_records_have_the_shape_that_is_promised(domain):
    published = domains.records(domain.organization)

    assert {type(value) for types in published.values() for value in types.values()} == {str}
    assert {(name, kind) for name, types in published.items() for kind in types} == {
        (f"hm1._domainkey.{NAME}", "TXT"),
        (f"_dmarc.{NAME}", "TXT"),
        (BOUNCE, "TXT"),
        (BOUNCE, "MX"),
        (f"_smtp._tls.{BOUNCE}", "TXT"),
        (f"_mta-sts.{BOUNCE}", "TXT"),
        (f"mta-sts.{BOUNCE}", "CNAME"),
        (f"mail1.{NAME}", "A"),
        (f"mail2.{NAME}", "A"),
    }


def test_the_key_that_is_published_is_the_one_that_signs(domain):
    key = DkimKey.objects.get()

    published = domains.records(domain.organization)[f"{key.selector}._domainkey.{NAME}"]["TXT"]

    assert published == dkim.dns_value(key.private_pem.encode())
    assert published.startswith("v=DKIM1;")


def test_spf_names_the_addresses_and_ends_in_a_hard_fail(domain):
    spf = domains.records(domain.organization)[BOUNCE]["TXT"]

    assert spf == "v=spf1 ip4:127.0.0.11 ip4:127.0.0.12 -all"


def test_spf_of_an_organization_without_addresses_lets_nobody_send():
    organization = make_organization()
    domains.add_domain(organization, NAME, by=BY)

    published = domains.records(organization)

    assert published[BOUNCE] == {"TXT": "v=spf1 -all"}


def test_an_ipv6_address_is_named_as_one(domain):
    pool = SendingIP.objects.first().pool
    SendingIP.objects.create(
        organization=domain.organization, pool=pool, address="2001:db8::25", helo=f"six.{NAME}"
    )

    published = domains.records(domain.organization)

    assert "ip6:2001:db8::25" in published[BOUNCE]["TXT"]
    assert published[f"six.{NAME}"] == {"AAAA": "2001:db8::25"}


def test_dmarc_is_strict_about_dkim_and_has_no_tag_that_is_gone(domain):
    dmarc = domains.records(domain.organization)[f"_dmarc.{NAME}"]["TXT"]
    tags = dict(tag.strip().split("=", 1) for tag in dmarc.split(";"))

    assert list(tags)[0] == "v" and tags["v"] == "DMARC1"
    assert (tags["p"], tags["adkim"]) == ("quarantine", "s")
    assert not {"pct", "rf", "ri"} & set(tags)


def test_the_mta_sts_id_changes_with_the_policy(domain):
    record = domains.records(domain.organization)[f"_mta-sts.{BOUNCE}"]["TXT"]
    assert re.fullmatch(r"v=STSv1; id=[0-9a-f]{16}", record)
    assert "mode: enforce\r\n" in domains.mta_sts_policy("mail1.clinic.example")

    SendingIP.objects.update(helo="other.clinic.example")

    assert domains.records(domain.organization)[f"_mta-sts.{BOUNCE}"]["TXT"] != record


def test_a_domain_of_another_script_is_kept_as_an_a_label(organization):
    assert domains.add_domain(organization, "München.example", by=BY).domain == (
        "xn--mnchen-3ya.example"
    )


@pytest.mark.parametrize("name", ["localhost", "clinic", "a b.example", "[127.0.0.1]", "x\r\n.example"])  # fmt: skip
def test_what_is_no_domain_is_refused(organization, name):
    with pytest.raises(mx.BadDomain):
        domains.add_domain(organization, name, by=BY)

    assert not SendingDomain.objects.exists()
    assert not DkimKey.objects.exists()


def test_the_private_key_is_sealed_in_the_database(domain):
    with connection.cursor() as cursor:
        cursor.execute("select private_pem, k::text from delivery_dkimkey k")
        ((sealed, row),) = cursor.fetchall()
    assert b"PRIVATE" not in bytes(sealed)
    assert "PRIVATE" not in row


def test_a_domain_with_its_records_is_verified(domain, zone):
    found = domains.verify(domain, by=BY)

    assert set(found.values()) == {True}
    assert set(domains.NEEDED) < set(found)
    assert verified(domain)
    assert Entry.objects.get(action="domain.verified").detail == {"how": "dns"}


def test_records_may_be_written_another_way(domain, zone):
    spf = (BOUNCE, "TXT")
    zone[spf] = ["google-site-verification=x", "V=SPF1  IP4:127.0.0.11 ip4:127.0.0.12 -ALL"]
    zone[BOUNCE, "MX"] = [f"10 MAIL1.{NAME}."]

    assert all(domains.verify(domain, by=BY).values())


@pytest.mark.parametrize(
    ("record", "value", "what"),
    [
        ((f"hm1._domainkey.{NAME}", "TXT"), None, "dkim"),
        ((f"hm1._domainkey.{NAME}", "TXT"), ["v=DKIM1; h=sha256; k=rsa; p=AAAA"], "dkim"),
        ((BOUNCE, "TXT"), ["v=spf1 ip4:127.0.0.11 ip4:127.0.0.12 ~all"], "spf"),
        ((BOUNCE, "TXT"), ["v=spf1 ip4:127.0.0.11 -all"], "spf"),
        ((f"_dmarc.{NAME}", "TXT"), ["v=DMARC1; p=none"], "dmarc"),
        ((BOUNCE, "MX"), ["10 elsewhere.example."], "return_path"),
        ((BOUNCE, "MX"), None, "return_path"),
    ],
)
def test_a_domain_that_lacks_what_is_needed_is_not_verified(domain, zone, record, value, what):
    if value is None:
        del zone[record]
    else:
        zone[record] = value

    found = domains.verify(domain, by=BY)

    assert [name for name, is_there in found.items() if not is_there] == [what]
    assert not verified(domain)
    assert not Entry.objects.filter(action="domain.verified").exists()


def test_the_case_of_a_key_counts(domain, zone):
    name = (f"hm1._domainkey.{NAME}", "TXT")
    zone[name] = [zone[name][0].swapcase()]

    assert domains.check(domain)["dkim"] is False


def test_a_domain_may_lack_what_is_good_to_have(domain, zone):
    del zone[f"_mta-sts.{BOUNCE}", "TXT"], zone[f"_smtp._tls.{BOUNCE}", "TXT"]

    assert not all(domains.verify(domain, by=BY).values())
    assert verified(domain)


def test_a_look_up_that_fails_is_not_a_missing_record(domain, zone):
    zone[BOUNCE, "TXT"] = dns.exception.Timeout()

    with pytest.raises(mx.LookupFailed):
        domains.verify(domain, by=BY)

    assert not verified(domain)


def test_another_organizations_key_for_the_same_domain_verifies_nothing(domain, zone):
    stranger = make_organization()
    theirs = domains.add_domain(stranger, NAME, by=BY)

    assert domains.verify(theirs, by=BY)["dkim"] is False
    assert not verified(theirs)


def test_the_command_prints_the_records_of_one_organization_or_of_all(domain, capsys):
    other = make_organization(slug="other")
    domains.add_domain(other, "other.example", by=BY)

    call_command("dns_records", "lakeside")
    one = json.loads(capsys.readouterr().out)
    call_command("dns_records")
    both = json.loads(capsys.readouterr().out)

    assert one == domains.records(domain.organization)
    assert both == one | domains.records(other)


def test_records_of_two_organizations_at_one_name_are_both_printed(domain, capsys):
    """A small installation has one sending host; what one publishes there hides nothing of the other."""
    other = make_organization()
    domains.add_domain(other, "bounce.clinic.example", by=BY)
    pool_of = make_addresses(other, "127.0.0.13")[0]
    SendingIP.objects.filter(pk=pool_of.pk).update(helo=BOUNCE)

    call_command("dns_records")

    assert json.loads(capsys.readouterr().out)[BOUNCE].keys() == {"TXT", "MX", "A"}


def test_the_command_says_it_when_there_is_no_such_organization(domain):
    with pytest.raises(CommandError, match="sending domain"):
        call_command("dns_records", "nobody")


def test_the_command_that_checks_a_domain_names_what_is_missing(domain, zone, capsys):
    del zone[f"_dmarc.{NAME}", "TXT"]

    with pytest.raises(CommandError, match="dmarc"):
        call_command("check_domain", NAME)

    assert "MISSING dmarc" in capsys.readouterr().out
    assert not verified(domain)
