"""Lists of charges, oldest end first, page by page."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from metering.ledger.entries import Charge
from metering.ledger.store.charge_rows import CHARGE_ROW, charge_of_row


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeFilter:
    """Which charges; None leaves a filter out. `from_` and `to` bound the end of the stream, half-open."""

    customer_id: str | None = None
    from_: datetime | None = None
    to: datetime | None = None
    model: str | None = None
    outcome: str | None = None
    api_key_id: str | None = None
    usage_source: str | None = None


ChargePosition = tuple[datetime, str, str]

_EQUAL = ("customer_id", "model", "outcome", "api_key_id", "usage_source")


def list_charges(
    connection: Connection, *, where: ChargeFilter, after: ChargePosition | None, limit: int
) -> Sequence[Charge]:
    """Up to `limit` charges behind the position `after`, by (ended_at, customer_id, stream_id)."""
    given = {name: value for name in _EQUAL if (value := getattr(where, name)) is not None}
    conditions = [f"c.{name} = :{name}" for name in given]
    parameters: dict[str, object] = {**given, "limit": limit}
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
