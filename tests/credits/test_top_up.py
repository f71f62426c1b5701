"""When a top-up is due, and which terms it may have."""

from decimal import Decimal

import pytest

from metering.credits.grant import Funding
from metering.credits.top_up import InvalidTopUpError, TopUp, check_top_up, is_due, terms_of
from tests.credits.histories import T0

TOP_UP = TopUp(
    customer_id="acme",
    when_below_usd_cents=Decimal(1000),
    buy_usd_cents=Decimal(5000),
    at_most_a_day=2,
    set_at=T0,
    set_by="test",
)


@pytest.mark.parametrize(
    ("balance", "unpaid", "bought", "due"),
    [
        ("999.99", 0, 0, True),
        ("1000", 0, 0, False),
        ("0", 0, 1, True),
        ("0", 0, 2, False),
        ("0", 1, 1, False),
    ],
)
def test_it_is_due_below_its_limit_unless_one_is_unpaid_or_the_day_is_full(
    balance: str, unpaid: int, bought: int, due: bool
) -> None:
    assert is_due(TOP_UP, balance=Decimal(balance), unpaid=unpaid, bought=bought) is due


def test_it_buys_a_grant_at_its_price() -> None:
    terms = terms_of(TOP_UP)
    assert (terms.amount_usd_cents, terms.paid_usd_cents) == (5000, 5000)
    assert terms.funding is Funding.INVOICE


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"when_below_usd_cents": Decimal(0)}, "when_below_usd_cents"),
        ({"when_below_usd_cents": Decimal("NaN")}, "when_below_usd_cents"),
        ({"buy_usd_cents": Decimal(49)}, "buy_usd_cents"),
        ({"buy_usd_cents": Decimal("50.5")}, "buy_usd_cents"),
        ({"at_most_a_day": -1}, "at_most_a_day"),
        ({"at_most_a_day": 101}, "at_most_a_day"),
    ],
)
def test_other_terms_are_refused_with_their_field(changes: dict[str, object], field: str) -> None:
    terms = {"when_below_usd_cents": Decimal(1), "buy_usd_cents": Decimal(50), "at_most_a_day": 0}
    check_top_up(**terms)  # type: ignore[arg-type]
    with pytest.raises(InvalidTopUpError, match=rf"^{field}: "):
        check_top_up(**{**terms, **changes})  # type: ignore[arg-type]
