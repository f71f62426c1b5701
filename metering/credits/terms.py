"""The terms of a new grant: what it pays for, what was paid for it, and when."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from metering.core.errors import MeteringError
from metering.credits.grant import NO_LIMITS, Funding, Grant, GrantLimits

MAX_PRIORITY, MAX_LIMITS = 1_000, 100
# Amounts in cents are below this.
MAX_CENTS = Decimal(10**15)
# Stripe does not collect less.
MIN_INVOICE_CENTS = Decimal(50)


class InvalidGrantError(MeteringError):
    """The terms of a grant, or the amount of a refund, are not valid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantTerms:
    """What a grant is to be. `effective_from` None: from now on."""

    customer_id: str
    amount_usd_cents: Decimal
    paid_usd_cents: Decimal
    funding: Funding
    reason: str
    priority: int = 500
    effective_from: datetime | None = None
    expires_at: datetime | None = None
    limits: GrantLimits = NO_LIMITS


def check_terms(terms: GrantTerms, *, now: datetime) -> None:
    """Check the terms of a grant that is made now.

    Raises:
        InvalidGrantError: they contradict each other, or are out of range.
    """
    amount, paid = terms.amount_usd_cents, terms.paid_usd_cents
    if not (amount.is_finite() and 0 < amount < MAX_CENTS):
        raise InvalidGrantError(
            f"amount_usd_cents: expected an amount above 0 and below {MAX_CENTS}, got {amount}"
        )
    if not (paid.is_finite() and 0 <= paid < MAX_CENTS and paid == paid.to_integral_value()):
        raise InvalidGrantError(f"paid_usd_cents: expected whole cents from 0 to {MAX_CENTS - 1}, got {paid}")
    if terms.funding is Funding.NONE and paid:
        raise InvalidGrantError("funding: a grant that was paid for has funding external or invoice")
    if terms.funding is not Funding.NONE and not paid:
        raise InvalidGrantError("paid_usd_cents: 0 is a promotional grant, with funding none")
    if terms.funding is Funding.INVOICE and paid < MIN_INVOICE_CENTS:
        raise InvalidGrantError(f"paid_usd_cents: an invoice has at least {MIN_INVOICE_CENTS} cents, got {paid}")
    if not 0 <= terms.priority <= MAX_PRIORITY:
        raise InvalidGrantError(f"priority: expected 0 to {MAX_PRIORITY}, got {terms.priority}")
    for name, listed in (("providers", terms.limits.providers), ("models", terms.limits.models)):
        if len(listed) > MAX_LIMITS or not all(listed):
            raise InvalidGrantError(f"only.{name}: expected up to {MAX_LIMITS} names")
    starts_at = terms.effective_from or now
    if terms.expires_at is not None and terms.expires_at <= max(starts_at, now):
        raise InvalidGrantError("expires_at: expected a time after now and after effective_from")
    if not terms.reason.strip():
        raise InvalidGrantError("reason: required, the audit log shows it")


def new_grant(terms: GrantTerms, *, grant_id: str, by: str, now: datetime) -> Grant:
    """The grant with these terms: pending, with nothing left to draw."""
    return Grant(
        grant_id=grant_id,
        customer_id=terms.customer_id,
        amount_usd_cents=terms.amount_usd_cents,
        paid_usd_cents=terms.paid_usd_cents,
        priority=terms.priority,
        effective_from=terms.effective_from or now,
        expires_at=terms.expires_at,
        limits=terms.limits,
        funding=terms.funding,
        reason=terms.reason.strip(),
        created_at=now,
        created_by=by,
        changed_at=now,
    )
