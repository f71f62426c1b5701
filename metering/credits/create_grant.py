"""Create a grant, once per idempotency key, and activate it when it is paid."""

import secrets
from datetime import datetime

from msgspec.structs import replace
from sqlalchemy import Connection, Engine

from metering.access.actors import Author
from metering.access.store.audit_log import State, log_action
from metering.access.store.idempotency import IdempotencyKey, earlier_result, remember_result
from metering.core.errors import MeteringError
from metering.core.money import cents_text
from metering.core.time_zones import UTC_ZONE
from metering.credits.drawing import add_entry, expire, month_of
from metering.credits.grant import EntryKind, Funding, Grant, GrantState
from metering.credits.store.grants import add_entries, add_grant, find_grant, grants_with_balance, zones_of
from metering.credits.store.top_ups import add_grant_invoice
from metering.credits.terms import GrantTerms, check_terms, new_grant
from metering.customers.store import require_customer
from metering.db.engine import transaction
from metering.db.locks import take_money

# Drawing reads all grants of a customer with something left.
MAX_OPEN_GRANTS = 1_000


class TooManyGrantsError(MeteringError):
    """The customer has the most grants with something left that it may have."""


def create_grant(*, engine: Engine, idempotency_key: str, terms: GrantTerms, by: Author, now: datetime) -> Grant:
    """Make a grant. It is active at once, except one that an invoice pays: that is pending until it is paid.

    A repeated request with the same key makes nothing, and returns the grant of the first one as it is now.

    Raises:
        UnknownCustomerError: the customer does not exist.
        InvalidGrantError: the terms contradict each other, or are out of range.
        TooManyGrantsError: the customer has too many grants with something left.
        IdempotencyKeyReusedError: the key was used for a different request.
        RequestInFlightError: another request with this key is in progress.
    """
    key = _key(idempotency_key, terms)
    with transaction(engine) as connection:
        earlier = earlier_result(connection, key)
        if earlier is not None and (made := find_grant(connection, earlier)) is not None:
            return made
        check_terms(terms, now=now)
        require_customer(connection, customer_id=terms.customer_id)
        take_money(connection, [terms.customer_id])
        grant = put_grant(connection, terms, by=by, now=now)
        remember_result(connection, key, result_id=grant.grant_id, now=now)
        log_action(
            connection,
            by=by,
            now=now,
            kind="grant",
            action="create",
            subject=grant.grant_id,
            after=state_of(grant),
        )
    return grant


def put_grant(
    connection: Connection, terms: GrantTerms, *, by: Author, now: datetime, is_top_up: bool = False
) -> Grant:
    """Store a grant with these terms, which are valid, under the lock of the customer's money.

    Raises:
        TooManyGrantsError: the customer has too many grants with something left.
    """
    if len(grants_with_balance(connection, [terms.customer_id])) >= MAX_OPEN_GRANTS:
        raise TooManyGrantsError(
            f"customer_id: {terms.customer_id!r} has {MAX_OPEN_GRANTS} grants with something left: void some"
        )
    grant = new_grant(terms, grant_id=f"gr_{secrets.token_hex(12)}", by=str(by), now=now)
    add_grant(connection, grant)
    if grant.funding is Funding.INVOICE:
        add_grant_invoice(connection, grant, is_top_up=is_top_up, now=now)
        return grant
    return activate(connection, grant, now=now)


def activate(connection: Connection, grant: Grant, *, now: datetime) -> Grant:
    """Book the amount of a pending grant, under the lock of the customer's money."""
    zone = zones_of(connection, [grant.customer_id]).get(grant.customer_id, UTC_ZONE)
    active, granted = add_entry(
        replace(grant, state=GrantState.ACTIVE),
        kind=EntryKind.GRANTED,
        usd_cents=grant.amount_usd_cents,
        at=now,
        period=month_of(now, time_zone=zone),
    )
    active, expired = expire(active, at=active.changed_at, time_zone=zone)
    add_entries(connection, [active], [granted, *expired])
    return active


def state_of(grant: Grant) -> State:
    """A grant as the audit log shows it."""
    return {
        "customer_id": grant.customer_id,
        "amount_usd_cents": cents_text(grant.amount_usd_cents),
        "paid_usd_cents": cents_text(grant.paid_usd_cents),
        "balance_usd_cents": cents_text(grant.balance_usd_cents),
        "state": grant.state.value,
        "funding": grant.funding.value,
        "priority": grant.priority,
        "effective_from": grant.effective_from,
        "expires_at": grant.expires_at,
        "providers": list(grant.limits.providers),
        "models": list(grant.limits.models),
        "reason": grant.reason,
    }


def _key(idempotency_key: str, terms: GrantTerms) -> IdempotencyKey:
    return IdempotencyKey.of(
        idempotency_key,
        "grant",
        terms.customer_id,
        cents_text(terms.amount_usd_cents) if terms.amount_usd_cents.is_finite() else None,
        cents_text(terms.paid_usd_cents) if terms.paid_usd_cents.is_finite() else None,
        terms.priority,
        terms.effective_from and terms.effective_from.timestamp(),
        terms.expires_at and terms.expires_at.timestamp(),
        terms.limits.providers,
        terms.limits.models,
        terms.funding.value,
        terms.reason,
    )
