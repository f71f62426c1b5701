"""Top-ups: grants that are bought by themselves when a customer's balance is low, at most so many a day."""

from datetime import datetime, timedelta
from decimal import Decimal

from msgspec import Struct

from metering.core.errors import MeteringError
from metering.credits.grant import Funding
from metering.credits.terms import MAX_CENTS, MIN_INVOICE_CENTS, GrantTerms

MAX_A_DAY = 100
# "A day" is the last 24 hours, so that midnight allows no more.
DAY = timedelta(hours=24)


class InvalidTopUpError(MeteringError):
    """The terms of a top-up are out of range."""


class TopUp(Struct, frozen=True, kw_only=True):
    """When to buy, and how much. `at_most_a_day` 0 switches it off."""

    customer_id: str
    when_below_usd_cents: Decimal
    buy_usd_cents: Decimal
    at_most_a_day: int
    set_at: datetime
    set_by: str


def check_top_up(*, when_below_usd_cents: Decimal, buy_usd_cents: Decimal, at_most_a_day: int) -> None:
    """Check the terms of a top-up.

    Raises:
        InvalidTopUpError: an amount or the number is out of range.
    """
    below, buy = when_below_usd_cents, buy_usd_cents
    if not (below.is_finite() and 0 < below < MAX_CENTS):
        raise InvalidTopUpError(f"when_below_usd_cents: expected above 0 and below {MAX_CENTS}, got {below}")
    if not (buy.is_finite() and MIN_INVOICE_CENTS <= buy < MAX_CENTS and buy == buy.to_integral_value()):
        raise InvalidTopUpError(f"buy_usd_cents: expected whole cents, {MIN_INVOICE_CENTS} or more, got {buy}")
    if not 0 <= at_most_a_day <= MAX_A_DAY:
        raise InvalidTopUpError(f"at_most_a_day: expected 0 to {MAX_A_DAY}, got {at_most_a_day}")


def is_due(top_up: TopUp, *, balance: Decimal, unpaid: int, bought: int) -> bool:
    """Whether to buy now: the balance is low, no top-up waits for payment, and the day's number is not reached."""
    return balance < top_up.when_below_usd_cents and not unpaid and bought < top_up.at_most_a_day


def terms_of(top_up: TopUp) -> GrantTerms:
    """The grant that a top-up buys: its price is its amount."""
    return GrantTerms(
        customer_id=top_up.customer_id,
        amount_usd_cents=top_up.buy_usd_cents,
        paid_usd_cents=top_up.buy_usd_cents,
        funding=Funding.INVOICE,
        reason="Top-up",
    )
