"""Grants: prepaid and promotional money of customers, with what each paid for."""

from typing import Annotated

from fastapi import Path, Query
from pydantic import Field
from typing_extensions import TypedDict

from metering.access.scopes import Scope
from metering.access.store.idempotency import IdempotencyKeyReusedError, RequestInFlightError
from metering.api.answers import (
    BookedBy,
    Cents,
    Count,
    CustomerId,
    Month,
    Time,
    described,
    optional_time,
    time_text,
)
from metering.api.auth import By, Caller, needs, require_customer
from metering.api.paging import Limit, NextCursor, Page, cursor_of, page_of
from metering.api.parameters import (
    WHOLE_NUMBER,
    CentsInput,
    CustomerFilter,
    Db,
    Id,
    Input,
    Reason,
    Text,
    TheService,
    Timestamp,
    idempotency_key,
)
from metering.api.routes import raises, v1_router
from metering.core.clock import utc_now
from metering.core.cursors import NUMBER, TEXT, TIME, decode_cursor, parse_number, parse_time, time_part
from metering.core.money import cents_text
from metering.credits.create_grant import TooManyGrantsError, create_grant
from metering.credits.end_grant import GrantNotActiveError, UnknownGrantError, refund_grant, void_grant
from metering.credits.grant import EntryKind, Funding, GrantEntry, GrantLimits, GrantState
from metering.credits.grant import Grant as StoredGrant
from metering.credits.queries.entries import list_entries
from metering.credits.queries.grants import list_grants
from metering.credits.store.grants import find_grant
from metering.credits.terms import MAX_LIMITS, MAX_PRIORITY, GrantTerms, InvalidGrantError
from metering.customers.store import UnknownCustomerError

router = v1_router("credits")

_Names = Annotated[tuple[Id, ...], Field(max_length=MAX_LIMITS)]


class Limits(TypedDict):
    """What a grant may pay for; an empty list limits nothing."""

    providers: Annotated[list[str], described("Only usage of these providers.")]
    models: Annotated[list[str], described("Only usage of these models.")]


class LimitsInput(Input):
    """What a grant may pay for. An empty list limits nothing."""

    providers: Annotated[
        _Names, Field(description="Only usage of these providers.", examples=[["anthropic"]])
    ] = ()
    models: Annotated[
        _Names, Field(description="Only usage of these models, as requested.", examples=[["claude-opus-4.7"]])
    ] = ()


class Grant(TypedDict):
    """A grant, with what is left of it now."""

    grant_id: Annotated[str, described("The id of the grant.", example="gr_5d4c0a9b")]
    customer_id: CustomerId
    state: Annotated[GrantState, described("Pending until it is paid; voided when an admin ended it.")]
    amount_usd_cents: Annotated[Cents, described("What it pays for.", example="12000")]
    paid_usd_cents: Annotated[Cents, described("What the customer paid for it; 0: promotional.", example="10000")]
    balance_usd_cents: Annotated[Cents, described("What is left; 0 after it expired.", example="8123.4985")]
    priority: Annotated[int, described("Grants with a lower number pay first.", example=500)]
    effective_from: Annotated[Time, described("From when on it pays.")]
    expires_at: Annotated[Time | None, described("When what is left expires; null: never.")]
    only: Annotated[Limits, described("What it may pay for.")]
    funding: Annotated[Funding, described("How it is paid: by an invoice, externally, or not at all.")]
    reason: Annotated[str, described("Why it was made.", example="Order 4711")]
    created_at: Annotated[Time, described("When it was made.")]
    created_by: BookedBy


class Entry(TypedDict):
    """A change of what is left of a grant."""

    entry_number: Annotated[Count, described("The entries of a grant count from 1.")]
    kind: Annotated[EntryKind, described("What it does.")]
    usd_cents: Annotated[Cents, described("The exact amount; below 0 takes away.", example="-0.4985")]
    balance_usd_cents: Annotated[Cents, described("What is left after it.")]
    booked_at: Annotated[Time, described("When it was booked; for an expiry, when the grant expired.")]
    period: Annotated[Month, described("The month whose deferred revenue it changes.")]
    released_cents: Annotated[int, described("The part of the price that is no longer deferred, in whole cents.")]
    entry_id: Annotated[str | None, described("The charge or adjustment that it pays for.", example="ch_5d4c0a9b")]
    stream_id: Annotated[str | None, described("The stream of that.", example="01J9")]
    invoice_period: Annotated[Month | None, described("The month whose invoice has that.")]
    reason: Annotated[str | None, described("Why it was voided or refunded.")]
    booked_by: Annotated[str | None, described("Who voided or refunded it.", example="key k1")]


class GrantWithEntries(Grant):
    """A grant, and a page of its entries, newest first."""

    entries: Annotated[list[Entry], described("Its entries, newest first.")]
    next_cursor: NextCursor


class GrantInput(Input):
    """The terms of a new grant."""

    customer_id: Annotated[Id, Field(description="The customer.", examples=["acme"])]
    amount_usd_cents: Annotated[CentsInput, Field(description="What it pays for, exact; above 0.")]
    paid_usd_cents: Annotated[
        CentsInput, Field(description="What the customer pays for it, in whole cents; 0 is promotional.")
    ]
    funding: Annotated[
        Funding,
        Field(
            description="`invoice`: an invoice at Stripe; it is active once that is paid. `external`: paid"
            " in another way. `none`: promotional."
        ),
    ]
    priority: Annotated[
        int, WHOLE_NUMBER, Field(ge=0, le=MAX_PRIORITY, description="Grants with a lower number pay first.")
    ] = 500
    effective_from: Annotated[
        Timestamp | None,
        Field(description="From when on it pays. Default: now.", examples=["2026-12-01T00:00:00Z"]),
    ] = None
    expires_at: Annotated[
        Timestamp | None,
        Field(description="When what is left expires. Default: never.", examples=["2027-12-01T00:00:00Z"]),
    ] = None
    only: Annotated[LimitsInput, Field(description="What it may pay for. Default: everything.")] = LimitsInput()
    reason: Reason


class EndInput(Input):
    """Why a grant is voided."""

    reason: Reason


class RefundInput(Input):
    """What is refunded, and why."""

    usd_cents: Annotated[
        CentsInput | None, Field(description="The amount to take out of the grant; default: all that is left.")
    ] = None
    reason: Reason


class Refund(TypedDict):
    """A refund: the amount that left the grant, and the part of its price to pay back."""

    grant_id: Annotated[str, described("The grant.", example="gr_5d4c0a9b")]
    usd_cents: Annotated[Cents, described("The amount that left the grant.", example="8123.4985")]
    refund_cents: Annotated[int, described("The part of its price to pay back, in whole cents.", example=6769)]
    balance_usd_cents: Annotated[Cents, described("What is left of the grant.")]
    booked_at: Annotated[Time, described("When it was booked.")]
    reason: Annotated[str | None, described("Why.")]


GrantPath = Annotated[Text, Path(description="The grant.", examples=["gr_5d4c0a9b"])]
_GrantKey = Annotated[str, idempotency_key("grant-2026-11-acme")]
_RefundKey = Annotated[str, idempotency_key("refund-2026-11-acme")]


def grant_shape(grant: StoredGrant) -> Grant:
    """A grant, with what is left of it now."""
    return {
        "grant_id": grant.grant_id,
        "customer_id": grant.customer_id,
        "state": grant.state,
        "amount_usd_cents": cents_text(grant.amount_usd_cents),
        "paid_usd_cents": cents_text(grant.paid_usd_cents),
        "balance_usd_cents": cents_text(grant.balance_at(utc_now())),
        "priority": grant.priority,
        "effective_from": time_text(grant.effective_from),
        "expires_at": optional_time(grant.expires_at),
        "only": {"providers": list(grant.limits.providers), "models": list(grant.limits.models)},
        "funding": grant.funding,
        "reason": grant.reason,
        "created_at": time_text(grant.created_at),
        "created_by": grant.created_by,
    }


def entry_shape(entry: GrantEntry) -> Entry:
    """A change of what is left of a grant."""
    return {
        "entry_number": entry.entry_number,
        "kind": entry.kind,
        "usd_cents": cents_text(entry.usd_cents),
        "balance_usd_cents": cents_text(entry.balance_usd_cents),
        "booked_at": time_text(entry.booked_at),
        "period": entry.period,
        "released_cents": entry.released_cents,
        "entry_id": entry.entry_id,
        "stream_id": entry.stream_id,
        "invoice_period": entry.entry_period,
        "reason": entry.reason,
        "booked_by": entry.booked_by,
    }


@router.get("/grants", operation_id="listGrants", summary="List grants")
@needs(Scope.CREDITS_READ)
def read_grants(
    key: Caller,
    connection: Db,
    customer_id: CustomerFilter = None,
    state: Annotated[GrantState | None, Query(description="Only grants in this state.")] = None,
    limit: Limit = 100,
    cursor: Annotated[str | None, cursor_of(TIME, TEXT)] = None,
) -> Page[Grant]:
    """Grants, newest first, with what is left of each now."""
    position = decode_cursor(cursor, length=2)
    grants = list_grants(
        connection,
        customer_id=require_customer(key, customer_id),
        state=state,
        after=(parse_time(position[0]), position[1]) if position else None,
        limit=limit + 1,
    )
    return page_of(
        grants,
        limit=limit,
        shape=grant_shape,
        position=lambda each: [time_part(each.created_at), each.grant_id],
    )


@router.post("/grants", operation_id="createGrant", summary="Make a grant")
@needs(Scope.CREDITS_WRITE)
@raises(
    UnknownCustomerError,
    InvalidGrantError,
    TooManyGrantsError,
    IdempotencyKeyReusedError,
    RequestInFlightError,
)
def write_grant(
    given: GrantInput,
    idempotency_key: _GrantKey,
    by: By,
    service: TheService,
) -> Grant:
    """Make a grant, exactly once for each `Idempotency-Key`. It pays for what is booked from then on."""
    grant = create_grant(
        engine=service.engine,
        idempotency_key=idempotency_key,
        terms=GrantTerms(
            customer_id=given.customer_id,
            amount_usd_cents=given.amount_usd_cents,
            paid_usd_cents=given.paid_usd_cents,
            funding=given.funding,
            reason=given.reason,
            priority=given.priority,
            effective_from=given.effective_from,
            expires_at=given.expires_at,
            limits=GrantLimits(given.only.providers, given.only.models),
        ),
        by=by,
        now=utc_now(),
    )
    return grant_shape(grant)


@router.get("/grants/{grant_id}", operation_id="getGrant", summary="Get a grant with its entries")
@needs(Scope.CREDITS_READ)
@raises(UnknownGrantError)
def read_grant(
    grant_id: GrantPath,
    key: Caller,
    connection: Db,
    limit: Limit = 100,
    cursor: Annotated[str | None, cursor_of(NUMBER)] = None,
) -> GrantWithEntries:
    """A grant, and its entries, newest first: each draw with the charge that it paid for."""
    grant = find_grant(connection, grant_id)
    if grant is None or key.customer_id not in (None, grant.customer_id):
        raise UnknownGrantError(f"there is no grant {grant_id!r}")
    position = decode_cursor(cursor, length=1)
    page = page_of(
        list_entries(
            connection,
            grant_id=grant_id,
            before=parse_number(position[0]) if position else None,
            limit=limit + 1,
        ),
        limit=limit,
        shape=entry_shape,
        position=lambda each: [str(each.entry_number)],
    )
    return {**grant_shape(grant), "entries": page["data"], "next_cursor": page["next_cursor"]}


@router.post("/grants/{grant_id}/void", operation_id="voidGrant", summary="Void a grant")
@needs(Scope.CREDITS_WRITE)
@raises(UnknownGrantError, InvalidGrantError)
def write_void(grant_id: GrantPath, given: EndInput, by: By, service: TheService) -> Grant:
    """Take back what is left of a grant, without money back. What it paid for stays paid."""
    ended = void_grant(engine=service.engine, grant_id=grant_id, reason=given.reason, by=by, now=utc_now())
    return grant_shape(ended)


@router.post("/grants/{grant_id}/refund", operation_id="refundGrant", summary="Refund a grant")
@needs(Scope.CREDITS_WRITE)
@raises(
    UnknownGrantError,
    InvalidGrantError,
    GrantNotActiveError,
    IdempotencyKeyReusedError,
    RequestInFlightError,
)
def write_refund(
    grant_id: GrantPath,
    given: RefundInput,
    idempotency_key: _RefundKey,
    by: By,
    service: TheService,
) -> Refund:
    """Take what is left out of a grant, once for each `Idempotency-Key`. Pay back `refund_cents` yourself."""
    entry = refund_grant(
        engine=service.engine,
        idempotency_key=idempotency_key,
        grant_id=grant_id,
        usd_cents=given.usd_cents,
        reason=given.reason,
        by=by,
        now=utc_now(),
    )
    return {
        "grant_id": grant_id,
        "usd_cents": cents_text(entry.usd_cents.copy_abs()),
        "refund_cents": entry.released_cents,
        "balance_usd_cents": cents_text(entry.balance_usd_cents),
        "booked_at": time_text(entry.booked_at),
        "reason": entry.reason,
    }
