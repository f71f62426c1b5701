"""What the tests of alerts share: watched books, a sender, and a receiver."""

from collections.abc import Iterator

import pytest

from metering.server.bootstrap import Service
from tests.alerts.receivers import Receiver, receiving
from tests.alerts.sending import Sending
from tests.alerts.watched import Watched
from tests.database import Database


@pytest.fixture
def watched(rated_database: Database, rated_service: Service) -> Iterator[Watched]:
    return Watched(rated_database, rated_service)


@pytest.fixture
def sending(watched: Watched) -> Sending:
    """Of what is watched, with a clock that stands at `NOW`."""
    return Sending(watched)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of webhooks on a loopback address."""
    with receiving() as running:
        yield running
