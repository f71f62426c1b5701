"""SQL that makes grants, appends their entries, and keeps what follows from them."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from msgspec import Struct
from sqlalchemy import Connection, text

from metering.core.money import EXACT, ZERO
from metering.core.time_zones import shown_zone
from metering.credits.grant import EntryKind, Funding, Grant, GrantEntry, GrantLimits, GrantState
from metering.credits.revenue import Earned
from metering.db.rows import copy_rows, json_rows, moment

# The select list for `grant_of_row`; `g` is an alias of `grants`.
GRANT_ROW = """g.customer_id, g.grant_id, g.amount_usd_cents, g.paid_usd_cents, g.priority, g.effective_from,
    g.expires_at, g.only_providers, g.only_models, g.funding, g.reason, g.created_at, g.created_by, g.state,
    g.balance_usd_cents, g.entry_count, g.changed_at, g.sold_period, g.drawn_usd_cents, g.recognised_cents,
    g.released_cents"""


def grant_of_row(row: Any) -> Grant:
    """The grant in a row selected with GRANT_ROW."""
    return Grant(
        grant_id=row.grant_id,
        customer_id=row.customer_id,
        amount_usd_cents=row.amount_usd_cents,
        paid_usd_cents=row.paid_usd_cents,
        priority=row.priority,
        effective_from=row.effective_from,
        expires_at=row.expires_at,
        limits=GrantLimits(tuple(row.only_providers or ()), tuple(row.only_models or ())),
        funding=Funding(row.funding),
        reason=row.reason,
        created_at=row.created_at,
        created_by=row.created_by,
        state=GrantState(row.state),
        balance_usd_cents=row.balance_usd_cents,
        entry_count=row.entry_count,
        changed_at=row.changed_at,
        sold_period=row.sold_period,
        earned=Earned(row.drawn_usd_cents, row.recognised_cents, row.released_cents),
    )


_ADD = text(
    """
    INSERT INTO grants (customer_id, grant_id, amount_usd_cents, paid_usd_cents, priority, effective_from,
                        expires_at, only_providers, only_models, funding, reason, created_at, created_by, state,
                        balance_usd_cents, entry_count, changed_at, sold_period)
    VALUES (:customer_id, :grant_id, :amount_usd_cents, :paid_usd_cents, :priority, :effective_from, :expires_at,
            :only_providers, :only_models, :funding, :reason, :created_at, :created_by, :state, :balance_usd_cents,
            :entry_count, :changed_at, :sold_period)
    """
)


def add_grant(connection: Connection, grant: Grant) -> None:
    """Store a new grant. Its entries are added apart."""
    connection.execute(
        _ADD,
        {
            "customer_id": grant.customer_id,
            "grant_id": grant.grant_id,
            "amount_usd_cents": grant.amount_usd_cents,
            "paid_usd_cents": grant.paid_usd_cents,
            "priority": grant.priority,
            "effective_from": grant.effective_from,
            "expires_at": grant.expires_at,
            "only_providers": list(grant.limits.providers) or None,
            "only_models": list(grant.limits.models) or None,
            "funding": grant.funding.value,
            "reason": grant.reason,
            "created_at": grant.created_at,
            "created_by": grant.created_by,
            "state": grant.state.value,
            "balance_usd_cents": grant.balance_usd_cents,
            "entry_count": grant.entry_count,
            "changed_at": grant.changed_at,
            "sold_period": grant.sold_period,
        },
    )


_ONE = text(f"SELECT {GRANT_ROW} FROM grants g WHERE g.grant_id = :grant_id")
_OPEN = text(
    f"SELECT {GRANT_ROW} FROM grants g WHERE g.customer_id = ANY(:customer_ids) AND g.balance_usd_cents > 0"
)
_THESE = text(
    f"""
    SELECT {GRANT_ROW} FROM grants g
    WHERE g.customer_id = ANY(:customer_ids) AND g.grant_id = ANY(:grant_ids)
    """
)


def find_grant(connection: Connection, grant_id: str) -> Grant | None:
    """The grant with this id; None if there is none."""
    row = connection.execute(_ONE, {"grant_id": grant_id}).first()
    return None if row is None else grant_of_row(row)


def grants_with_balance(connection: Connection, customer_ids: Iterable[str]) -> list[Grant]:
    """The grants of these customers with something left, also those that are expired or not effective yet."""
    return [grant_of_row(row) for row in connection.execute(_OPEN, {"customer_ids": list(customer_ids)})]


def read_grants(connection: Connection, customer_ids: Iterable[str], grant_ids: Iterable[str]) -> list[Grant]:
    """These grants of these customers."""
    parameters = {"customer_ids": list(customer_ids), "grant_ids": list(grant_ids)}
    return [grant_of_row(row) for row in connection.execute(_THESE, parameters)]


_ZONES = text("SELECT customer_id, time_zone FROM customers WHERE customer_id = ANY(:customer_ids)")


def zones_of(connection: Connection, customer_ids: Iterable[str]) -> dict[str, ZoneInfo]:
    """The time zones of these customers; unknown customers are left out."""
    rows = connection.execute(_ZONES, {"customer_ids": list(customer_ids)})
    return {row.customer_id: shown_zone(row.time_zone) for row in rows}


_COPY_ENTRIES = """COPY grant_entries (customer_id, grant_id, entry_number, kind, usd_cents, balance_usd_cents,
    released_cents, booked_at, period, entry_id, stream_id, entry_period, reason, booked_by) FROM STDIN"""
_CHANGE = text(
    """
    UPDATE grants g SET state = r.state, balance_usd_cents = r.balance_usd_cents, entry_count = r.entry_count,
                        changed_at = r.changed_at, sold_period = r.sold_period,
                        drawn_usd_cents = r.drawn_usd_cents, recognised_cents = r.recognised_cents,
                        released_cents = r.released_cents
    FROM json_to_recordset(CAST(:rows AS json))
         AS r (customer_id text, grant_id text, state text, balance_usd_cents numeric, entry_count integer,
               changed_at timestamptz, sold_period text, drawn_usd_cents numeric, recognised_cents bigint,
               released_cents bigint)
    WHERE g.customer_id = r.customer_id AND g.grant_id = r.grant_id
    """
)


class _Changed(Struct, frozen=True):
    customer_id: str
    grant_id: str
    state: str
    balance_usd_cents: Decimal
    entry_count: int
    changed_at: datetime
    sold_period: str | None
    drawn_usd_cents: Decimal
    recognised_cents: int
    released_cents: int


def add_entries(connection: Connection, grants: Iterable[Grant], entries: Sequence[GrantEntry]) -> None:
    """Append entries, in the order of booking, and keep what follows from them: in these grants and by month.

    `grants` are the grants of the entries as they are after them. Call it with the customers' money locked.
    """
    changed = [
        _Changed(
            each.customer_id,
            each.grant_id,
            each.state.value,
            each.balance_usd_cents,
            each.entry_count,
            each.changed_at,
            each.sold_period,
            each.earned.drawn_usd_cents,
            each.earned.recognised_cents,
            each.earned.released_cents,
        )
        for each in grants
    ]
    if changed:
        connection.execute(_CHANGE, {"rows": json_rows(changed)})
    if entries:
        copy_rows(connection, _COPY_ENTRIES, map(_copied, entries))
        paid = {each.grant_id: each.paid_usd_cents for each in grants}
        connection.execute(_ADD_MONTHS, {"rows": json_rows(_months(entries, paid))})
        prepaid = _prepaid(entries)
        if prepaid:
            connection.execute(_ADD_PREPAID, {"rows": json_rows(prepaid)})


def _copied(entry: GrantEntry) -> tuple[Any, ...]:
    return (
        entry.customer_id,
        entry.grant_id,
        entry.entry_number,
        entry.kind.value,
        entry.usd_cents,
        entry.balance_usd_cents,
        entry.released_cents,
        moment(entry.booked_at),
        entry.period,
        entry.entry_id,
        entry.stream_id,
        entry.entry_period,
        entry.reason,
        entry.booked_by,
    )


class GrantMonth(Struct, kw_only=True):
    """The sums of a grant's entries of a month: exact cents of credit, and whole cents of its price."""

    customer_id: str
    grant_id: str
    period: str
    granted_usd_cents: Decimal = ZERO
    drawn_usd_cents: Decimal = ZERO
    ended_usd_cents: Decimal = ZERO
    sold_cents: int = 0
    recognised_cents: int = 0
    breakage_cents: int = 0
    refunded_cents: int = 0

    def add(self, entry: GrantEntry, *, paid_usd_cents: Decimal) -> None:
        """Count an entry of a grant that was sold for `paid_usd_cents`."""
        match entry.kind:
            case EntryKind.GRANTED:
                self.granted_usd_cents = EXACT.add(self.granted_usd_cents, entry.usd_cents)
                self.sold_cents += int(paid_usd_cents)
            case EntryKind.DRAWN | EntryKind.RESTORED:
                self.drawn_usd_cents = EXACT.subtract(self.drawn_usd_cents, entry.usd_cents)
                self.recognised_cents += entry.released_cents
            case EntryKind.EXPIRED:
                self.ended_usd_cents = EXACT.subtract(self.ended_usd_cents, entry.usd_cents)
                self.breakage_cents += entry.released_cents
            case EntryKind.VOIDED | EntryKind.REFUNDED:
                self.ended_usd_cents = EXACT.subtract(self.ended_usd_cents, entry.usd_cents)
                self.refunded_cents += entry.released_cents


def _months(entries: Iterable[GrantEntry], paid: dict[str, Decimal]) -> list[GrantMonth]:
    months: dict[tuple[str, str], GrantMonth] = {}
    for entry in entries:
        key = (entry.grant_id, entry.period)
        if key not in months:
            months[key] = GrantMonth(customer_id=entry.customer_id, grant_id=entry.grant_id, period=entry.period)
        months[key].add(entry, paid_usd_cents=paid[entry.grant_id])
    return [months[key] for key in sorted(months)]


def _prepaid(entries: Iterable[GrantEntry]) -> list[dict[str, Any]]:
    sums: dict[tuple[str, str], Decimal] = {}
    for entry in entries:
        if entry.entry_period is not None:
            key = (entry.customer_id, entry.entry_period)
            sums[key] = EXACT.subtract(sums.get(key, ZERO), entry.usd_cents)
    return [{"customer_id": key[0], "period": key[1], "drawn_usd_cents": sums[key]} for key in sorted(sums)]


_ADD_MONTHS = text(
    """
    INSERT INTO grant_months AS m (customer_id, grant_id, period, granted_usd_cents, drawn_usd_cents,
                                   ended_usd_cents, sold_cents, recognised_cents, breakage_cents, refunded_cents)
    SELECT * FROM json_to_recordset(CAST(:rows AS json))
         AS r (customer_id text, grant_id text, period text, granted_usd_cents numeric, drawn_usd_cents numeric,
               ended_usd_cents numeric, sold_cents bigint, recognised_cents bigint, breakage_cents bigint,
               refunded_cents bigint)
    ON CONFLICT (customer_id, grant_id, period) DO UPDATE SET
        granted_usd_cents = m.granted_usd_cents + excluded.granted_usd_cents,
        drawn_usd_cents = m.drawn_usd_cents + excluded.drawn_usd_cents,
        ended_usd_cents = m.ended_usd_cents + excluded.ended_usd_cents,
        sold_cents = m.sold_cents + excluded.sold_cents,
        recognised_cents = m.recognised_cents + excluded.recognised_cents,
        breakage_cents = m.breakage_cents + excluded.breakage_cents,
        refunded_cents = m.refunded_cents + excluded.refunded_cents
    """
)
_ADD_PREPAID = text(
    """
    INSERT INTO prepaid_months AS m (customer_id, period, drawn_usd_cents)
    SELECT * FROM json_to_recordset(CAST(:rows AS json))
         AS r (customer_id text, period text, drawn_usd_cents numeric)
    ON CONFLICT (customer_id, period) DO UPDATE SET drawn_usd_cents = m.drawn_usd_cents + excluded.drawn_usd_cents
    """
)


class Draw(Struct, frozen=True):
    """What a grant paid for a stream, or (below zero) got back."""

    customer_id: str
    stream_id: str
    grant_id: str
    usd_cents: Decimal


_DRAWS = text(
    """
    SELECT e.customer_id, e.stream_id, e.grant_id, -e.usd_cents AS usd_cents
    FROM json_to_recordset(CAST(:streams AS json)) AS wanted (customer_id text, stream_id text)
    JOIN grant_entries e ON e.customer_id = wanted.customer_id AND e.stream_id = wanted.stream_id
    ORDER BY e.entry_order
    """
)


def draws_of(connection: Connection, streams: str) -> list[Draw]:
    """What grants paid for these streams (`db.rows.json_keys`), in the order of booking."""
    rows = connection.execute(_DRAWS, {"streams": streams})
    return [Draw(row.customer_id, row.stream_id, row.grant_id, row.usd_cents) for row in rows]


_COSTS = text(
    """
    SELECT wanted.customer_id, wanted.stream_id, sum(e.usd_cents) AS usd_cents
    FROM json_to_recordset(CAST(:streams AS json)) AS wanted (customer_id text, stream_id text)
    JOIN entries e ON e.customer_id = wanted.customer_id AND e.stream_id = wanted.stream_id
    GROUP BY 1, 2
    """
)


def costs_of(connection: Connection, streams: str) -> dict[tuple[str, str], Decimal]:
    """What these streams (`db.rows.json_keys`) cost in exact cents, with what this transaction has booked."""
    rows = connection.execute(_COSTS, {"streams": streams})
    return {(row.customer_id, row.stream_id): row.usd_cents for row in rows}
