"""A fault of Stripe during chaos is planned again until a call meets it."""

import time
from datetime import UTC, datetime

import pytest

from metering.lab.chaos.commands import Commands
from metering.lab.chaos.harm import Harm, World
from metering.lab.chaos.links import open_links
from metering.lab.chaos.schedule import Fault, FaultKind
from metering.lab.chaos.volume import volume
from metering.server.embedded.supervisor import Supervisor
from tests.builders import Months
from tests.database import Database
from tests.local_stripe import KEY

pytestmark = pytest.mark.long

WITHOUT_INVOICES = 1.0


def test_a_fault_that_met_no_call_is_planned_again_once_there_is_one(
    months: Months, rated_database: Database
) -> None:
    said: list[str] = []

    def say(line: str) -> None:
        # Nothing is invoiced before the first one was missed.
        if not said:
            months.month("acme")
        said.append(line)

    environment = {
        "METERING_DATABASE_URL": rated_database.url,
        "METERING_REDIS_URL": rated_database.redis_url,
        "METERING_ENVIRONMENT": "tests",
        "METERING_STRIPE_API_BASE": months.stripe.url,
        "STRIPE_API_KEY": KEY,
    }
    began = datetime(2026, 11, 23, tzinfo=UTC)
    with volume() as disk, open_links({}) as links, Supervisor(quiet=True) as parts:
        world = World(
            servers=parts,
            parts=parts,
            links=links,
            disk=disk,
            redis_url=rated_database.redis_url,
            gateways=[],
            environment=environment,
            commands=Commands(environment=environment, stripe_url=months.stripe.url, began=began, say=say),
        )
        harm = Harm(world, say, invoices_seconds=WITHOUT_INVOICES)
        fault = Fault(at=0, kind=FaultKind.STRIPE_THROTTLES, seconds=0, pick=0)
        harm.play([fault], began=time.monotonic())
    (done,) = harm.done
    assert said[0].endswith("met 0")
    assert done.met == 1
    assert not done.problem
