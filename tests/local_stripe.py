"""A local Stripe on a port of its own, for tests that talk to Stripe."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import stripe
import uvicorn

from metering.lab.stripe_local.app import DroppingProtocol, create_stripe_local
from metering.lab.stripe_local.control import LocalStripeControl
from metering.lab.stripe_local.faults import RateLimits
from metering.server.up import free_port

KEY = "sk_test_tests"


@dataclass(frozen=True, slots=True)
class LocalStripe:
    """It, the stock client on it, and the control of it."""

    url: str
    client: stripe.StripeClient
    control: LocalStripeControl

    def requests(self, method: str = "") -> list[str]:
        """The endpoints that were asked, oldest first."""
        return [each["endpoint"] for each in self.control.requests() if each["endpoint"].startswith(method)]


@contextmanager
def local_stripe(
    *,
    state: Path | None = None,
    webhook_url: str | None = None,
    webhook_secret: str | None = None,
    limits: RateLimits | None = None,
) -> Iterator[LocalStripe]:
    """A running one whose searches do not lag, gone when the block ends."""
    port = free_port()
    app = create_stripe_local(
        state=state, webhook_url=webhook_url, webhook_secret=webhook_secret, limits=limits, search_delay=0
    )
    config = uvicorn.Config(app, port=port, http=DroppingProtocol, log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    url = f"http://127.0.0.1:{port}"
    control = LocalStripeControl(url)
    client = stripe.StripeClient(KEY, base_addresses={"api": url}, max_network_retries=0)
    yield LocalStripe(url, client, control)
    control.close()
    server.should_exit = True
    thread.join(timeout=60)
