"""Bills without streams, booked into totals only."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from random import Random

from sqlalchemy import Engine

from metering.db.engine import transaction
from metering.events.events import Inlet, Outcome, UsageSource
from metering.events.usage import Usage, UsageKind
from metering.ledger.store.rollups import BillChange, add_to_totals
from metering.prices.cancel_policies import CancelPolicy
from metering.prices.rating import ChargeLine
from metering.streams.bill import Bill


def bill_at(rng: Random, ended_at: datetime) -> Bill:
    """A bill of a stream that ended at this time; everything else is drawn."""
    tokens = rng.randrange(1, 1000)
    rate = Decimal(rng.randrange(1, 10_000)) / 1000
    line = ChargeLine(kind=UsageKind.INPUT, quantity=tokens, usd_per_million=rate, usd_cents=rate * tokens)
    return Bill(
        outcome=rng.choice([Outcome.COMPLETED, Outcome.CANCELLED]),
        provider=rng.choice(["openai", "anthropic"]),
        model=rng.choice(["m1", "m2"]),
        response_model=None,
        api_key_id=rng.choice([None, "k1"]),
        started_at=ended_at,
        ended_at=ended_at,
        usage=Usage(input_tokens=tokens),
        usage_source=rng.choice([UsageSource.PROVIDER, UsageSource.ESTIMATE]),
        input_unknown=False,
        cancel_policy=CancelPolicy.DELIVERED,
        rate_card_id="rc",
        rated_model="m",
        retry_of=rng.choice([None, None, "s0"]),
        inlet=rng.choice([Inlet.EVENTS, Inlet.EVENTS, Inlet.OTLP]),
        lines=(line,),
    )


def book(engine: Engine, bills: Sequence[Bill], *, customer_id: str = "acme") -> None:
    """Add the bills to the totals of a customer."""
    with transaction(engine) as connection:
        add_to_totals(connection, [BillChange(customer_id, None, each) for each in bills])
