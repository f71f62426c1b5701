"""Compare rates: whether the installed catalogue has other prices than the stored ones. It changes no price."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Engine

from metering.core.ids import digest
from metering.core.period import BillingPeriod
from metering.corrections.simulate_rates import Progress, RateCost, simulate_rates
from metering.db.engine import transaction
from metering.prices.catalogue import Catalogue
from metering.prices.import_rates import PriceChange, plan_import
from metering.prices.rate_text import rate_text
from metering.prices.rates import RateCard
from metering.prices.store.changes import (
    StoredChange,
    StoredCost,
    add_price_changes,
    claim_comparison,
    close_price_changes,
    finish_comparison,
    open_price_changes,
)

log = logging.getLogger(__name__)

# A comparison that reads a large month is done by then; a worker that died left it to another one.
_LEASE = timedelta(hours=2)
_UTC = ZoneInfo("UTC")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The price changes that are open after a comparison, and whether some of them are new."""

    source: str
    changes: Sequence[PriceChange]
    is_new: bool


def compare_rates(
    *, engine: Engine, read: Callable[[], Catalogue], every: timedelta, now: datetime
) -> Comparison | None:
    """Compare, if it is due, and store what differs with the difference for each customer's last month.

    None if it is not due yet, or another worker compares. A change is open until it is imported or kept; a change
    that was open before is not new.
    """
    with transaction(engine) as connection:
        if not claim_comparison(connection, lease=now + _LEASE, now=now):
            return None
    catalogue = read()
    with transaction(engine) as connection:
        changes = plan_import(connection, catalogue=catalogue, now=now).price_changes
        known = open_price_changes(connection)
    period = last_month(now)
    # What is known is compared with a month once; it may be large.
    again = [each for each in changes if known.get(each.change_id) != str(period)]
    costs = cost_of_changes(engine=engine, changes=again, period=period)
    is_new = any(each.change_id not in known for each in changes)
    still_open = {each.change_id for each in changes}
    with transaction(engine) as connection:
        left = {change_id for change_id in known if change_id not in still_open}
        close_price_changes(connection, change_ids=left | {each.change_id for each in again})
        add_price_changes(
            connection,
            [_stored_change(each, catalogue, period, now) for each in again],
            [
                _stored_cost(change, cost)
                for change, of_change in zip(again, costs, strict=True)
                for cost in of_change
            ],
        )
        finish_comparison(
            connection,
            source=catalogue.source,
            new_batch=digest(*sorted(still_open)) if is_new else None,
            due_at=now + every,
            now=now,
        )
    if is_new:
        log.warning(
            "the catalogue has other prices: see `metering rates diff`",
            extra={"source": catalogue.source, "models": len(changes)},
        )
    return Comparison(source=catalogue.source, changes=changes, is_new=is_new)


def last_month(now: datetime) -> BillingPeriod:
    """The month before the current one, in UTC."""
    return BillingPeriod.containing(at=now, time_zone=_UTC).previous


def cost_of_changes(
    *,
    engine: Engine,
    changes: Sequence[PriceChange],
    period: BillingPeriod,
    progress: Progress = lambda _: None,
) -> Sequence[Sequence[RateCost]]:
    """What each customer's usage of the period cost, and would have cost by the new price, for each change."""
    if not changes:
        return []
    cards = {(each.provider, each.model): each.becomes for each in changes}
    found = simulate_rates(engine=engine, period=period, cards=cards, progress=progress)
    return [
        [cost for cost in found if (cost.provider, cost.model) == (each.provider, each.model)] for each in changes
    ]


def _stored_change(
    change: PriceChange, catalogue: Catalogue, period: BillingPeriod, now: datetime
) -> StoredChange:
    return StoredChange(
        change_id=change.change_id,
        provider=change.provider,
        model=change.model,
        was=_rates_text(change.was),
        becomes=_rates_text(change.becomes),
        starts_at=change.becomes.effective_from,
        source=catalogue.provenance(change.becomes),
        period=str(period),
        found_at=now,
    )


def _rates_text(card: RateCard) -> str:
    return "  ".join(map(rate_text, card.rates))


def _stored_cost(change: PriceChange, cost: RateCost) -> StoredCost:
    return StoredCost(
        change_id=change.change_id,
        customer_id=cost.customer_id,
        stream_count=cost.stream_count,
        unpriced=cost.unpriced,
        usd_cents=cost.usd_cents,
        would_cost_usd_cents=cost.would_cost_usd_cents,
    )
