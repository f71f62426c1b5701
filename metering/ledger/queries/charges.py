"""Queries for charges and manual adjustments by page, and for the charged streams and newest bills of a period."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, TextClause, text

from metering.core.period import BillingPeriod
from metering.ledger.entries import Charge, ManualAdjustment
from metering.ledger.store.adjustments import manual_adjustment_of_row
from metering.ledger.store.charges import (
    CHARGE_ROW,
    bill_of_row,
    bill_row,
    charge_of_row,
    newest_bill_of_row,
)
from metering.streams.bill import Bill, Flag
from metering.streams.store.archived import StreamArchivedError, has_archives


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeFilter:
    """A filter for charges; None does not filter. `from_` and `to` bound the end of the stream, half-open."""

    customer_id: str | None = None
    from_: datetime | None = None
    to: datetime | None = None
    model: str | None = None
    outcome: str | None = None
    api_key_id: str | None = None
    usage_source: str | None = None
    flag: Flag | None = None
    inlet: str | None = None


# (ended_at, customer_id, stream_id).
ChargePosition = tuple[datetime, str, str]

_EQUAL = ("customer_id", "model", "outcome", "api_key_id", "usage_source", "inlet")


def list_charges(
    connection: Connection, *, where: ChargeFilter, after: ChargePosition | None, limit: int
) -> Sequence[Charge]:
    """Up to `limit` charges after the position `after`, in the order of ChargePosition."""
    given = {name: value for name in _EQUAL if (value := getattr(where, name)) is not None}
    conditions = [f"c.{name} = :{name}" for name in given]
    parameters: dict[str, object] = {**given, "limit": limit}
    if where.flag is not None:
        # The first condition is the one of the index of flagged charges.
        conditions.append("c.flags <> '{}' AND c.flags @> :flags")
        parameters["flags"] = [where.flag.value]
    if where.from_ is not None:
        conditions.append("c.ended_at >= :from_")
        parameters["from_"] = where.from_
    if where.to is not None:
        conditions.append("c.ended_at < :to")
        parameters["to"] = where.to
    if after is not None:
        conditions.append(
            "(c.ended_at, c.customer_id, c.stream_id) > (:after_end, :after_customer, :after_stream)"
        )
        parameters |= dict(zip(("after_end", "after_customer", "after_stream"), after, strict=True))
    query = f"""
        SELECT {CHARGE_ROW} FROM charges c
        {"WHERE " + " AND ".join(conditions) if conditions else ""}
        ORDER BY c.ended_at, c.customer_id, c.stream_id LIMIT :limit
    """
    return [charge_of_row(row) for row in connection.execute(text(query), parameters)]


_CHUNK = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamBill:
    """A stream's newest bill; None when its bookings were taken back."""

    customer_id: str
    stream_id: str
    bill: Bill | None


# Streams that ended before the month, which arrived when their own month was closed already. The condition is that
# of the index `charges_late`, word for word.
_LATE = """
    {c}.charged_ended_at < timezone('UTC', make_timestamp(CAST(left({c}.charged_period, 4) AS integer),
        CAST(right({c}.charged_period, 2) AS integer), 1, 0, 0, 0) - interval '1 day')
"""
# The month in any time zone. `from_` and `to` bound the ends of streams, so that an index finds the rows.
_IN_MONTH = "{c}.charged_ended_at >= :from_ AND {c}.charged_ended_at < :to"
_FILTERED = """
    AND {c}.charged_period = :period AND %s
    AND (CAST(:customer_id AS text) IS NULL OR {c}.customer_id = :customer_id)
    AND (CAST(:provider AS text) IS NULL OR {c}.charged_provider = :provider)
    AND (CAST(:model AS text) IS NULL OR {c}.charged_model = :model)
    ORDER BY {c}.charged_ended_at, {c}.customer_id, {c}.stream_id
"""
# A query's statements for the late streams and for those in the month: OR would keep PostgreSQL from both indexes.
_Statements = tuple[TextClause, TextClause]


def _of_a_month(query: str, *, table: str, limit: str = "") -> _Statements:
    """The statements of a query that ends with a condition, to which those on this table are added."""
    late, in_month = (
        text(query + (_FILTERED % ends).format(c=table) + limit).execution_options(yield_per=_CHUNK)
        for ends in (_LATE, _IN_MONTH)
    )
    return late, in_month


# An adjustment may have changed the outcome, so adjusted streams are read whatever their charge says.
_NOT_COMPLETED = _of_a_month(
    f"""
    SELECT b.customer_id, b.stream_id, b.taken_back, {bill_row("b")} FROM newest_bills b
    WHERE (b.outcome <> 'completed' OR b.revision > 0)
    """,
    table="b",
)
_STREAMS = _of_a_month("SELECT e.customer_id, e.stream_id FROM entries e WHERE e.kind = 'charge'", table="e")


@dataclass(frozen=True, slots=True, kw_only=True)
class BillFilter:
    """A filter for streams whose charge is booked to a period; None does not filter."""

    period: BillingPeriod
    customer_id: str | None = None
    provider: str | None = None
    model: str | None = None


def iterate_charged_streams(connection: Connection, *, where: BillFilter) -> Iterator[tuple[str, str]]:
    """Yield the (customer_id, stream_id) of the streams by their end, read in chunks from the server."""
    for row in _rows(connection, _STREAMS, where):
        yield (row.customer_id, row.stream_id)


def iterate_bills_not_completed(connection: Connection, *, where: BillFilter) -> Iterator[StreamBill]:
    """Yield the newest bills of streams that did not complete, read in chunks from the server.

    Adjusted streams are among them even if they completed; the caller checks the outcome.
    """
    for row in _rows(connection, _NOT_COMPLETED, where):
        yield StreamBill(customer_id=row.customer_id, stream_id=row.stream_id, bill=newest_bill_of_row(row))


_ARCHIVED = _of_a_month(
    """
    SELECT a.customer_id, a.stream_id, a.archive_id
    FROM entries e JOIN archived_streams a ON a.customer_id = e.customer_id AND a.stream_id = e.stream_id
    WHERE e.kind = 'charge'
    """,
    table="e",
    limit="LIMIT 1",
)


def check_none_archived(connection: Connection, where: BillFilter) -> None:
    """Check that the facts of all these streams are in the database.

    Raises:
        StreamArchivedError: those of at least one are in an archive.
    """
    if not has_archives(connection):
        return
    found = next(_rows(connection, _ARCHIVED, where), None)
    if found is not None:
        raise StreamArchivedError(
            customer_id=found.customer_id, stream_id=found.stream_id, archive_id=found.archive_id
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedBill:
    """The newest bill of a stream that a shared card of this provider's model rated."""

    customer_id: str
    card_provider: str
    card_model: str
    bill: Bill


_RATED_BY = _of_a_month(
    f"""
    SELECT b.customer_id, k.provider AS card_provider, k.model AS card_model, {bill_row("b")}
    FROM newest_bills b JOIN rate_cards k ON k.rate_card_id = b.rate_card_id AND k.customer_id IS NULL
    JOIN unnest(CAST(:providers AS text[]), CAST(:models AS text[])) AS wanted (provider, model)
        ON wanted.provider = k.provider AND wanted.model = k.model
    WHERE NOT b.taken_back
    """,
    table="b",
)


def iterate_bills_rated_by(
    connection: Connection, *, where: BillFilter, models: Collection[tuple[str, str]]
) -> Iterator[RatedBill]:
    """Yield the newest bills that shared cards of these (provider, model) rated, in chunks from the server."""
    providers = [provider for provider, _ in models]
    named = [model for _, model in models]
    for row in _rows(connection, _RATED_BY, where, providers=providers, models=named):
        yield RatedBill(
            customer_id=row.customer_id,
            card_provider=row.card_provider,
            card_model=row.card_model,
            bill=bill_of_row(row),
        )


def _rows(connection: Connection, statements: _Statements, where: BillFilter, **more: object) -> Iterator[Any]:
    """The rows of both statements, read in chunks from the server."""
    begins, ends = where.period.in_any_zone
    parameters = {
        "period": str(where.period),
        "from_": begins,
        "to": ends,
        "customer_id": where.customer_id,
        "provider": where.provider,
        "model": where.model,
    }
    for statement in statements:
        yield from connection.execute(statement, {**parameters, **more})


_MANUAL = text(
    """
    SELECT * FROM manual_adjustments
    WHERE (CAST(:customer_id AS text) IS NULL OR customer_id = :customer_id)
      AND (CAST(:period AS text) IS NULL OR period = :period)
      AND (CAST(:after AS timestamptz) IS NULL OR (booked_at, adjustment_id) < (:after, :after_id))
    ORDER BY booked_at DESC, adjustment_id DESC LIMIT :limit
    """
)


def list_manual_adjustments(
    connection: Connection,
    *,
    customer_id: str | None,
    period: str | None,
    after: tuple[datetime, str] | None,
    limit: int,
) -> Sequence[ManualAdjustment]:
    """Up to `limit` manual adjustments, newest first, after the position `after`, a (booked_at, adjustment_id).

    None does not filter.
    """
    booked_at, adjustment_id = after or (None, None)
    parameters = {
        "customer_id": customer_id,
        "period": period,
        "after": booked_at,
        "after_id": adjustment_id,
        "limit": limit,
    }
    return [manual_adjustment_of_row(row) for row in connection.execute(_MANUAL, parameters)]
