"""The history of money in a database: the rows that each transaction changed, in the order of the commits.

Triggers of the lab append to a table of their own. A transaction that changes a customer's money holds a lock
until its commit, so the numbers that the triggers draw are in the order of the commits where it matters: within a
customer, and within a budget. Where the product forgot a lock, the order is still that of the changed rows.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from itertools import groupby
from typing import Any

import psycopg
from psycopg import sql

Row = Mapping[str, Any]

_ENTRY = ("customer_id", "stream_id", "usd_cents", "booked_at")
_BILL = (*_ENTRY, "ended_at", "provider", "model", "api_key_id")
_HOLD = (
    *("customer_id", "stream_id", "held_usd_cents", "covers_output_tokens", "state", "is_stopped"),
    *("made_at", "expires_at", "closed_at", "settled_usd_cents"),
)
_BUDGET = (
    *(
        "customer_id",
        "budget_id",
        "scope",
        "api_key_id",
        "tag_name",
        "tag_value",
        "budget_window",
        "limit_usd_cents",
    ),
    *("action", "counted_from", "opened_at", "ended_at", "held_usd_cents"),
)
_WINDOW = ("budget_id", "starts_at", "ends_at", "spent_usd_cents")
_GRANT = (
    *("customer_id", "grant_id", "amount_usd_cents", "priority", "effective_from", "expires_at"),
    *("only_providers", "only_models", "created_at"),
)
_GRANT_ENTRY = ("customer_id", "grant_id", "kind", "usd_cents", "balance_usd_cents", "booked_at", "entry_id")
# The changes that are recorded: (table, operation, columns).
_RECORDED: Sequence[tuple[str, str, Sequence[str]]] = (
    ("charges", "INSERT", ("charge_id", *_BILL)),
    ("adjustments", "INSERT", ("adjustment_id", "reason", *_BILL)),
    ("manual_adjustments", "INSERT", ("adjustment_id", "filed_at", *_ENTRY)),
    ("holds", "INSERT", (*_HOLD, "request")),
    ("holds", "UPDATE", _HOLD),
    ("holds", "DELETE", ("customer_id", "stream_id")),
    ("budgets", "INSERT", _BUDGET),
    ("budgets", "UPDATE", _BUDGET),
    ("budget_windows", "INSERT", _WINDOW),
    ("budget_windows", "UPDATE", _WINDOW),
    ("budget_postings", "INSERT", ("customer_id", "entry_id", "budget_id", "window_starts_at", "usd_cents")),
    ("overruns", "INSERT", ("customer_id", "entry_id", "reason", "usd_cents", "held_usd_cents")),
    ("grants", "INSERT", _GRANT),
    ("grant_entries", "INSERT", _GRANT_ENTRY),
)
_ENTRIES = ("charges", "adjustments", "manual_adjustments")
_TABLE = """
CREATE SCHEMA money_history;
CREATE TABLE money_history.changes (
    number    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid       xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    relation  text NOT NULL,
    operation text NOT NULL,
    columns   jsonb NOT NULL
);
-- The service's login may not write here: the function does, as its owner.
CREATE FUNCTION money_history.record() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO money_history.changes (relation, operation, columns)
    SELECT TG_TABLE_NAME, TG_OP,
           (SELECT jsonb_object_agg(key, value) FROM jsonb_each(to_jsonb(r)) WHERE key = ANY (TG_ARGV))
    FROM changed AS r;
    RETURN NULL;
END $$;
-- Entries are written before the locks are taken: a transaction that books has a last number, of its commit.
CREATE FUNCTION money_history.record_commit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    IF current_setting('money_history.committing', true) IS DISTINCT FROM pg_current_xact_id()::text THEN
        PERFORM set_config('money_history.committing', pg_current_xact_id()::text, true);
        INSERT INTO money_history.changes (relation, operation, columns) VALUES ('none', 'COMMIT', '{}');
    END IF;
    RETURN NULL;
END $$;
"""
_COMMIT = """
CREATE CONSTRAINT TRIGGER record_commit AFTER INSERT ON {table} DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION money_history.record_commit()
"""
_TRIGGER = """
CREATE TRIGGER {name} AFTER {operation} ON {table} REFERENCING {seen} TABLE AS changed
FOR EACH STATEMENT EXECUTE FUNCTION money_history.record({columns})
"""
_CHANGES = """
SELECT xid::text, at, relation, operation, columns::text FROM money_history.changes
ORDER BY max(number) OVER (PARTITION BY xid), number
"""


@dataclass(frozen=True, slots=True)
class Transaction:
    """What one transaction changed, from the time `at` on: the rows by (table, operation), in their order."""

    at: datetime
    rows: Mapping[tuple[str, str], Sequence[Row]] = field(default_factory=dict)

    def inserted(self, table: str) -> Sequence[Row]:
        """The rows that were added to a table."""
        return self.rows.get((table, "INSERT"), ())

    def updated(self, table: str) -> Sequence[Row]:
        """The rows of a table as they were after each change."""
        return self.rows.get((table, "UPDATE"), ())

    def deleted(self, table: str) -> Sequence[Row]:
        """The rows that were removed from a table."""
        return self.rows.get((table, "DELETE"), ())


def record_history(connection: psycopg.Connection) -> None:
    """Record from now on, as the owner of the database."""
    connection.execute(_TABLE)
    for table, operation, columns in _RECORDED:
        connection.execute(
            sql.SQL(_TRIGGER).format(
                name=sql.Identifier(f"record_{operation.lower()}"),
                operation=sql.SQL(operation),
                table=sql.Identifier(table),
                seen=sql.SQL("OLD" if operation == "DELETE" else "NEW"),
                columns=sql.SQL(", ").join(map(sql.Literal, columns)),
            )
        )

    for table in _ENTRIES:
        connection.execute(sql.SQL(_COMMIT).format(table=sql.Identifier(table)))


def read_history(connection: psycopg.Connection) -> Iterator[Transaction]:
    """All transactions that changed money, in the order of their last changes."""
    with connection.cursor("money_history") as cursor:
        cursor.itersize = 20_000
        cursor.execute(_CHANGES)
        for _, changes in groupby(cursor, key=lambda each: each[0]):
            rows: dict[tuple[str, str], list[Row]] = {}
            began: datetime | None = None
            for _, at, relation, operation, columns in changes:
                began = began or at
                rows.setdefault((relation, operation), []).append(json.loads(columns, parse_float=Fraction))
            assert began is not None  # groupby yields no empty group
            yield Transaction(began, rows)


def time_of(text: str) -> datetime:
    """A time as the history has it."""
    return datetime.fromisoformat(text)


def optional_time(text: str | None) -> datetime | None:
    """The same for a time that may be missing."""
    return None if text is None else datetime.fromisoformat(text)
