"""SQL that writes and loads rate cards."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, time
from typing import Any

from sqlalchemy import Connection, text

from metering.db.rows import json_rows
from metering.events.usage import UsageKind
from metering.prices.model_names import NameClause
from metering.prices.rates import Rate, RateCard, in_order
from metering.prices.windows import DailyWindow, Weekday

_MIDNIGHT = time()
_ALL_DAY = DailyWindow(_MIDNIGHT, _MIDNIGHT)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcedRateCard:
    """A rate card, where its prices come from, and when it was added."""

    card: RateCard
    provenance: str
    created_at: datetime

    @property
    def set_by_hand(self) -> bool:
        """Whether a person set the prices; otherwise they were imported."""
        return self.provenance.startswith(SET_BY)


# How the provenance of cards that a person set begins.
SET_BY = "set by "


def rates_by_card(rows: Iterable[Any]) -> dict[str, tuple[Rate, ...]]:
    """The rates in rows of the table `rates`, by rate card id."""
    found: dict[str, list[Rate]] = {}
    for row in rows:
        found.setdefault(row.rate_card_id, []).append(_rate_of_row(row))
    return {rate_card_id: in_order(rates) for rate_card_id, rates in found.items()}


_KINDS = {kind.value: kind for kind in UsageKind}


def _rate_of_row(row: Any) -> Rate:
    return Rate(
        kind=_KINDS[row.kind],
        usd_per_million=row.usd_per_million,
        usd_per_hour=row.usd_per_hour,
        above_input_tokens=row.above_input_tokens,
        service_tier=row.service_tier or None,
        daily=_window_of_row(row),
    )


def _window_of_row(row: Any) -> DailyWindow | None:
    if row.daily_start == row.daily_end == _MIDNIGHT and not row.weekdays:
        return None
    return DailyWindow(row.daily_start, row.daily_end, tuple(Weekday(day) for day in row.weekdays.split()))


def sourced_rate_card(row: Any, rates: tuple[Rate, ...]) -> SourcedRateCard:
    """A row of `rate_cards` and its rates as a record."""
    card = RateCard(
        rate_card_id=row.rate_card_id,
        provider=row.provider,
        model=row.model,
        effective_from=row.effective_from,
        rates=rates,
        names=row.names,
        position=row.position,
        customer_id=row.customer_id,
    )
    return SourcedRateCard(card=card, provenance=row.provenance, created_at=row.created_at)


_ADD_CARDS = text(
    """
    INSERT INTO rate_cards (rate_card_id, provider, model, effective_from, names, position, customer_id,
                            provenance, created_at)
    SELECT * FROM json_to_recordset(CAST(:cards AS json))
        AS c (rate_card_id text, provider text, model text, effective_from timestamptz, names jsonb,
              position integer, customer_id text, provenance text, created_at timestamptz)
    """
)
_ADD_RATES = text(
    """
    INSERT INTO rates (rate_card_id, provenance, kind, above_input_tokens, service_tier, daily_start, daily_end,
                       weekdays, usd_per_million, usd_per_hour)
    SELECT * FROM json_to_recordset(CAST(:rates AS json))
        AS r (rate_card_id text, provenance text, kind text, above_input_tokens bigint, service_tier text,
              daily_start time, daily_end time, weekdays text, usd_per_million numeric, usd_per_hour numeric)
    """
)


def add_rate_cards(connection: Connection, cards: Sequence[SourcedRateCard]) -> None:
    """Add cards with their rates.

    Raises:
        IntegrityError: the model already has a card, shared or of this customer, effective from the same time.
    """
    connection.execute(_ADD_CARDS, {"cards": json_rows(map(_card_row, cards))})
    connection.execute(
        _ADD_RATES, {"rates": json_rows(_rate_row(new, rate) for new in cards for rate in new.card.rates)}
    )


def _card_row(new: SourcedRateCard) -> dict[str, Any]:
    return {
        "rate_card_id": new.card.rate_card_id,
        "provider": new.card.provider,
        "model": new.card.model,
        "effective_from": new.card.effective_from,
        "names": new.card.names,
        "position": new.card.position,
        "customer_id": new.card.customer_id,
        "provenance": new.provenance,
        "created_at": new.created_at,
    }


def _rate_row(new: SourcedRateCard, rate: Rate) -> dict[str, Any]:
    window = rate.daily or _ALL_DAY
    return {
        "rate_card_id": new.card.rate_card_id,
        "provenance": new.provenance,
        "kind": rate.kind.value,
        "above_input_tokens": rate.above_input_tokens,
        "service_tier": rate.service_tier or "",
        "daily_start": window.start,
        "daily_end": window.end,
        "weekdays": " ".join(window.weekdays),
        "usd_per_million": rate.usd_per_million,
        "usd_per_hour": rate.usd_per_hour,
    }


_CARDS = text("SELECT * FROM rate_cards WHERE rate_card_id <> ALL(:known)")
_RATES = text("SELECT * FROM rates WHERE rate_card_id <> ALL(:known)")


def load_rate_cards(connection: Connection, *, known: Collection[str] = ()) -> list[SourcedRateCard]:
    """All cards with their rates, except those whose ids are `known`."""
    parameters = {"known": list(known)}
    # The cards first: the rates of a card that is seen are then seen as well. The other way round, a card that is
    # added between the two statements would seem to have none.
    cards = connection.execute(_CARDS, parameters).all()
    by_card = rates_by_card(connection.execute(_RATES, parameters).all())
    return [sourced_rate_card(row, by_card.get(row.rate_card_id, ())) for row in cards]


_CARD = text("SELECT * FROM rate_cards WHERE rate_card_id = :rate_card_id")
_RATES_OF_CARD = text("SELECT * FROM rates WHERE rate_card_id = :rate_card_id")


def find_rate_card(connection: Connection, *, rate_card_id: str) -> RateCard | None:
    """One card with its rates; None if there is none with this id."""
    key = {"rate_card_id": rate_card_id}
    row = connection.execute(_CARD, key).one_or_none()
    if row is None:
        return None
    by_card = rates_by_card(connection.execute(_RATES_OF_CARD, key).all())
    return sourced_rate_card(row, by_card.get(rate_card_id, ())).card


_SHARED_NAMES = text(
    """
    SELECT names, position FROM rate_cards
    WHERE provider = :provider AND model = :model AND customer_id IS NULL ORDER BY created_at LIMIT 1
    """
)


def shared_names(connection: Connection, *, provider: str, model: str) -> tuple[NameClause, int | None] | None:
    """The names and the position of a model's shared cards; None if it has none."""
    row = connection.execute(_SHARED_NAMES, {"provider": provider, "model": model}).one_or_none()
    return None if row is None else (row.names, row.position)


_ANY_CARD = text("SELECT FROM rate_cards LIMIT 1")


def has_rate_cards(connection: Connection) -> bool:
    """Whether any rate card is stored."""
    return connection.execute(_ANY_CARD).first() is not None
