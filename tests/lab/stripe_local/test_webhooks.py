"""The local Stripe's webhooks: signed, tried until they are taken, held back and forgotten on demand."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import stripe

from tests.lab.stripe_local.making import customer
from tests.local_stripe import LocalStripe, local_stripe
from tests.waiting import eventually

SECRET = "whsec_tests"


@dataclass
class Taker:
    """Takes what is posted, after refusing as often as it is told to."""

    refusals: int = 0
    taken: list[stripe.Event] = field(default_factory=list)

    def take(self, body: bytes, signature: str) -> int:
        event = stripe.Webhook.construct_event(body, signature, SECRET)  # type: ignore[no-untyped-call]
        if self.refusals:
            self.refusals -= 1
            return 500
        self.taken.append(event)
        return 200

    @property
    def names(self) -> list[str]:
        return [event.data.object["name"] for event in self.taken]


@pytest.fixture
def taker() -> Taker:
    return Taker()


@pytest.fixture
def telling(taker: Taker) -> Iterator[LocalStripe]:
    """A local Stripe that posts to it."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(taker.take(body, self.headers["stripe-signature"]))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    with local_stripe(webhook_url=url, webhook_secret=SECRET) as there:
        yield there
    server.shutdown()
    thread.join(timeout=60)
    server.server_close()


def test_an_event_is_posted_again_until_it_is_taken(telling: LocalStripe, taker: Taker) -> None:
    taker.refusals = 2
    customer(telling, name="A")
    assert eventually(lambda: taker.names == ["A"])
    assert eventually(lambda: telling.control.deliveries()["waiting"] == 0)
    assert [each["status"] for each in telling.control.deliveries()["made"]] == [500, 500, 200]


def test_what_is_held_back_comes_when_it_is_released_twice_and_shuffled(
    telling: LocalStripe, taker: Taker
) -> None:
    names = [f"c{number}" for number in range(12)]
    telling.control.webhooks("hold")
    for name in names:
        customer(telling, name=name)
    assert telling.control.deliveries() == {"waiting": 12, "made": []}
    telling.control.release()
    assert eventually(lambda: len(taker.taken) == 24)
    assert sorted(taker.names) == sorted(names * 2)
    assert taker.names not in (names * 2, [name for name in names for _ in range(2)])


def test_in_turn_they_come_once_or_twice(telling: LocalStripe, taker: Taker) -> None:
    for name in ("A", "B"):
        customer(telling, name=name)
    assert eventually(lambda: taker.names == ["A", "B"])
    telling.control.webhooks("twice")
    customer(telling, name="C")
    assert eventually(lambda: taker.names == ["A", "B", "C", "C"])


def test_what_waits_when_it_is_reset_is_never_posted_and_then_all_is_posted_once(
    telling: LocalStripe, taker: Taker
) -> None:
    taker.refusals = 1_000
    customer(telling, name="Tried")
    assert eventually(lambda: len(telling.control.deliveries()["made"]) > 0)
    telling.control.webhooks("hold")
    customer(telling, name="Held")
    telling.control.reset()
    taker.refusals = 0
    customer(telling, name="New")
    assert eventually(lambda: telling.control.deliveries()["waiting"] == 0)
    assert [each["status"] for each in telling.control.deliveries()["made"]] == [200]
    assert taker.names == ["New"]
