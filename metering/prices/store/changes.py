"""SQL that writes what a comparison with the catalogue found, and which of its cards an operator did not want."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection, text

from metering.db.rows import json_rows
from metering.prices.rates import RateCard


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredChange:
    """A model whose price the catalogue would change: rates before and after, as text, and the compared month."""

    change_id: str
    provider: str
    model: str
    was: str
    becomes: str
    starts_at: datetime
    source: str
    period: str
    found_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCost:
    """What a customer's usage of the month cost, and would have cost by the new price, in exact cents.

    `unpriced` streams have no rate in the new price and are in no other figure.
    """

    change_id: str
    customer_id: str
    stream_count: int
    unpriced: int
    usd_cents: Decimal
    would_cost_usd_cents: Decimal


_KEPT = text("SELECT catalogue_card_id FROM kept_rates")


def kept_cards(connection: Connection) -> frozenset[str]:
    """The ids of the catalogue's cards that an operator decided not to import."""
    return frozenset(connection.execute(_KEPT).scalars())


_KEEP = text(
    """
    INSERT INTO kept_rates (catalogue_card_id, provider, model, source, kept_by, kept_at)
    VALUES (:catalogue_card_id, :provider, :model, :source, :kept_by, :now) ON CONFLICT DO NOTHING
    """
)


def keep_cards(
    connection: Connection, cards: Mapping[str, RateCard], *, source: str, kept_by: str, now: datetime
) -> None:
    """Record that these cards of the catalogue, by id, are not imported."""
    if cards:
        rows = [
            {
                "catalogue_card_id": card_id,
                "provider": card.provider,
                "model": card.model,
                "source": source,
                "kept_by": kept_by,
                "now": now,
            }
            for card_id, card in cards.items()
        ]
        connection.execute(_KEEP, rows)


_CLOSE = text("DELETE FROM price_changes WHERE change_id = ANY(:change_ids)")


def close_price_changes(connection: Connection, *, change_ids: Collection[str]) -> None:
    """Remove changes that are not open any more, with their costs."""
    connection.execute(_CLOSE, {"change_ids": list(change_ids)})


_CLOSE_MODELS = text(
    """
    DELETE FROM price_changes p
    USING unnest(CAST(:providers AS text[]), CAST(:models AS text[])) AS m (provider, model)
    WHERE p.provider = m.provider AND p.model = m.model
    """
)


def close_changes_of_models(connection: Connection, *, models: Collection[tuple[str, str]]) -> None:
    """Remove the changes of these (provider, model), which were imported or dismissed."""
    parameters = {"providers": [provider for provider, _ in models], "models": [model for _, model in models]}
    connection.execute(_CLOSE_MODELS, parameters)


_CLAIM = text(
    """
    UPDATE rate_comparisons SET due_at = :lease WHERE one_row = (
        SELECT one_row FROM rate_comparisons WHERE due_at <= :now FOR UPDATE SKIP LOCKED)
    RETURNING one_row
    """
)


def claim_comparison(connection: Connection, *, lease: datetime, now: datetime) -> bool:
    """Claim the comparison until `lease`. False if it is not due, or another worker has it."""
    return connection.execute(_CLAIM, {"lease": lease, "now": now}).first() is not None


_OPEN = text("SELECT change_id, period FROM price_changes")


def open_price_changes(connection: Connection) -> dict[str, str]:
    """The month that each open change was compared with, by its id."""
    return {row.change_id: row.period for row in connection.execute(_OPEN)}


_ADD_CHANGES = text(
    """
    INSERT INTO price_changes (change_id, provider, model, was, becomes, starts_at, source, period, found_at)
    SELECT * FROM json_to_recordset(CAST(:rows AS json))
        AS c (change_id text, provider text, model text, was text, becomes text, starts_at timestamptz,
              source text, period text, found_at timestamptz)
    """
)
_ADD_COSTS = text(
    """
    INSERT INTO price_change_costs
        (change_id, customer_id, stream_count, unpriced, usd_cents, would_cost_usd_cents)
    SELECT * FROM json_to_recordset(CAST(:rows AS json))
        AS c (change_id text, customer_id text, stream_count bigint, unpriced bigint, usd_cents numeric,
              would_cost_usd_cents numeric)
    """
)


def add_price_changes(
    connection: Connection, changes: Iterable[StoredChange], costs: Iterable[StoredCost]
) -> None:
    """Add open changes with their costs."""
    connection.execute(_ADD_CHANGES, {"rows": json_rows(asdict(each) for each in changes)})
    connection.execute(_ADD_COSTS, {"rows": json_rows(asdict(each) for each in costs)})


_FINISH = text(
    """
    UPDATE rate_comparisons SET due_at = :due_at, compared_at = :now, source = :source,
        batch = CASE WHEN :is_new THEN :batch ELSE batch END,
        found_at = CASE WHEN :is_new THEN :now ELSE found_at END
    """
)


def finish_comparison(
    connection: Connection, *, source: str, new_batch: str | None, due_at: datetime, now: datetime
) -> None:
    """Record a comparison. With `new_batch` it found a change that was not there at the one before."""
    parameters = {
        "source": source,
        "is_new": new_batch is not None,
        "batch": new_batch,
        "due_at": due_at,
        "now": now,
    }
    connection.execute(_FINISH, parameters)
