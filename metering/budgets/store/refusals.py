"""SQL of refusals: one row for each budget and minute, counted up by admission and taken by a worker."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from sqlalchemy import Connection, text

from metering.budgets.budget import Standing
from metering.budgets.refusals import Refusals
from metering.db.rows import json_rows

_decode_standing = msgspec.json.Decoder(Standing).decode

# The budgets are those of customers whose accounts are locked, so no other admission waits for these rows.
_ADD = text(
    """
    INSERT INTO hold_refusals AS h (customer_id, budget_id, minute, refusal_count, refused_customer_id, stream_id,
                                    provider, model, needed_usd_cents, standing)
    SELECT * FROM json_to_recordset(CAST(:rows AS json)) AS r (customer_id text, budget_id text,
        minute timestamptz, refusal_count bigint, refused_customer_id text, stream_id text, provider text,
        model text, needed_usd_cents numeric, standing json)
    ON CONFLICT (customer_id, budget_id, minute)
    DO UPDATE SET refusal_count = h.refusal_count + excluded.refusal_count
    """
)


def add_refusals(connection: Connection, refusals: Sequence[Refusals]) -> None:
    """Count refusals. Budgets are given once each; their customers' accounts are locked."""
    if refusals:
        connection.execute(_ADD, {"rows": json_rows(refusals)})


_TAKE = text(
    """
    DELETE FROM hold_refusals WHERE (customer_id, budget_id, minute) IN (
        SELECT customer_id, budget_id, minute FROM hold_refusals WHERE minute < :before
        ORDER BY minute, customer_id, budget_id LIMIT :limit)
    RETURNING customer_id, budget_id, minute, refusal_count, refused_customer_id, stream_id, provider, model,
              needed_usd_cents, standing::text AS standing
    """
)


def take_refusals(connection: Connection, *, before: datetime, limit: int) -> list[Refusals]:
    """Remove up to `limit` rows of minutes that started before a time, and return them, oldest first."""
    rows = connection.execute(_TAKE, {"before": before, "limit": limit})
    taken = [Refusals(**{**row._mapping, "standing": _decode_standing(row.standing)}) for row in rows]
    return sorted(taken, key=lambda each: (each.minute, each.customer_id, each.budget_id))
