"""Bills, with lines of given amounts."""

from datetime import timedelta
from decimal import Decimal

from msgspec import structs

from metering.core.money import cents_of
from metering.events.events import Outcome, UsageSource
from metering.events.usage import Usage, UsageKind
from metering.prices.cancel_policies import CancelPolicy
from metering.prices.rating import ChargeLine
from metering.streams.bill import Bill
from tests.builders.events import T0


def charge_line(cents: str, kind: UsageKind = UsageKind.OUTPUT) -> ChargeLine:
    """A line of one token that costs so much."""
    rate = Decimal(cents).scaleb(4)
    return ChargeLine(
        kind=kind, quantity=1, usd_per_million=rate, usd_cents=cents_of(quantity=1, usd_per_million=rate)
    )


def bill_of(*cents: str, **changes: object) -> Bill:
    """A bill whose lines have these amounts."""
    plain = Bill(
        outcome=Outcome.COMPLETED,
        provider="anthropic",
        model="claude-opus-4.7",
        response_model=None,
        api_key_id=None,
        started_at=T0,
        ended_at=T0 + timedelta(seconds=4),
        usage=Usage(input_tokens=1, output_tokens=1),
        usage_source=UsageSource.PROVIDER,
        input_unknown=False,
        cancel_policy=CancelPolicy.DELIVERED,
        rate_card_id="rc_1",
        rated_model="claude-opus-4-7",
        lines=tuple(map(charge_line, cents)),
    )
    return structs.replace(plain, **changes)
