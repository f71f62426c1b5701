"""The terms of a grant: what contradicts itself or is out of range is refused with its field."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from metering.credits.grant import Funding, GrantLimits, GrantState
from metering.credits.terms import GrantTerms, InvalidGrantError, check_terms, new_grant
from tests.credits.histories import T0

SOLD = GrantTerms(
    customer_id="acme",
    amount_usd_cents=Decimal("12000.5"),
    paid_usd_cents=Decimal(10000),
    funding=Funding.EXTERNAL,
    reason="order 7",
)


def test_a_sold_a_promotional_and_an_invoiced_grant_are_valid() -> None:
    check_terms(SOLD, now=T0)
    check_terms(replace(SOLD, paid_usd_cents=Decimal(0), funding=Funding.NONE), now=T0)
    check_terms(replace(SOLD, funding=Funding.INVOICE, expires_at=T0 + timedelta(days=1)), now=T0)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"amount_usd_cents": Decimal(0)}, "amount_usd_cents"),
        ({"amount_usd_cents": Decimal("NaN")}, "amount_usd_cents"),
        ({"amount_usd_cents": Decimal(10**15)}, "amount_usd_cents"),
        ({"paid_usd_cents": Decimal("0.5")}, "paid_usd_cents"),
        ({"paid_usd_cents": Decimal(-1)}, "paid_usd_cents"),
        ({"paid_usd_cents": Decimal(0)}, "paid_usd_cents"),
        ({"paid_usd_cents": Decimal("Infinity")}, "paid_usd_cents"),
        ({"funding": Funding.NONE}, "funding"),
        ({"funding": Funding.INVOICE, "paid_usd_cents": Decimal(49)}, "paid_usd_cents"),
        ({"priority": -1}, "priority"),
        ({"priority": 1001}, "priority"),
        ({"expires_at": T0}, "expires_at"),
        ({"expires_at": T0 + timedelta(days=1), "effective_from": T0 + timedelta(days=1)}, "expires_at"),
        ({"limits": GrantLimits(models=("",))}, "only.models"),
        ({"limits": GrantLimits(providers=("p",) * 101)}, "only.providers"),
        ({"reason": " "}, "reason"),
    ],
)
def test_other_terms_are_refused_with_their_field(changes: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidGrantError, match=rf"^{field}: "):
        check_terms(replace(SOLD, **changes), now=T0)  # type: ignore[arg-type]


def test_a_new_grant_is_pending_and_has_nothing_to_draw() -> None:
    grant = new_grant(SOLD, grant_id="gr_1", by="key k1", now=T0)
    assert (grant.state, grant.balance_usd_cents, grant.entry_count) == (GrantState.PENDING, 0, 0)
    assert (grant.effective_from, grant.created_by) == (T0, "key k1")
