"""Where a webhook may go, and within which bounds, whatever a name leads to and a receiver answers."""

import ipaddress
import itertools
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from httpcore2 import NetworkBackend, NetworkStream, SyncBackend

from metering.domain.deliveries import Attempt
from metering.webhooks.addresses import InvalidUrlError, is_public, parse_url
from metering.webhooks.transport import WebhookTransport, resolve
from tests.alerts.receivers import CERTIFICATE, Receiver, misbehaving, receiving

NOW = datetime(2026, 11, 23, 15, 30, tzinfo=UTC)


class Loopback(NetworkBackend):
    """Notes which address is connected to, and connects to the loopback instead."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> NetworkStream:
        self.asked.append(host)
        return SyncBackend().connect_tcp("127.0.0.1", port, *args, **options)


class Names:
    """A resolver with answers of ours, one after another; the last one stays."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str, _: int, __: float) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def transport(**changes: Any) -> WebhookTransport:
    return WebhookTransport(**{"allow_private": True, "timeout": timedelta(seconds=5), **changes})


def post(sender: WebhookTransport, url: str) -> Attempt:
    return sender.post(url=url, headers={"webhook-id": "msg_1"}, body=b"{}", now=NOW)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


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
    assert "no public address" in (attempt.problem or "")


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


def test_public_urls_are_taken_in_their_parts() -> None:
    target = parse_url("https://hooks.example.com/in/a?b=c", allow_private=False)
    assert (target.host, target.port, target.path, target.authority) == (
        "hooks.example.com",
        443,
        "/in/a?b=c",
        "hooks.example.com",
    )
    assert parse_url("https://[2606:4700::1111]:8443", allow_private=False).authority == "[2606:4700::1111]:8443"
    assert not any(is_public(parse_address) for parse_address in _addresses(PRIVATE))
    assert all(is_public(parse_address) for parse_address in _addresses(PUBLIC))


def _addresses(texts: Iterable[str]) -> list[Any]:
    return [ipaddress.ip_address(text) for text in texts]


def test_the_certificate_must_be_of_the_name_although_the_address_is_connected_to() -> None:
    trusting = ssl.create_default_context(cafile=str(CERTIFICATE))
    with receiving(tls=True) as receiver:
        sender = transport(resolve=Names(["127.0.0.1"]), tls=trusting)
        assert post(sender, receiver.url).delivered
        other = receiver.url.replace("hooks.test", "other.test")
        assert "certificate" in (post(sender, other).problem or "")
        assert "certificate" in (post(transport(resolve=Names(["127.0.0.1"])), receiver.url).problem or "")
        assert len(receiver.received) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_a_failure_and_is_not_followed(receiver: Receiver, status: int) -> None:
    receiver.answer(status, location=f"{receiver.url}/elsewhere")
    attempt = post(transport(), receiver.url)
    assert (attempt.delivered, attempt.status) == (False, status)
    assert [each.path for each in receiver.received] == ["/"]


@pytest.mark.parametrize(
    ("status", "delivered"), [(200, True), (204, True), (299, True), (400, False), (500, False)]
)
def test_any_2xx_and_nothing_else_is_a_delivery(receiver: Receiver, status: int, delivered: bool) -> None:
    receiver.answer(status)
    assert post(transport(), receiver.url).delivered is delivered


@pytest.mark.parametrize(
    ("header", "asks"),
    [
        ("120", timedelta(minutes=2)),
        ("Mon, 23 Nov 2026 15:31:00 GMT", timedelta(minutes=1)),
        ("Mon, 23 Nov 2026 15:29:00 GMT", timedelta()),
        ("9" * 400, timedelta(seconds=10**6)),
        ("-5", None),
        ("soon", None),
        ("²", None),
    ],
)
def test_a_receiver_may_ask_for_patience(receiver: Receiver, header: str, asks: timedelta | None) -> None:
    receiver.answer(503, retry_after=header.encode().decode("latin-1"))
    assert post(transport(), receiver.url).retry_after == asks


HEAD = b"HTTP/1.1 200 OK\r\n"


def endless_head() -> Iterator[bytes]:
    yield HEAD
    yield from itertools.repeat(b"x-more: " + b"a" * 1000 + b"\r\n")


def endless_line() -> Iterator[bytes]:
    yield HEAD + b"x-more: "
    yield from itertools.repeat(b"a" * 10_000)


def endless_hints() -> Iterator[bytes]:
    yield from itertools.repeat(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")


def dripping_head() -> Iterator[bytes]:
    yield HEAD
    yield from itertools.repeat(b"a")


def endless_body() -> Iterator[bytes]:
    yield HEAD + b"transfer-encoding: chunked\r\n\r\n"
    yield from itertools.repeat(b"3e8\r\n" + b"a" * 1000 + b"\r\n")


@pytest.mark.parametrize("head", [endless_head, endless_line])
def test_an_answer_without_an_end_is_given_up_after_a_bounded_number_of_bytes(head: Any) -> None:
    with misbehaving(head) as (url, sent):
        attempt = post(transport(), url)
    assert "no answer" in (attempt.problem or "")
    assert 50_000 < sent[0] < 20_000_000  # what fits in the buffers between the two


@pytest.mark.parametrize(("head", "pause"), [(dripping_head, 0.05), (endless_hints, 0.01)])
def test_one_deadline_holds_for_the_whole_answer_however_it_drips(head: Any, pause: float) -> None:
    with misbehaving(head, pause=pause) as (url, sent):
        attempt = post(transport(timeout=timedelta(seconds=1)), url)
    assert attempt.problem == "no answer within 1 s"
    assert sent[0] > 5


def test_a_body_is_not_read_however_long_it_is() -> None:
    with misbehaving(endless_body) as (url, sent):
        assert post(transport(), url).delivered
    assert sent[0] < 20_000_000


def test_what_is_no_http_or_no_server_is_a_problem_and_no_error() -> None:
    with misbehaving(lambda: iter([b"SSH-2.0-OpenSSH\r\n"])) as (url, _):
        assert "no answer" in (post(transport(), url).problem or "")
    assert "no answer" in (post(transport(), url).problem or "")
    with misbehaving(lambda: iter([])) as (url, _):
        assert "no answer" in (post(transport(), url).problem or "")


def test_a_name_that_takes_too_long_or_leads_nowhere_is_a_problem() -> None:
    def too_long(_: str, __: int, seconds: float) -> Sequence[str]:
        time.sleep(seconds)
        raise TimeoutError

    def unknown(_: str, __: int, ___: float) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    slow = transport(resolve=too_long, timeout=timedelta(milliseconds=200))
    assert post(slow, "http://hooks.example.com/").problem == "no answer within 0.2 s"
    assert "has no address" in (post(transport(resolve=Names([])), "http://hooks.example.com/").problem or "")
    assert "not known" in (post(transport(resolve=unknown), "http://hooks.example.com/").problem or "")
    assert set(resolve("localhost", 80, 5)) <= {"127.0.0.1", "::1"}


def test_another_address_of_the_name_is_tried_when_the_first_takes_no_connection(receiver: Receiver) -> None:
    port = receiver.url.rpartition(":")[2]
    names = Names(["::1", "127.0.0.1"])
    assert post(transport(resolve=names), f"http://hooks.example.com:{port}/").delivered
