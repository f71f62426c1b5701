"""Invariants of grants: what is kept beside entries follows from them, and each draw pays for what is booked.

They share no code with drawing. Only grants that changed in the audited time are looked at.
"""

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import Connection

from metering.audit.difference import Check, Difference, rows_that_differ

_AUDITED = "g.created_at < :end AND g.changed_at >= :begin"
_KEY = "{0}.customer_id || '/' || {0}.grant_id"
# The entries of audited grants as `e`, each with what they came to so far, and the entry before.
_FOLDED = f"""
    SELECT e.*, g.amount_usd_cents, g.paid_usd_cents, g.effective_from, g.expires_at, g.only_providers,
           g.only_models, sum(e.usd_cents) OVER so_far AS balance,
           lag(e.booked_at) OVER so_far AS booked_before,
           bool_or(e.kind = 'voided') OVER before AS was_voided,
           row_number() OVER so_far AS place,
           -coalesce(sum(e.usd_cents) FILTER (WHERE e.kind IN ('drawn', 'restored')) OVER so_far, 0) AS drawn,
           coalesce(sum(e.released_cents) FILTER (WHERE e.kind IN ('drawn', 'restored')) OVER so_far, 0)
               AS recognised,
           sum(e.released_cents) OVER so_far AS released
    FROM grants g JOIN grant_entries e ON e.customer_id = g.customer_id AND e.grant_id = g.grant_id
    WHERE {_AUDITED}
    WINDOW so_far AS (PARTITION BY e.customer_id, e.grant_id ORDER BY e.entry_number),
           before AS (PARTITION BY e.customer_id, e.grant_id ORDER BY e.entry_number
                      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
"""
_ENTRY_KEY = f"{_KEY.format('f')} || ' ' || f.entry_number"


def check_grants(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """What a grant has left, has drawn and has released is the sum of its entries, and its state follows."""
    query = f"""
        SELECT {_KEY.format("g")} AS key,
               format('stored %s, %s left of %s, drawn %s, released %s (%s recognised), %s entries; its entries:'
                      ' %s left, drawn %s, released %s (%s recognised), %s entries', g.state, g.balance_usd_cents,
                      g.amount_usd_cents, g.drawn_usd_cents, g.released_cents, g.recognised_cents, g.entry_count,
                      f.balance, f.drawn, f.released, f.recognised, f.entries) AS says
        FROM grants g CROSS JOIN LATERAL (
            SELECT coalesce(sum(usd_cents), 0) AS balance, count(*) AS entries,
                   -coalesce(sum(usd_cents) FILTER (WHERE kind IN ('drawn', 'restored')), 0) AS drawn,
                   coalesce(sum(released_cents) FILTER (WHERE kind IN ('drawn', 'restored')), 0) AS recognised,
                   coalesce(sum(released_cents), 0) AS released, max(booked_at) AS changed_at,
                   min(period) FILTER (WHERE kind = 'granted') AS sold_period,
                   coalesce(sum(usd_cents) FILTER (WHERE kind = 'granted'), 0) AS granted,
                   bool_or(kind = 'voided') AS voided
            FROM grant_entries e WHERE e.customer_id = g.customer_id AND e.grant_id = g.grant_id) AS f
        WHERE {_AUDITED} AND (
            g.balance_usd_cents <> f.balance OR g.drawn_usd_cents <> f.drawn OR g.released_cents <> f.released
            OR g.recognised_cents <> f.recognised OR g.entry_count <> f.entries
            OR g.sold_period IS DISTINCT FROM f.sold_period OR g.changed_at < f.changed_at
            OR CASE g.state WHEN 'pending' THEN f.entries > 0
               WHEN 'active' THEN f.granted <> g.amount_usd_cents OR f.voided
               ELSE f.entries > 0 AND (f.granted <> g.amount_usd_cents OR NOT f.voided) END)
    """
    return rows_that_differ(connection, "grants", query, begin, end)


def check_grant_entries(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """Entries are numbered without a gap, in the order of their times, and each says what is left after it."""
    query = f"""
        SELECT {_ENTRY_KEY} AS key, format('number %s of %s, %s left, derived %s', f.entry_number, f.place,
                                           f.balance_usd_cents, f.balance) AS says
        FROM ({_FOLDED}) AS f
        WHERE f.entry_number <> f.place OR f.balance_usd_cents <> f.balance OR f.balance < 0
           OR f.booked_at < f.booked_before
    """
    return rows_that_differ(connection, "grant_entries", query, begin, end)


def check_draw_times(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """Nothing is drawn before a grant is effective, after it expired or after it was voided."""
    query = f"""
        SELECT {_ENTRY_KEY} AS key, format('%s at %s: the grant pays from %s to %s%s', f.kind, f.booked_at,
               f.effective_from, f.expires_at, CASE WHEN f.was_voided THEN ', and was voided' END) AS says
        FROM ({_FOLDED}) AS f
        WHERE f.kind = 'drawn' AND (f.booked_at < f.effective_from OR f.booked_at >= f.expires_at OR f.was_voided)
           OR f.kind = 'expired' AND (f.expires_at IS NULL OR f.booked_at < f.expires_at OR f.was_voided)
           OR f.was_voided AND f.balance > 0 AND f.kind <> 'restored'
    """
    return rows_that_differ(connection, "grant_entries", query, begin, end)


def check_grant_revenue(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """The price is released with what is used up: never more than it, and all of it when nothing is left."""
    query = f"""
        SELECT {_ENTRY_KEY} AS key, format('of a price of %s, released %s and recognised %s after %s of %s drawn',
               f.paid_usd_cents, f.released, f.recognised, f.drawn, f.amount_usd_cents) AS says
        FROM ({_FOLDED}) AS f
        WHERE f.recognised < 0 OR f.released < f.recognised OR f.released > f.paid_usd_cents
           OR (f.balance = 0 AND f.released <> f.paid_usd_cents)
           OR (f.balance > 0 AND abs(f.recognised * f.amount_usd_cents - f.paid_usd_cents * f.drawn)
                                 >= f.amount_usd_cents)
           OR (f.kind IN ('expired', 'voided', 'refunded') AND f.released_cents < 0)
           OR (f.kind = 'drawn' AND f.released_cents < 0) OR (f.kind = 'restored' AND f.released_cents > 0)
    """
    return rows_that_differ(connection, "grant_entries", query, begin, end)


# What is booked, by the tables themselves. An adjustment has the provider and model of its new bill.
_BOOKED = """
    SELECT customer_id, charge_id AS entry_id, stream_id, period, usd_cents, provider, model FROM charges
    UNION ALL
    SELECT customer_id, adjustment_id, stream_id, period, usd_cents, provider, model FROM adjustments
    UNION ALL
    SELECT customer_id, adjustment_id, stream_id, period, usd_cents, nullif(provider, ''), nullif(model, '')
    FROM manual_adjustments
"""


def check_draws(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """What grants paid for an entry is at most that entry, of its customer, stream and month."""
    query = f"""
        SELECT d.customer_id || '/' || d.entry_id AS key,
               CASE WHEN b.entry_id IS NULL THEN 'grants paid for an entry that is not booked'
               ELSE format('booked %s cents for %s in %s, grants paid %s for %s in %s', b.usd_cents, b.stream_id,
                           b.period, d.paid, d.stream_id, d.period) END AS says
        FROM (SELECT e.customer_id, e.entry_id, min(e.stream_id) AS stream_id, min(e.entry_period) AS period,
                     -sum(e.usd_cents) AS paid
              FROM grant_entries e JOIN grants g ON g.customer_id = e.customer_id AND g.grant_id = e.grant_id
              WHERE e.entry_id IS NOT NULL AND {_AUDITED} GROUP BY 1, 2) AS d
        LEFT JOIN ({_BOOKED}) AS b ON b.customer_id = d.customer_id AND b.entry_id = d.entry_id
        WHERE b.entry_id IS NULL OR b.stream_id IS DISTINCT FROM d.stream_id OR b.period <> d.period
           OR CASE WHEN b.usd_cents > 0 THEN d.paid NOT BETWEEN 0 AND b.usd_cents
                   ELSE d.paid NOT BETWEEN b.usd_cents AND 0 END
    """
    return rows_that_differ(connection, "grant_entries", query, begin, end)


def check_draws_of_streams(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """What grants paid for a stream in all is between 0 and what the stream costs."""
    query = f"""
        SELECT d.customer_id || '/' || d.stream_id AS key,
               format('booked %s cents, grants paid %s', coalesce(b.usd_cents, 0), d.paid) AS says
        FROM (SELECT e.customer_id, e.stream_id, -sum(e.usd_cents) AS paid FROM grant_entries e
              JOIN grants g ON g.customer_id = e.customer_id AND g.grant_id = e.grant_id
              WHERE e.stream_id IS NOT NULL AND {_AUDITED} GROUP BY 1, 2) AS d
        CROSS JOIN LATERAL (SELECT sum(usd_cents) AS usd_cents FROM ({_BOOKED}) AS of_stream
              WHERE of_stream.customer_id = d.customer_id AND of_stream.stream_id = d.stream_id) AS b
        WHERE d.paid NOT BETWEEN 0 AND greatest(coalesce(b.usd_cents, 0), 0)
    """
    return rows_that_differ(connection, "grant_entries", query, begin, end)


def check_draw_limits(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """A grant pays for the providers and models only that it is limited to."""
    query = f"""
        SELECT {_KEY.format("g")} || ' ' || e.entry_number AS key,
               format('paid for %s of %s', b.model, b.provider) AS says
        FROM grants g JOIN grant_entries e ON e.customer_id = g.customer_id AND e.grant_id = g.grant_id
        JOIN ({_BOOKED}) AS b ON b.customer_id = e.customer_id AND b.entry_id = e.entry_id
        WHERE {_AUDITED} AND e.kind = 'drawn' AND (g.only_providers IS NOT NULL OR g.only_models IS NOT NULL)
          AND (NOT coalesce(b.provider = ANY(g.only_providers), g.only_providers IS NULL)
               OR NOT coalesce(b.model = ANY(g.only_models), g.only_models IS NULL))
    """
    return rows_that_differ(connection, "grant_entries", query, begin, end)


_MOVED = """
    SELECT e.customer_id, e.grant_id, e.period,
           coalesce(sum(e.usd_cents) FILTER (WHERE e.kind = 'granted'), 0) AS granted_usd_cents,
           -coalesce(sum(e.usd_cents) FILTER (WHERE e.kind IN ('drawn', 'restored')), 0) AS drawn_usd_cents,
           -coalesce(sum(e.usd_cents) FILTER (WHERE e.kind IN ('expired', 'voided', 'refunded')), 0)
               AS ended_usd_cents,
           coalesce(sum(g.paid_usd_cents) FILTER (WHERE e.kind = 'granted'), 0) AS sold_cents,
           coalesce(sum(e.released_cents) FILTER (WHERE e.kind IN ('drawn', 'restored')), 0) AS recognised_cents,
           coalesce(sum(e.released_cents) FILTER (WHERE e.kind = 'expired'), 0) AS breakage_cents,
           coalesce(sum(e.released_cents) FILTER (WHERE e.kind IN ('voided', 'refunded')), 0) AS refunded_cents
    FROM grants g JOIN grant_entries e ON e.customer_id = g.customer_id AND e.grant_id = g.grant_id
    WHERE {audited} GROUP BY 1, 2, 3
"""
_MONTH = (
    "granted_usd_cents",
    "drawn_usd_cents",
    "ended_usd_cents",
    "sold_cents",
    "recognised_cents",
    "breakage_cents",
    "refunded_cents",
)


def check_grant_months(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """The sums of a grant by month, and so deferred revenue, are those of its entries."""
    columns = {alias: ", ".join(f"{alias}.{name}" for name in _MONTH) for alias in ("s", "d")}
    query = f"""
        SELECT customer_id || '/' || grant_id || ' ' || period AS key,
               format('stored %s, derived %s', ({columns["s"]}), ({columns["d"]})) AS says
        FROM (SELECT m.* FROM grant_months m
              JOIN grants g ON g.customer_id = m.customer_id AND g.grant_id = m.grant_id WHERE {_AUDITED}) AS s
        FULL JOIN ({_MOVED.format(audited=_AUDITED)}) AS d USING (customer_id, grant_id, period)
        WHERE ({columns["s"]}) IS DISTINCT FROM ({columns["d"]})
    """
    return rows_that_differ(connection, "grant_months", query, begin, end)


def check_prepaid_months(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """What grants paid of a month's invoice is what their entries say."""
    query = """
        SELECT customer_id || ' ' || period AS key,
               format('stored %s, derived %s', s.drawn_usd_cents, d.drawn) AS says
        FROM prepaid_months s FULL JOIN (
            SELECT customer_id, entry_period AS period, -sum(usd_cents) AS drawn FROM grant_entries
            WHERE entry_period IS NOT NULL GROUP BY 1, 2) AS d USING (customer_id, period)
        WHERE s.drawn_usd_cents IS DISTINCT FROM d.drawn
    """
    return rows_that_differ(connection, "prepaid_months", query, begin, end)


def check_grants_logged(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """A grant has the amount, the price and the times with which the audit log says that it was made."""
    query = f"""
        SELECT {_KEY.format("g")} AS key, 'the audit log says ' || coalesce(l.after::text, 'nothing') AS says
        FROM grants g LEFT JOIN audit_log l ON l.kind = 'grant' AND l.action = 'create' AND l.subject = g.grant_id
        WHERE {_AUDITED} AND g.created_by <> 'top-up' AND (
            l.subject IS NULL OR (l.after ->> 'customer_id') IS DISTINCT FROM g.customer_id
            OR (l.after ->> 'amount_usd_cents')::numeric IS DISTINCT FROM g.amount_usd_cents
            OR (l.after ->> 'paid_usd_cents')::numeric IS DISTINCT FROM g.paid_usd_cents
            OR (l.after ->> 'effective_from')::timestamptz IS DISTINCT FROM g.effective_from
            OR (l.after ->> 'expires_at')::timestamptz IS DISTINCT FROM g.expires_at
            OR (l.after ->> 'priority')::integer IS DISTINCT FROM g.priority)
    """
    return rows_that_differ(connection, "grants", query, begin, end)


GRANT_CHECKS: tuple[Check, ...] = (
    check_grants,
    check_grant_entries,
    check_draw_times,
    check_grant_revenue,
    check_draws,
    check_draws_of_streams,
    check_draw_limits,
    check_grant_months,
    check_prepaid_months,
    check_grants_logged,
)
