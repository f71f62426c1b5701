"""Sending: signed so that the stock package believes it, tried again for a day, once for all who send at once."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from metering.clock import utc_now
from metering.domain.alerts import AlertKind
from metering.domain.deliveries import MAX_ATTEMPTS, RETRY_DELAYS, DeliveryState
from metering.operations.manage_webhook_endpoints import (
    EndpointChanges,
    change_endpoint,
    delete_endpoint,
    rotate_endpoint_secret,
)
from metering.operations.replay_webhooks import EndpointDisabledError, replay_delivery, replay_failed
from metering.operations.send_webhooks import Courier, send_claimed, send_due, try_endpoint
from metering.records.webhooks import Delivery, Endpoint
from metering.store.engine import transaction
from metering.store.webhook_deliveries import LEASE, claim_deliveries
from metering.store.webhook_endpoints import get_endpoint
from metering.totals.webhooks import DeliveryFilter, list_deliveries
from metering.webhooks.transport import WebhookTransport
from tests.alerts.conftest import NOW, Watched
from tests.alerts.receivers import Receiver, receiving
from tests.waiting import eventually

SPEND = AlertKind.SPEND
DELIVERED, FAILED, PENDING, SKIPPED = (
    DeliveryState.DELIVERED,
    DeliveryState.FAILED,
    DeliveryState.PENDING,
    DeliveryState.SKIPPED,
)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


class Sending:
    """A courier whose clock is set by the test, and what it has sent."""

    def __init__(self, watched: Watched, clock: Callable[[], datetime] | None = None) -> None:
        self.watched = watched
        self.engine = watched.service.engine
        self.now = NOW
        self.courier = Courier(
            engine=self.engine,
            transport=WebhookTransport(allow_private=True, timeout=timedelta(seconds=20)),
            clock=clock or (lambda: self.now),
            disable_after=timedelta(days=5),
        )

    def occur(self, count: int = 1) -> None:
        """Have alerts occur for so many more customers."""
        already = len(self.watched.rows("SELECT FROM customers"))
        for number in range(already, already + count):
            self.watched.use(f"c{number:03d}", 10, NOW)
        if not already:
            self.watched.alert(SPEND, 100, budget_usd_cents=10)
        assert self.watched.evaluate(SPEND, self.now).occurrences == count

    def send(self, threads: int = 16, each: int = 4) -> dict[DeliveryState, int]:
        return dict(send_due(courier=self.courier, threads=threads, each=each))

    def log(self, **where: str) -> list[Delivery]:
        """What is in the log, the oldest first."""
        with transaction(self.engine) as connection:
            found = list_deliveries(connection, where=DeliveryFilter(**where), before=None, limit=1000)
        return sorted(found, key=lambda each: (each.created_at, each.delivery_id))

    def endpoint(self, endpoint_id: str) -> Endpoint:
        with transaction(self.engine) as connection:
            return get_endpoint(connection, endpoint_id=endpoint_id)

    def change(self, endpoint_id: str, **changes: object) -> None:
        change_endpoint(
            engine=self.engine,
            endpoint_id=endpoint_id,
            changes=EndpointChanges(**changes),  # type: ignore[arg-type]
            allow_private=True,
            changed_by="test",
            now=self.now,
        )


@pytest.fixture
def sending(watched: Watched) -> Sending:
    return Sending(watched)


def test_the_stock_package_believes_what_is_sent_and_nothing_that_was_changed(
    watched: Watched, receiver: Receiver
) -> None:
    sending = Sending(watched, clock=utc_now)
    _, secret = watched.endpoint(receiver.url)
    sending.occur()
    assert sending.send() == {DELIVERED: 1}
    (request,) = receiver.received
    message = Webhook(secret).verify(request.body, dict(request.headers))
    (occurrence,) = watched.occurrences()
    assert message == {
        "type": "alert.spend",
        "timestamp": "2026-11-23T15:30:00Z",
        "version": 1,
        "data": occurrence.data,
    }
    assert request.message_id == occurrence.message_id
    assert request.headers["content-type"] == "application/json"
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(request.body.replace(b"10", b"11"), dict(request.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(request.body, {**request.headers, "webhook-id": "msg_other"})


def test_after_a_rotation_both_secrets_are_believed_for_a_while(watched: Watched, receiver: Receiver) -> None:
    sending = Sending(watched, clock=utc_now)
    endpoint_id, first = watched.endpoint(receiver.url)

    def rotate(overlap: timedelta) -> str:
        return rotate_endpoint_secret(
            engine=sending.engine, endpoint_id=endpoint_id, overlap=overlap, now=utc_now()
        )

    def believed(*secrets: str) -> list[bool]:
        try_endpoint(courier=sending.courier, endpoint_id=endpoint_id)
        request = receiver.received[-1]
        found = []
        for secret in secrets:
            try:
                Webhook(secret).verify(request.body, dict(request.headers))
                found.append(True)
            except WebhookVerificationError:
                found.append(False)
        assert request.headers["webhook-signature"].count("v1,") == sum(found)
        return found

    assert believed(first) == [True]
    second = rotate(timedelta(hours=1))
    assert believed(first, second) == [True, True]
    third = rotate(timedelta(hours=1))
    assert believed(first, second, third) == [False, True, True]
    fourth = rotate(timedelta())
    assert believed(first, second, third, fourth) == [False, False, False, True]
    assert len({first, second, third, fourth}) == 4


def test_a_failing_delivery_is_tried_again_for_a_day_under_one_id_and_then_given_up(
    sending: Sending, receiver: Receiver
) -> None:
    sending.watched.endpoint(receiver.url)
    sending.occur()
    receiver.answer(*[500] * MAX_ATTEMPTS)
    for delay in RETRY_DELAYS:
        assert sending.send() == {PENDING: 1}
        (delivery,) = sending.log()
        assert delivery.due_at is not None
        assert delay <= delivery.due_at - sending.now <= delay * 1.25
        sending.now = delivery.due_at - timedelta(microseconds=1)
        assert sending.send() == {}
        sending.now = delivery.due_at
    assert sending.send() == {FAILED: 1}
    (delivery,) = sending.log()
    assert (delivery.attempts, delivery.response_status, delivery.problem) == (MAX_ATTEMPTS, 500, "answered 500")
    assert timedelta(days=1) < sending.now - NOW < timedelta(days=1.5)
    sending.now += timedelta(days=2)
    assert sending.send() == {}
    assert len(receiver.received) == MAX_ATTEMPTS
    assert len(set(receiver.message_ids())) == 1
    assert len({each.body for each in receiver.received}) == 1
    assert len({each.headers["webhook-timestamp"] for each in receiver.received}) == MAX_ATTEMPTS


def test_deliveries_that_fail_together_are_not_tried_again_together(sending: Sending, receiver: Receiver) -> None:
    sending.watched.endpoint(receiver.url)
    sending.occur(12)
    receiver.answer(*[503] * 12)
    assert sending.send(each=12) == {PENDING: 12}
    assert len({each.due_at for each in sending.log()}) > 6


def test_a_receiver_that_comes_back_gets_what_it_missed_and_is_well_again(
    sending: Sending, receiver: Receiver
) -> None:
    endpoint_id, _ = sending.watched.endpoint(receiver.url)
    sending.occur()
    receiver.answer(500)
    sending.send()
    failing = sending.endpoint(endpoint_id)
    assert (failing.failing_since, failing.last_problem) == (NOW, "answered 500")
    sending.now += timedelta(minutes=1)
    assert sending.send() == {DELIVERED: 1}
    well = sending.endpoint(endpoint_id)
    assert (well.failing_since, well.last_problem, well.delivered_at) == (None, None, sending.now)


@pytest.mark.parametrize(("seconds", "waits"), [(600, timedelta(minutes=10)), (10**6, timedelta(hours=2))])
def test_a_receiver_that_asks_for_patience_gets_it_within_a_bound(
    sending: Sending, receiver: Receiver, seconds: int, waits: timedelta
) -> None:
    sending.watched.endpoint(receiver.url)
    sending.occur()
    receiver.answer(429, retry_after=str(seconds))
    sending.send()
    assert sending.log()[0].due_at == NOW + waits


def test_a_receiver_that_is_gone_is_disabled_and_what_it_misses_is_kept_and_can_be_replayed(
    sending: Sending, receiver: Receiver
) -> None:
    endpoint_id, _ = sending.watched.endpoint(receiver.url)
    sending.occur(3)
    receiver.answer(410)
    assert sending.send(threads=1) == {PENDING: 1}
    gone = sending.endpoint(endpoint_id)
    assert (gone.disabled_at, "410" in str(gone.disabled_reason)) == (NOW, True)
    sending.now += timedelta(hours=1)
    sending.occur(1)
    assert sending.send() == {}
    assert [each.state for each in sending.log()] == [SKIPPED] * 4
    assert len(receiver.received) == 1
    with pytest.raises(EndpointDisabledError):
        replay_failed(engine=sending.engine, endpoint_id=endpoint_id, since=NOW, now=sending.now)
    sending.change(endpoint_id, enabled=True)
    assert sending.send() == {}

    def replay() -> int:
        return replay_failed(engine=sending.engine, endpoint_id=endpoint_id, since=NOW, now=sending.now)

    assert replay() == 4
    assert replay() == 0
    assert sending.send() == {DELIVERED: 4}
    assert replay() == 0
    missed = {each.message_id for each in sending.watched.occurrences()}
    assert set(receiver.message_ids()[1:]) == missed


def test_an_endpoint_that_only_fails_for_days_is_disabled_and_not_a_moment_sooner(
    sending: Sending, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint_id, _ = sending.watched.endpoint(receiver.url)
    receiver.answer(*[500] * 3)
    for after in (timedelta(), timedelta(days=5) - timedelta(seconds=1), timedelta(days=5)):
        assert sending.endpoint(endpoint_id).disabled_at is None
        sending.now = NOW + after
        sending.occur()
        sending.send(each=1)
        sending.watched.execute("UPDATE webhook_deliveries SET state = 'failed', due_at = NULL")
    disabled = sending.endpoint(endpoint_id)
    assert disabled.disabled_at == NOW + timedelta(days=5)
    assert disabled.disabled_reason == "nothing could be delivered since 2026-11-23T15:30:00+00:00: answered 500"
    assert "a webhook endpoint is disabled" in caplog.messages
    sending.change(endpoint_id, enabled=True)
    well = sending.endpoint(endpoint_id)
    assert (well.disabled_at, well.disabled_reason, well.failing_since) == (None, None, None)


def test_couriers_that_send_at_once_send_each_message_once(sending: Sending, receiver: Receiver) -> None:
    sending.watched.endpoint(receiver.url)
    sending.occur(60)

    def work(_: int) -> int:
        done = 0
        while sent := sending.send(threads=3, each=3):
            done += sum(sent.values())
        return done

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(work, range(4)))
    assert sum(done) == 60
    assert sum(1 for each in done if each) >= 2
    assert len(receiver.received) == len(set(receiver.message_ids())) == 60


def test_an_endpoint_that_hangs_does_not_keep_another_waiting(watched: Watched, receiver: Receiver) -> None:
    sending = Sending(watched)
    with receiving() as hanging:
        hanging.hold.clear()
        watched.endpoint(hanging.url)
        watched.endpoint(receiver.url)
        sending.occur(10)
        round_ = threading.Thread(target=sending.send)
        round_.start()
        assert eventually(lambda: len(receiver.received) == 4)
        assert eventually(lambda: len(hanging.received) == 4)
        hanging.hold.set()
        round_.join(timeout=30)


def test_who_was_taken_over_records_nothing(sending: Sending, receiver: Receiver) -> None:
    sending.watched.endpoint(receiver.url)
    sending.occur()
    with transaction(sending.engine) as connection:
        (slow,) = claim_deliveries(connection, now=sending.now, limit=1, each=1)
    sending.now += LEASE
    assert sending.send() == {}
    sending.now += timedelta(seconds=1)
    assert sending.send() == {DELIVERED: 1}
    receiver.answer(500)
    assert send_claimed(sending.courier, slow) is None
    (delivery,) = sending.log()
    assert (delivery.state, delivery.attempts) == (DELIVERED, 2)
    assert len(set(receiver.message_ids())) == 1


def test_a_last_attempt_that_was_interrupted_is_given_up_and_not_repeated_for_ever(
    sending: Sending, receiver: Receiver
) -> None:
    sending.watched.endpoint(receiver.url)
    sending.occur()
    sending.watched.execute(f"UPDATE webhook_deliveries SET attempts = {MAX_ATTEMPTS}")
    assert sending.send() == {FAILED: 1}
    assert receiver.received == []
    assert "interrupted" in str(sending.log()[0].problem)


def test_an_endpoint_that_is_deleted_meanwhile_gets_nothing_and_its_secret_is_forgotten(
    sending: Sending, receiver: Receiver
) -> None:
    endpoint_id, _ = sending.watched.endpoint(receiver.url)
    sending.occur(2)
    with transaction(sending.engine) as connection:
        (claimed,) = claim_deliveries(connection, now=sending.now, limit=1, each=1)
    delete_endpoint(engine=sending.engine, endpoint_id=endpoint_id, now=sending.now)
    assert send_claimed(sending.courier, claimed) is SKIPPED
    assert sending.send() == {}
    assert [each.state for each in sending.log()] == [SKIPPED, SKIPPED]
    assert receiver.received == []
    assert sending.watched.rows("SELECT count(*) FROM webhook_secrets") == [(0,)]


def test_a_replay_is_a_delivery_of_its_own_with_the_same_message(sending: Sending, receiver: Receiver) -> None:
    sending.watched.endpoint(receiver.url)
    sending.occur()
    (pending,) = sending.log()

    def replay(delivery: Delivery) -> Delivery:
        return replay_delivery(engine=sending.engine, delivery_id=delivery.delivery_id, now=sending.now)

    assert replay(pending).delivery_id == pending.delivery_id
    sending.send()
    sending.now += timedelta(days=3)
    again = replay(pending)
    assert replay(pending) == again
    assert (again.replay, again.attempts, again.state) == (1, 0, PENDING)
    assert sending.send() == {DELIVERED: 1}
    first, second = receiver.received
    assert (first.message_id, first.body) == (second.message_id, second.body)
    assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"]
    assert [each.state for each in sending.log()] == [DELIVERED, DELIVERED]


def test_an_endpoint_gets_the_types_that_it_asked_for(sending: Sending, receiver: Receiver) -> None:
    wanted, _ = sending.watched.endpoint(receiver.url + "/spend", types=["alert.spend"])
    sending.watched.endpoint(receiver.url + "/drift", types=["alert.drift"])
    sending.watched.endpoint(receiver.url + "/all")
    sending.occur()
    assert sending.send() == {DELIVERED: 2}
    assert {each.path for each in receiver.received} == {"/spend", "/all"}
    sending.change(wanted, types=())
    assert sending.endpoint(wanted).types is None


def test_trying_an_endpoint_out_tells_at_once_what_came_of_it_and_is_not_repeated(
    sending: Sending, receiver: Receiver
) -> None:
    endpoint_id, _ = sending.watched.endpoint(receiver.url)
    sending.change(endpoint_id, enabled=False)
    assert try_endpoint(courier=sending.courier, endpoint_id=endpoint_id).state is DELIVERED
    receiver.answer(404)
    refused = try_endpoint(courier=sending.courier, endpoint_id=endpoint_id)
    assert (refused.state, refused.response_status, refused.due_at) == (FAILED, 404, None)
    message = json.loads(receiver.received[0].body)
    assert (message["type"], message["data"]) == ("webhook.test", {"endpoint_id": endpoint_id})
    assert sending.endpoint(endpoint_id).disabled_at == NOW


def test_nothing_is_sent_to_a_private_address_unless_that_is_allowed(sending: Sending, receiver: Receiver) -> None:
    endpoint_id, _ = sending.watched.endpoint(receiver.url)
    public = replace(sending.courier.transport, allow_private=False)
    strict = replace(sending.courier, transport=public)
    assert "refused: url: expected https" in str(try_endpoint(courier=strict, endpoint_id=endpoint_id).problem)
    sending.change(endpoint_id, url=receiver.url.replace("http://127.0.0.1", "https://localhost"))
    assert "no public address" in str(try_endpoint(courier=strict, endpoint_id=endpoint_id).problem)
    assert receiver.received == []


def test_the_moment_that_is_signed_is_that_of_the_attempt(sending: Sending, receiver: Receiver) -> None:
    sending.watched.endpoint(receiver.url)
    sending.occur()
    sending.now = datetime(2026, 11, 24, tzinfo=UTC)
    sending.send()
    (request,) = receiver.received
    assert int(request.headers["webhook-timestamp"]) == int(sending.now.timestamp())
    assert json.loads(request.body)["timestamp"] == "2026-11-23T15:30:00Z"
