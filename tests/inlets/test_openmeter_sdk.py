"""OpenMeter's own Python SDK, unchanged, with nothing but another address."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from corehttp.exceptions import ClientAuthenticationError, HttpResponseError
from openmeter import Client
from openmeter.models import Event

from metering.access.scopes import Role
from tests.running_api import Api


def prompt(id: str, type: str, tokens: int, *, model: str = "gpt-4o") -> Event:
    """The event of api/client/python/examples/sync/ingest.py in openmeterio/openmeter."""
    return Event(
        id=id,
        source="my-app",
        specversion="1.0",
        type="prompt",
        subject="customer-1",
        time=datetime.now(UTC),
        data={"tokens": tokens, "model": model, "type": type},
    )


@pytest.fixture
def sdk(api: Api) -> Iterator[Client]:
    with api.client_with(Role.INGEST) as client:
        token = str(client.headers["authorization"]).removeprefix("Bearer ")
    with Client(endpoint=api.url, token=token) as sdk:
        yield sdk


def cents(api: Api) -> Decimal:
    api.finalize()
    charges = api.client.get("/v1/charges", params={"customer_id": "customer-1"}).json()["data"]
    return sum((Decimal(charge["cost_usd_cents"]) for charge in charges), Decimal(0))


def test_an_event_and_a_batch_are_billed_once_however_often_they_are_sent(api: Api, sdk: Client) -> None:
    asked, output = prompt("1", "input", 812), prompt("2", "output", 37)
    sdk.events.ingest_event(asked)
    assert cents(api) == Decimal("0.203")
    for _ in range(2):
        sdk.events.ingest_events([output, asked])
        assert cents(api) == Decimal("0.24")
    sdk.events.ingest_events_json([asked])
    assert cents(api) == Decimal("0.24")


def test_a_mistake_of_the_sender_is_an_error_that_names_it(sdk: Client) -> None:
    with pytest.raises(HttpResponseError) as failed:
        sdk.events.ingest_event(prompt("1", "input", 812, model="unheard-of"))
    assert failed.value.status_code == 400
    assert "no provider is known for 'unheard-of'" in failed.value.model.detail


def test_a_wrong_token_is_an_error(api: Api) -> None:
    with Client(endpoint=api.url, token="letmein") as sdk, pytest.raises(ClientAuthenticationError):
        sdk.events.ingest_event(prompt("1", "input", 812))
