"""Rows of `webhook_endpoints` and `webhook_deliveries` as records."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from metering.alerts.deliveries import DeliveryState


class EndpointState(StrEnum):
    """How an endpoint does. Disabled: nothing could be delivered for too long. Off: a person disabled it."""

    OK = "ok"
    FAILING = "failing"
    DISABLED = "disabled"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where messages go. `types` narrows them down, None takes all; `failing_since` is None while it answers."""

    endpoint_id: str
    url: str
    description: str
    types: Sequence[str] | None
    created_by: str
    created_at: datetime
    changed_at: datetime
    disabled_at: datetime | None
    disabled_reason: str | None
    failing_since: datetime | None
    last_problem: str | None
    delivered_at: datetime | None

    @property
    def state(self) -> EndpointState:
        """How it does."""
        if self.disabled_at is None:
            return EndpointState.OK if self.failing_since is None else EndpointState.FAILING
        return EndpointState.OFF if self.failing_since is None else EndpointState.DISABLED


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A message on its way to an endpoint. `replay` counts how often it was sent anew after the first time."""

    delivery_id: str
    endpoint_id: str
    message_id: str
    replay: int
    customer_id: str
    type: str
    body: str
    state: DeliveryState
    attempts: int
    due_at: datetime | None
    fence: int
    response_status: int | None
    problem: str | None
    created_at: datetime
    attempted_at: datetime | None


ENDPOINT_ROW = """
    e.endpoint_id, e.url, e.description, e.types, e.created_by, e.created_at, e.changed_at, e.disabled_at,
    e.disabled_reason, e.failing_since, e.last_problem, e.delivered_at
"""
DELIVERY_ROW = """
    d.delivery_id, d.endpoint_id, d.message_id, d.replay, d.customer_id, d.type, d.body, d.state, d.attempts,
    d.due_at, d.fence, d.response_status, d.problem, d.created_at, d.attempted_at
"""


def endpoint_of_row(row: Any) -> Endpoint:
    """The endpoint that a row with `ENDPOINT_ROW` holds."""
    return Endpoint(**row._mapping)


def delivery_of_row(row: Any) -> Delivery:
    """The delivery that a row with `DELIVERY_ROW` holds."""
    return Delivery(**{**row._mapping, "state": DeliveryState(row.state)})
