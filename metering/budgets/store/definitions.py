"""SQL that makes, changes and opens budgets."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from msgspec import Struct, structs
from sqlalchemy import Connection, text

from metering.budgets.budget import Budget, BudgetWindow, ScopeKind
from metering.budgets.store.budgets import BUDGET_ROW, budget_of_row, windows_at
from metering.core.money import EXACT, ZERO


@dataclass(frozen=True, slots=True)
class KnownBudget:
    """A budget, ended or not, and the start of its first window."""

    budget: Budget
    counted_from: datetime
    ended_at: datetime | None


_FIND = text(f"SELECT {BUDGET_ROW}, b.counted_from, b.ended_at FROM budgets b WHERE b.budget_id = :budget_id")


def find_budget(connection: Connection, *, budget_id: str) -> KnownBudget | None:
    """The budget with this id, whoever it belongs to; None if there was never one."""
    row = connection.execute(_FIND, {"budget_id": budget_id}).first()
    return None if row is None else KnownBudget(budget_of_row(row), row.counted_from, row.ended_at)


_ADD = text(
    """
    INSERT INTO budgets (customer_id, budget_id, scope, api_key_id, tag_name, tag_value, budget_window,
                         limit_usd_cents, action, unknown_price_usd_cents, version, created_at, counted_from)
    VALUES (:customer_id, :budget_id, :scope, :api_key_id, :tag_name, :tag_value, :budget_window,
            :limit_usd_cents, :action, :unknown_price_usd_cents, :version, :created_at, :counted_from)
    """
)


def add_budget(connection: Connection, budget: Budget, *, counted_from: datetime) -> None:
    """Store a new budget, which is not enforced yet."""
    scope = budget.scope
    connection.execute(
        _ADD,
        {
            "customer_id": scope.customer_id,
            "budget_id": budget.budget_id,
            "scope": scope.kind.value,
            "api_key_id": scope.api_key_id,
            "tag_name": scope.tag_name,
            "tag_value": scope.tag_value,
            "budget_window": budget.window.value,
            "created_at": budget.created_at,
            "counted_from": counted_from,
            **_terms(budget),
        },
    )


_CHANGE = text(
    """
    UPDATE budgets SET limit_usd_cents = :limit_usd_cents, action = :action,
                       unknown_price_usd_cents = :unknown_price_usd_cents, version = :version,
                       counted_from = :counted_from, opened_at = :opened_at, ended_at = :ended_at
    WHERE customer_id = :customer_id AND budget_id = :budget_id
    """
)


def change_budget(
    connection: Connection,
    budget: Budget,
    *,
    counted_from: datetime,
    opened_at: datetime | None,
    ended_at: datetime | None,
) -> None:
    """Store the terms of a budget, and since when it counts, is enforced, or has ended."""
    connection.execute(
        _CHANGE,
        {
            "customer_id": budget.scope.customer_id,
            "budget_id": budget.budget_id,
            "counted_from": counted_from,
            "opened_at": opened_at,
            "ended_at": ended_at,
            **_terms(budget),
        },
    )


_ADD_VERSION = text(
    """
    INSERT INTO budget_versions (customer_id, budget_id, version, limit_usd_cents, action,
                                 unknown_price_usd_cents, is_ended, changed_at, changed_by)
    VALUES (:customer_id, :budget_id, :version, :limit_usd_cents, :action, :unknown_price_usd_cents, :is_ended,
            :changed_at, :changed_by)
    """
)


def add_version(connection: Connection, budget: Budget, *, is_ended: bool, by: str, now: datetime) -> None:
    """Keep the terms of a budget under their version."""
    connection.execute(
        _ADD_VERSION,
        {
            "customer_id": budget.scope.customer_id,
            "budget_id": budget.budget_id,
            "is_ended": is_ended,
            "changed_at": now,
            "changed_by": by,
            **_terms(budget),
        },
    )


def _terms(budget: Budget) -> dict[str, object]:
    return {
        "limit_usd_cents": budget.limit_usd_cents,
        "action": budget.action.value,
        "unknown_price_usd_cents": budget.unknown_price_usd_cents,
        "version": budget.version,
    }


# What a scope covers, of the entries `e` and manual adjustments `m`. Tags are those of the stream's start.
_COVERS = {
    ScopeKind.DEPLOYMENT: "true",
    ScopeKind.CUSTOMER: "e.customer_id = :customer_id",
    ScopeKind.API_KEY: "e.customer_id = :customer_id AND coalesce(e.api_key_id, m.api_key_id) = :api_key_id",
    ScopeKind.TAG: """e.customer_id = :customer_id AND EXISTS (
        SELECT FROM streams s WHERE s.customer_id = e.customer_id AND s.stream_id = e.stream_id
        AND s.start_data -> 'tags' ->> :tag_name = :tag_value)""",
}
# Days and months start at a quarter of an hour, so all entries of one are in one window.
_SUM_UNPOSTED = {
    kind: text(
        f"""
        SELECT CASE WHEN :has_end THEN date_bin('15 minutes', e.filed_at, 'epoch') ELSE :since END AS at,
               sum(e.usd_cents) AS usd_cents
        FROM entries e
        LEFT JOIN manual_adjustments m ON m.customer_id = e.customer_id AND m.adjustment_id = e.entry_id
        WHERE {covers} AND e.filed_at >= :since
          AND NOT EXISTS (SELECT FROM budget_postings p WHERE p.customer_id = e.customer_id
                          AND p.entry_id = e.entry_id AND p.budget_id = :budget_id)
        GROUP BY 1
        """
    )
    for kind, covers in _COVERS.items()
}


class Unposted(Struct, frozen=True, gc=False):
    """What was booked of a time and is not posted to a budget, in exact cents."""

    at: datetime
    usd_cents: Decimal


def sum_unposted(connection: Connection, budget: Budget, *, since: datetime) -> Sequence[Unposted]:
    """The sums of the entries that were booked before the budget was known, from the start of its first window on.

    Entries may be of later windows too, because the clocks of gateways may be ahead.
    """
    if budget.window is BudgetWindow.PREPAID:
        return []
    scope = budget.scope
    parameters = {
        "customer_id": scope.customer_id,
        "api_key_id": scope.api_key_id,
        "tag_name": scope.tag_name,
        "tag_value": scope.tag_value,
        "budget_id": budget.budget_id,
        "since": since,
        "has_end": budget.window is not BudgetWindow.TOTAL,
    }
    return [Unposted(row.at, row.usd_cents) for row in connection.execute(_SUM_UNPOSTED[scope.kind], parameters)]


_COVERED_HOLDS = {
    ScopeKind.DEPLOYMENT: "true",
    ScopeKind.CUSTOMER: "customer_id = :customer_id",
    ScopeKind.API_KEY: "customer_id = :customer_id AND request ->> 'api_key_id' = :api_key_id",
    ScopeKind.TAG: "customer_id = :customer_id AND request -> 'tags' ->> :tag_name = :tag_value",
}
_COUNT_HOLDS = {
    kind: text(
        f"""
        WITH counted AS (
            UPDATE holds SET budget_ids = array_append(array_remove(budget_ids, :budget_id), :budget_id)
            WHERE state = 'open' AND {covered}
            RETURNING held_usd_cents
        )
        SELECT coalesce(sum(held_usd_cents), 0) FROM counted
        """
    )
    for kind, covered in _COVERED_HOLDS.items()
}
# A budget that begins again has an opening already, whose entries are part of the new one.
_SET_OPENING = text(
    """
    UPDATE budget_windows SET opening_usd_cents = :usd_cents,
                              spent_usd_cents = spent_usd_cents - opening_usd_cents + :usd_cents
    WHERE customer_id = :customer_id AND budget_id = :budget_id AND starts_at = :starts_at
    """
)
_OPEN = text(
    """
    UPDATE budgets SET held_usd_cents = :held, opened_at = :now
    WHERE customer_id = :customer_id AND budget_id = :budget_id AND opened_at IS NULL
    RETURNING budget_id
    """
)


def open_budget(connection: Connection, budget: Budget, *, unposted: Sequence[Unposted], now: datetime) -> Budget:
    """Count the open holds that the budget covers, and what was spent before, and enforce the budget.

    Nothing is booked or held meanwhile. If another process has opened the budget, nothing changes.
    """
    scope = budget.scope
    of_budget = {"customer_id": scope.customer_id, "budget_id": budget.budget_id}
    parameters = {
        **of_budget,
        "api_key_id": scope.api_key_id,
        "tag_name": scope.tag_name,
        "tag_value": scope.tag_value,
    }
    if connection.execute(_OPEN, {**of_budget, "held": ZERO, "now": now}).first() is None:
        return structs.replace(budget, opened_at=now)
    held = connection.execute(_COUNT_HOLDS[scope.kind], parameters).scalar_one()
    connection.execute(_SET_HELD, {**of_budget, "held": held})
    windows = windows_at(connection, [(budget, each.at) for each in unposted]) if unposted else {}
    openings: dict[datetime, Decimal] = {}
    for each in unposted:
        starts_at = windows[budget.budget_id, each.at].span.starts_at
        openings[starts_at] = EXACT.add(openings.get(starts_at, ZERO), each.usd_cents)
    for starts_at, usd_cents in openings.items():
        connection.execute(_SET_OPENING, {**of_budget, "starts_at": starts_at, "usd_cents": usd_cents})
    return structs.replace(budget, opened_at=now, held_usd_cents=held)


_SET_HELD = text(
    "UPDATE budgets SET held_usd_cents = :held WHERE customer_id = :customer_id AND budget_id = :budget_id"
)
