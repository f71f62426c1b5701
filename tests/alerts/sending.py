"""A sender whose clock is set by the test."""

from collections.abc import Callable
from datetime import datetime, timedelta

from metering.alerts.alerts import AlertKind
from metering.alerts.deliveries import DeliveryState
from metering.alerts.manage_endpoints import (
    EndpointChanges,
    change_endpoint,
)
from metering.alerts.queries.webhooks import DeliveryFilter, list_deliveries
from metering.alerts.send_webhooks import WebhookSender, send_due
from metering.alerts.store.deliveries import Delivery
from metering.alerts.store.endpoints import Endpoint, get_endpoint
from metering.alerts.transport import WebhookTransport
from metering.db.engine import transaction
from tests.alerts.watched import NOW, Watched


class Sending:
    """A sender whose clock is set by the test, and what it has sent."""

    def __init__(self, watched: Watched, clock: Callable[[], datetime] | None = None) -> None:
        self.watched = watched
        self.engine = watched.service.engine
        self.now = NOW
        self.sender = WebhookSender(
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
            self.watched.alert(AlertKind.SPEND, 100, budget_usd_cents=10)
        assert self.watched.evaluate(AlertKind.SPEND, self.now).occurrences == count

    def send_all(self) -> int:
        """Send until nothing is due; returns how many were delivered."""
        delivered = 0
        while sent := self.send():
            delivered += sent.get(DeliveryState.DELIVERED, 0)
        return delivered

    def send(self, threads: int = 16, each: int = 4) -> dict[DeliveryState, int]:
        return dict(send_due(sender=self.sender, threads=threads, each=each))

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
