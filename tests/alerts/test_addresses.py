"""Where a webhook may go: public addresses only, whatever a name leads to and however an address is written."""

import ipaddress
from datetime import timedelta

import pytest

from metering.alerts.addresses import InvalidUrlError, is_allowed, parse_url
from tests.alerts.posting import Loopback, Names, post, transport
from tests.alerts.receivers import Receiver

PRIVATE = [
    "127.0.0.1",
    "127.8.9.10",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::a00:1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2001:10::1",
    "2002:7f00:1::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%1",
    "fec0::1",
    "ff02::1",
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "172.32.0.1", "192.169.0.1", "2606:4700::1111", "2a00:1450:4001::200e"]


@pytest.mark.parametrize("address", PRIVATE)
def test_a_name_that_leads_to_an_address_that_is_not_public_is_not_connected_to(address: str) -> None:
    network = Loopback()
    attempt = post(
        transport(allow_private=False, resolve=Names([address]), network=network), "https://hooks.example.com/"
    )
    assert (attempt.delivered, attempt.status, network.asked) == (False, None, [])
    assert "not a public address" in (attempt.problem or "")


@pytest.mark.parametrize("address", PUBLIC)
def test_a_name_that_leads_to_a_public_address_is_connected_to_by_that_address(
    receiver: Receiver, address: str
) -> None:
    network = Loopback()
    port = receiver.url.rpartition(":")[2]
    sender = transport(allow_private=False, resolve=Names([address]), network=network)
    attempt = post(sender, f"https://hooks.example.com:{port}/")
    assert network.asked == [address]
    assert "no answer" in (attempt.problem or "")  # it speaks no TLS


def test_a_mixture_of_public_and_private_addresses_is_refused(receiver: Receiver) -> None:
    network = Loopback()
    mixed = transport(allow_private=False, resolve=Names(["8.8.8.8", "10.0.0.1"]), network=network)
    assert "10.0.0.1" in (post(mixed, "https://hooks.example.com/").problem or "")
    assert (network.asked, receiver.received) == ([], [])


def test_a_name_that_leads_elsewhere_a_moment_later_leads_nowhere_else() -> None:
    """DNS rebinding: public when it is checked, private when it is connected to."""
    network, names = Loopback(), Names(["8.8.8.8"], ["127.0.0.1"])
    sender = transport(allow_private=False, resolve=names, network=network, timeout=timedelta(seconds=2))
    post(sender, "https://hooks.example.com:65535/")
    assert (network.asked, len(names.asked)) == (["8.8.8.8"], 1)
    refused = post(sender, "https://hooks.example.com:65535/")
    assert "127.0.0.1" in (refused.problem or "")
    assert network.asked == ["8.8.8.8"]


def test_the_connection_goes_to_the_address_that_was_looked_up_and_not_to_the_name(receiver: Receiver) -> None:
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    port = receiver.url.rpartition(":")[2]
    attempt = post(transport(resolve=names), f"http://hooks.example.com:{port}/in?x=1")
    assert attempt.delivered
    (request,) = receiver.received
    assert (request.path, request.headers["host"]) == ("/in", f"hooks.example.com:{port}")


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "127.1",
        "127.0.0.1.",
        "1.2.3.4.5",
        "256.1.1.1",
        "08.8.8.8",
        "localhost.0x1",
        "[::1]",
        "[::ffff:7f00:1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[fe80::1%25eth0]",
        "127.0.0.1",
        "10.0.0.1",
        "user@8.8.8.8",
        "8.8.8.8#@10.0.0.1",
        "8.8.8.8\\@10.0.0.1",
        "８.8.8.8",
        "exa mple.com",
        "-bad.example.com",
        "a..example.com",
        "example.com.",
        "a" * 64 + ".com",
        "",
    ],
)
def test_an_address_in_disguise_and_what_is_no_host_is_refused_when_it_is_written(host: str) -> None:
    with pytest.raises(InvalidUrlError, match=r"^url: "):
        parse_url(f"https://{host}/", allow_private=False)


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/",
        "ftp://hooks.example.com/",
        "https:hooks.example.com",
        "https://hooks.example.com:22/",
        "https://hooks.example.com:0/",
        "https://hooks.example.com:80/",
        "https://hooks.example.com:65536/",
        "https://hooks.example.com/a\r\nhost: evil",
        "https://hooks.example.com/\x00",
        "https://hooks.example.com/" + "a" * 2048,
        "//hooks.example.com/",
        "hooks.example.com",
    ],
)
def test_only_https_to_the_ports_of_receivers_is_allowed(url: str) -> None:
    with pytest.raises(InvalidUrlError, match=r"^url: "):
        parse_url(url, allow_private=False)


OWN = {"127.0.0.1", "127.8.9.10", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.0.1", "100.64.0.1"}


def test_what_is_allowed_besides_is_a_network_of_ones_own_and_never_what_serves_credentials() -> None:
    addresses = {text: ipaddress.ip_address(text) for text in PRIVATE}
    assert not any(is_allowed(address, allow_private=False) for address in addresses.values())
    allowed = {text for text, address in addresses.items() if is_allowed(address, allow_private=True)}
    assert allowed == OWN | {"::1", "fc00::1"}
    assert all(is_allowed(ipaddress.ip_address(text), allow_private=False) for text in PUBLIC)
    for host in ("169.254.169.254", "[fd00:ec2::254]", "[::ffff:169.254.169.254]", "0.0.0.0", "[::]"):
        with pytest.raises(InvalidUrlError, match=r"not a public address$"):
            parse_url(f"http://{host}/", allow_private=True)
    metadata = transport(resolve=Names(["169.254.169.254"]), network=Loopback())
    assert "169.254.169.254 is not a public address" in (post(metadata, "http://hooks.example.com/").problem or "")


def test_public_urls_are_taken_in_their_parts() -> None:
    target = parse_url("https://hooks.example.com/in/a?b=c", allow_private=False)
    assert (target.host, target.port, target.path, target.authority) == (
        "hooks.example.com",
        443,
        "/in/a?b=c",
        "hooks.example.com",
    )
    assert parse_url("https://[2606:4700::1111]:8443", allow_private=False).authority == "[2606:4700::1111]:8443"
