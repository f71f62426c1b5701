"""End a grant: void it, or refund what is left of it. Both with a reason, in the audit log."""

from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from msgspec.structs import replace
from sqlalchemy import Connection, Engine

from metering.access.actors import Author
from metering.access.store.audit_log import log_action
from metering.access.store.idempotency import IdempotencyKey, earlier_result, remember_result
from metering.core.errors import MeteringError
from metering.core.money import cents_text
from metering.core.time_zones import UTC_ZONE
from metering.credits.drawing import add_entry, expire, month_of
from metering.credits.grant import EntryKind, Funding, Grant, GrantEntry, GrantState
from metering.credits.queries.entries import get_entry
from metering.credits.store.grants import add_entries, find_grant, zones_of
from metering.credits.terms import InvalidGrantError
from metering.db.engine import transaction
from metering.db.locks import take_money


class UnknownGrantError(MeteringError):
    """No grant has this id."""


class GrantNotActiveError(MeteringError):
    """The grant is pending or voided, or nothing of it is left."""


def void_grant(*, engine: Engine, grant_id: str, reason: str, by: Author, now: datetime) -> Grant:
    """Take back what is left of a grant, without money back. What it paid for stays paid.

    Repeating this changes nothing.

    Raises:
        UnknownGrantError: there is no such grant.
        InvalidGrantError: the reason is empty.
    """
    _check_reason(reason)
    with transaction(engine) as connection:
        before = lock_grant(connection, grant_id, now=now)
        if before.state is GrantState.VOIDED:
            return before
        grant, entries = before, []
        if before.state is GrantState.ACTIVE:
            grant, entry = add_entry(
                before,
                kind=EntryKind.VOIDED,
                usd_cents=before.balance_usd_cents.copy_negate() if before.balance_usd_cents else Decimal(0),
                at=now,
                period=_month(connection, before, now),
                reason=reason.strip(),
                booked_by=str(by),
            )
            entries.append(entry)
        grant = replace(grant, state=GrantState.VOIDED, changed_at=max(now, grant.changed_at))
        add_entries(connection, [grant], entries)
        _log(connection, before, grant, action="void", reason=reason, by=by, now=now)
    return grant


def refund_grant(
    *,
    engine: Engine,
    idempotency_key: str,
    grant_id: str,
    usd_cents: Decimal | None,
    reason: str,
    by: Author,
    now: datetime,
) -> GrantEntry:
    """Take `usd_cents` of credit (None: all that is left) out of a grant, whose price is paid back elsewhere.

    Return the entry: its `released_cents` are the part of the price to pay back. This moves no money. A repeated
    request with the same key refunds nothing and returns the entry of the first one.

    Raises:
        UnknownGrantError: there is no such grant.
        InvalidGrantError: the amount is not above 0, more than is left, or of a promotional grant; no reason.
        GrantNotActiveError: the grant is pending or voided, or nothing is left.
        IdempotencyKeyReusedError: the key was used for a different request.
        RequestInFlightError: another request with this key is in progress.
    """
    _check_reason(reason)
    key = IdempotencyKey.of(
        idempotency_key, "refund", grant_id, "all" if usd_cents is None else cents_text(usd_cents), reason
    )
    with transaction(engine) as connection:
        earlier = earlier_result(connection, key)
        if earlier is not None:
            return get_entry(connection, grant_id=grant_id, entry_number=int(earlier.rpartition("/")[2]))
        before = lock_grant(connection, grant_id, now=now)
        grant, entry = add_entry(
            before,
            kind=EntryKind.REFUNDED,
            usd_cents=_refundable(before, usd_cents).copy_negate(),
            at=now,
            period=_month(connection, before, now),
            reason=reason.strip(),
            booked_by=str(by),
        )
        add_entries(connection, [grant], [entry])
        remember_result(connection, key, result_id=f"{grant_id}/{entry.entry_number}", now=now)
        _log(connection, before, grant, action="refund", reason=reason, by=by, now=now)
    return entry


def lock_grant(connection: Connection, grant_id: str, *, now: datetime) -> Grant:
    """A grant that nothing else changes until the transaction ends, with its expiry booked if it has expired.

    Raises:
        UnknownGrantError: there is no such grant.
    """
    found = find_grant(connection, grant_id)
    if found is None:
        raise UnknownGrantError(f"there is no grant {grant_id!r}")
    take_money(connection, [found.customer_id])
    grant = find_grant(connection, grant_id)
    assert grant is not None  # grants are never deleted
    expired, entries = expire(grant, at=max(now, grant.changed_at), time_zone=_zone(connection, grant))
    if entries:
        add_entries(connection, [expired], entries)
    return expired


def _refundable(grant: Grant, usd_cents: Decimal | None) -> Decimal:
    if grant.funding is Funding.NONE:
        raise InvalidGrantError("a promotional grant has no price to refund: void it")
    if grant.state is not GrantState.ACTIVE or not grant.balance_usd_cents:
        what = "nothing of it is left" if grant.state is GrantState.ACTIVE else f"it is {grant.state}"
        raise GrantNotActiveError(f"grant {grant.grant_id!r} cannot be refunded: {what}")
    if usd_cents is None:
        return grant.balance_usd_cents
    if not usd_cents.is_finite() or not 0 < usd_cents <= grant.balance_usd_cents:
        left = cents_text(grant.balance_usd_cents)
        raise InvalidGrantError(f"usd_cents: expected an amount above 0 and up to the {left} that are left")
    return usd_cents


def _check_reason(reason: str) -> None:
    if not reason.strip():
        raise InvalidGrantError("reason: required, the audit log shows it")


def _zone(connection: Connection, grant: Grant) -> ZoneInfo:
    return zones_of(connection, [grant.customer_id]).get(grant.customer_id, UTC_ZONE)


def _month(connection: Connection, grant: Grant, now: datetime) -> str:
    return month_of(max(now, grant.changed_at), time_zone=_zone(connection, grant))


def _log(
    connection: Connection, before: Grant, after: Grant, *, action: str, reason: str, by: Author, now: datetime
) -> None:
    log_action(
        connection,
        by=by,
        now=now,
        kind="grant",
        action=action,
        subject=after.grant_id,
        before={"state": before.state.value, "balance_usd_cents": cents_text(before.balance_usd_cents)},
        after={
            "state": after.state.value,
            "balance_usd_cents": cents_text(after.balance_usd_cents),
            "reason": reason.strip(),
        },
    )
