"""Sending: signed so that the stock package believes it, tried again for a day, once for all who send at once."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from metering.alerts.alerts import AlertKind
from metering.alerts.deliveries import MAX_ATTEMPTS, RETRY_DELAYS, DeliveryState
from metering.alerts.manage_endpoints import (
    rotate_endpoint_secret,
)
from metering.alerts.replay_webhooks import replay_delivery
from metering.alerts.send_webhooks import send_claimed, try_endpoint
from metering.alerts.store.deliveries import LEASE, Delivery, claim_deliveries
from metering.core.clock import utc_now
from metering.db.engine import transaction
from tests.alerts.receivers import Receiver, receiving
from tests.alerts.sending import Sending
from tests.alerts.watched import NOW, Watched
from tests.waiting import eventually

SPEND = AlertKind.SPEND
DELIVERED, FAILED, PENDING, SKIPPED = (
    DeliveryState.DELIVERED,
    DeliveryState.FAILED,
    DeliveryState.PENDING,
    DeliveryState.SKIPPED,
)


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
        try_endpoint(sender=sending.sender, endpoint_id=endpoint_id)
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


def test_senders_that_send_at_once_send_each_message_once(sending: Sending, receiver: Receiver) -> None:
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
        round_.join(timeout=60)


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
    assert send_claimed(sending.sender, slow) is None
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


def test_the_moment_that_is_signed_is_that_of_the_attempt(sending: Sending, receiver: Receiver) -> None:
    sending.watched.endpoint(receiver.url)
    sending.occur()
    sending.now = datetime(2026, 11, 24, tzinfo=UTC)
    sending.send()
    (request,) = receiver.received
    assert int(request.headers["webhook-timestamp"]) == int(sending.now.timestamp())
    assert json.loads(request.body)["timestamp"] == "2026-11-23T15:30:00Z"
