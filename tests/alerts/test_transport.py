"""Within which bounds a webhook is posted, whatever its receiver answers."""

import itertools
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest

from metering.alerts.transport import resolve
from tests.alerts.posting import Names, post, transport
from tests.alerts.receivers import CERTIFICATE, Receiver, misbehaving, receiving


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
        ("Mon, 23 Nov 99999999999 15:31:00 GMT", None),
        ("Mon, 23 Nov 2026 15:31:00 +9999", None),
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
    closed = post(transport(), url).problem or ""
    assert "no answer" in closed
    assert "Errno" not in closed
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
