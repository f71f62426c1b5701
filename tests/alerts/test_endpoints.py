"""Endpoints: how long one that fails is borne with, what it misses, and what it is spared."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from metering.alerts.alerts import AlertKind
from metering.alerts.deliveries import DeliveryState
from metering.alerts.manage_endpoints import (
    delete_endpoint,
)
from metering.alerts.replay_webhooks import EndpointDisabledError, replay_failed
from metering.alerts.send_webhooks import send_claimed, try_endpoint
from metering.alerts.store.deliveries import claim_deliveries
from metering.db.engine import transaction
from tests.alerts.receivers import Receiver
from tests.alerts.sending import Sending
from tests.alerts.watched import NOW

SPEND = AlertKind.SPEND
DELIVERED, FAILED, PENDING, SKIPPED = (
    DeliveryState.DELIVERED,
    DeliveryState.FAILED,
    DeliveryState.PENDING,
    DeliveryState.SKIPPED,
)


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
    assert disabled.disabled_reason == "all deliveries failed since 2026-11-23T15:30:00+00:00: answered 500"
    assert "webhook endpoint disabled" in caplog.messages
    sending.change(endpoint_id, enabled=True)
    well = sending.endpoint(endpoint_id)
    assert (well.disabled_at, well.disabled_reason, well.failing_since) == (None, None, None)


def test_an_endpoint_that_is_deleted_meanwhile_gets_nothing_and_its_secret_is_forgotten(
    sending: Sending, receiver: Receiver
) -> None:
    endpoint_id, _ = sending.watched.endpoint(receiver.url)
    sending.occur(2)
    with transaction(sending.engine) as connection:
        (claimed,) = claim_deliveries(connection, now=sending.now, limit=1, each=1)
    delete_endpoint(engine=sending.engine, endpoint_id=endpoint_id, now=sending.now)
    assert send_claimed(sending.sender, claimed) is SKIPPED
    assert sending.send() == {}
    assert [each.state for each in sending.log()] == [SKIPPED, SKIPPED]
    assert receiver.received == []
    assert sending.watched.rows("SELECT count(*) FROM webhook_secrets") == [(0,)]


def test_an_endpoint_gets_the_types_that_it_asked_for(sending: Sending, receiver: Receiver) -> None:
    wanted, _ = sending.watched.endpoint(receiver.url + "/spend", types=["alert.spend"])
    sending.watched.endpoint(receiver.url + "/drift", types=["alert.drift"])
    sending.watched.endpoint(receiver.url + "/all")
    sending.occur()
    assert sending.send() == {DELIVERED: 2}
    assert {each.path for each in receiver.received} == {"/spend", "/all"}
    sending.change(wanted, types=())
    assert sending.endpoint(wanted).types is None


def test_a_test_message_answers_with_its_result_at_once_and_is_not_retried(
    sending: Sending, receiver: Receiver
) -> None:
    endpoint_id, _ = sending.watched.endpoint(receiver.url)
    sending.change(endpoint_id, enabled=False)
    assert try_endpoint(sender=sending.sender, endpoint_id=endpoint_id).state is DELIVERED
    receiver.answer(404)
    refused = try_endpoint(sender=sending.sender, endpoint_id=endpoint_id)
    assert (refused.state, refused.response_status, refused.due_at) == (FAILED, 404, None)
    message = json.loads(receiver.received[0].body)
    assert (message["type"], message["data"]) == ("webhook.test", {"endpoint_id": endpoint_id})
    assert sending.endpoint(endpoint_id).disabled_at == NOW


def test_nothing_is_sent_to_a_private_address_unless_that_is_allowed(sending: Sending, receiver: Receiver) -> None:
    endpoint_id, _ = sending.watched.endpoint(receiver.url)
    public = replace(sending.sender.transport, allow_private=False)
    strict = replace(sending.sender, transport=public)
    assert "refused: url: expected https" in str(try_endpoint(sender=strict, endpoint_id=endpoint_id).problem)
    sending.change(endpoint_id, url=receiver.url.replace("http://127.0.0.1", "https://localhost"))
    assert "not a public address" in str(try_endpoint(sender=strict, endpoint_id=endpoint_id).problem)
    assert receiver.received == []
