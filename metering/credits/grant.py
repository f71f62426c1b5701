"""Grants: prepaid or promotional money of a customer, and the entries that change what is left of it."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from metering.core.money import ZERO
from metering.credits.revenue import Earned


class GrantState(StrEnum):
    """`PENDING`: not paid yet, so it pays nothing. `VOIDED`: ended by an admin.

    A grant that is used up or expired stays active: both are seen from its balance and its times.
    """

    PENDING = "pending"
    ACTIVE = "active"
    VOIDED = "voided"


class Funding(StrEnum):
    """How a grant is paid for: by an invoice of ours, in another way, or not at all (promotional)."""

    INVOICE = "invoice"
    EXTERNAL = "external"
    NONE = "none"


class EntryKind(StrEnum):
    """What an entry of a grant does.

    `GRANTED` and `RESTORED` add; the others take away. `DRAWN` pays for an entry of the ledger, `RESTORED` takes a
    draw back.
    """

    GRANTED = "granted"
    DRAWN = "drawn"
    RESTORED = "restored"
    EXPIRED = "expired"
    VOIDED = "voided"
    REFUNDED = "refunded"


class GrantLimits(Struct, frozen=True, gc=False):
    """What a grant may pay for; an empty tuple limits nothing."""

    providers: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    @property
    def limited(self) -> bool:
        """Whether there is something that the grant may not pay for."""
        return bool(self.providers or self.models)

    def allow(self, *, provider: str | None, model: str | None) -> bool:
        """Whether the grant may pay for usage of this model. An entry without a model fits no limit."""
        return (not self.providers or provider in self.providers) and (not self.models or model in self.models)


NO_LIMITS = GrantLimits()


class GrantEntry(Struct, frozen=True, kw_only=True, gc=False):
    """A change of what is left of a grant, in exact cents: above zero adds.

    `entry_number` counts the grant's entries from 1, `balance_usd_cents` is what is left after it. `booked_at`
    never goes back within a grant. `released_cents` is what this entry takes from the deferred part of the price,
    in whole cents; below zero where a restored draw gives it back. `period` is the month that it counts for.

    For a draw and its restoring, `entry_id` is the charge or adjustment, `stream_id` its stream, and
    `entry_period` the month whose invoice has it.
    """

    customer_id: str
    grant_id: str
    entry_number: int
    kind: EntryKind
    usd_cents: Decimal
    balance_usd_cents: Decimal
    released_cents: int
    booked_at: datetime
    period: str
    entry_id: str | None = None
    stream_id: str | None = None
    entry_period: str | None = None
    reason: str | None = None
    booked_by: str | None = None


class Grant(Struct, frozen=True, kw_only=True, gc=False):
    """A grant as it is after its newest entry.

    `amount_usd_cents` is what it can pay for, `paid_usd_cents` what the customer paid for it, in whole cents.
    Grants with a lower `priority` pay first. It pays from `effective_from` until `expires_at` (exclusive).

    `balance_usd_cents` is the sum of its `entry_count` entries, the newest at `changed_at`. `sold_period` is the
    month in which it became active, `earned` what has become of its price. Read the balance with `balance_at`:
    nothing is left after the expiry, also if no entry says so yet.
    """

    grant_id: str
    customer_id: str
    amount_usd_cents: Decimal
    paid_usd_cents: Decimal
    priority: int
    effective_from: datetime
    expires_at: datetime | None
    limits: GrantLimits
    funding: Funding
    reason: str
    created_at: datetime
    created_by: str
    state: GrantState = GrantState.PENDING
    balance_usd_cents: Decimal = ZERO
    entry_count: int = 0
    changed_at: datetime
    sold_period: str | None = None
    earned: Earned = Earned()

    def expired(self, at: datetime) -> bool:
        """Whether it has expired by `at`."""
        return self.expires_at is not None and at >= self.expires_at

    def balance_at(self, at: datetime) -> Decimal:
        """What is left at `at`, which is not before its newest entry."""
        return ZERO if self.expired(at) else self.balance_usd_cents

    def pays_at(self, at: datetime) -> bool:
        """Whether it can pay for something at `at`."""
        return self.state is GrantState.ACTIVE and self.effective_from <= at and self.balance_at(at) > 0


def drawing_order(grant: Grant) -> tuple[int, bool, datetime, datetime, str]:
    """Grants pay in this order: by priority, then the first to expire, then the oldest."""
    expires = grant.expires_at
    return (grant.priority, expires is None, expires or grant.created_at, grant.created_at, grant.grant_id)
