"""When a balance runs out: usage is drawn day by day, and what expires unused does not count."""

from datetime import timedelta
from decimal import Decimal

import pytest
from msgspec.structs import replace

from metering.credits.forecast import runs_out_at
from metering.credits.grant import Funding, Grant, GrantLimits, GrantState
from metering.credits.terms import GrantTerms, new_grant
from tests.credits.histories import T0

DAY = timedelta(days=1)


def left(amount: int, **changes: object) -> Grant:
    terms = GrantTerms(
        customer_id="acme",
        amount_usd_cents=Decimal(amount),
        paid_usd_cents=Decimal(0),
        funding=Funding.NONE,
        reason="test",
    )
    grant = new_grant(terms, grant_id=f"gr_{amount}", by="test", now=T0)
    return replace(grant, **{"state": GrantState.ACTIVE, "balance_usd_cents": Decimal(amount), **changes})


@pytest.mark.parametrize(
    ("grants", "days"),
    [
        ([], 0),
        ([left(100)], 10),
        ([left(99)], 9),
        ([left(100, expires_at=T0 + 3 * DAY)], 3),
        ([left(100, expires_at=T0 + 3 * DAY), left(50)], 8),
        ([left(20), left(50, effective_from=T0 + 2 * DAY)], 7),
        ([left(20), left(50, effective_from=T0 + 3 * DAY)], 2),
        ([left(20), left(500, limits=GrantLimits(models=("gpt-5.5",)))], 2),
    ],
)
def test_it_runs_out_on_the_first_day_that_is_not_covered(grants: list[Grant], days: int) -> None:
    assert runs_out_at(grants, per_day=Decimal(10), now=T0) == T0 + days * DAY


def test_without_usage_or_within_a_year_it_does_not_run_out() -> None:
    assert runs_out_at([left(100)], per_day=Decimal(0), now=T0) is None
    assert runs_out_at([left(4000)], per_day=Decimal(10), now=T0) is None
