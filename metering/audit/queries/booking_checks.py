"""Invariants of charges, adjustments and prices. Each check finds the rows that break one, mostly with one query.

The checks of money share no code with rating: they find a fault in rating that `bookings.py` repeats.
"""

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import Connection

from metering.audit.difference import Check, Difference, rows_that_differ
from metering.events.usage import COUNTERS

# For each line, quantity x USD per million / 10,000 = cents; for time, seconds x USD per hour / 36 = cents, within
# half of the last of 12 places. The cents of the lines sum to the amount.
_LINES = """
LATERAL (
    SELECT coalesce(sum((line ->> 'usd_cents')::numeric), 0) AS usd_cents,
           coalesce(bool_and((line ->> 'quantity')::numeric > 0 AND CASE WHEN line ->> 'usd_per_hour' IS NULL
               THEN (line ->> 'usd_per_million')::numeric >= 0
                AND (line ->> 'quantity')::numeric * (line ->> 'usd_per_million')::numeric
                    = (line ->> 'usd_cents')::numeric * 10000
               ELSE (line ->> 'usd_per_hour')::numeric >= 0
                AND abs((line ->> 'quantity')::numeric * (line ->> 'usd_per_hour')::numeric
                        - (line ->> 'usd_cents')::numeric * 36) <= 18e-12
           END), true) AS each_right
    FROM json_array_elements({lines}) AS line
) AS summed
"""


def check_charge_amounts(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """Each line of a charge is its quantity times its rate, and the lines sum to the charge."""
    query = f"""
        SELECT c.customer_id || '/' || c.stream_id AS key,
               CASE WHEN each_right THEN format('usd_cents: stored %s, the lines sum to %s', c.usd_cents,
                   summed.usd_cents) ELSE 'lines: a line is not its quantity times its rate' END AS says
        FROM charges c, {_LINES.format(lines="c.lines")}
        WHERE c.ended_at >= :begin AND c.ended_at < :end AND (summed.usd_cents <> c.usd_cents OR NOT each_right)
    """
    return rows_that_differ(connection, "charges", query, begin, end)


def check_adjustment_amounts(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """After each adjustment, the bookings so far sum to the lines of the newest bill."""
    query = f"""
        SELECT customer_id || '/' || stream_id || ' revision ' || revision AS key,
               format('usd_cents: the bookings so far sum to %s, the lines to %s', booked, billed) AS says
        FROM (
            SELECT a.customer_id, a.stream_id, a.revision, summed.usd_cents AS billed,
                   each_right AND a.bill_usd_cents = summed.usd_cents AS each_right,
                   c.usd_cents + sum(a.usd_cents) OVER (PARTITION BY a.customer_id, a.stream_id
                                                        ORDER BY a.revision) AS booked
            FROM adjustments a JOIN charges c USING (customer_id, stream_id),
                 {_LINES.format(lines="a.lines")}
            WHERE c.ended_at >= :begin AND c.ended_at < :end
        ) AS chain
        WHERE booked <> billed OR NOT each_right
    """
    return rows_that_differ(connection, "adjustments", query, begin, end)


def check_copies_of_charges(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """The columns that an adjustment copies from its charge equal those of the charge."""
    query = """
        SELECT a.customer_id || '/' || a.stream_id || ' revision ' || a.revision AS key,
               'a column copied from the charge differs from the charge' AS says
        FROM adjustments a JOIN charges c USING (customer_id, stream_id)
        WHERE c.ended_at >= :begin AND c.ended_at < :end
          AND (a.charge_id, a.charged_at, a.charged_period, a.charged_ended_at, a.charged_provider,
               a.charged_model, a.charged_usd_cents)
              IS DISTINCT FROM (c.charge_id, c.booked_at, c.period, c.ended_at, c.provider, c.model, c.usd_cents)
    """
    return rows_that_differ(connection, "adjustments", query, begin, end)


def check_usage(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """No charge has a negative amount or counter."""
    query = f"""
        SELECT customer_id || '/' || stream_id AS key, 'a counter or the amount is negative' AS says FROM charges
        WHERE ended_at >= :begin AND ended_at < :end AND LEAST(usd_cents, {", ".join(COUNTERS)}) < 0
    """
    return rows_that_differ(connection, "charges", query, begin, end)


def check_charges_have_streams(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """Every charge has a stored or an archived stream."""
    query = """
        SELECT c.customer_id || '/' || c.stream_id AS key, 'the stream is neither stored nor archived' AS says
        FROM charges c WHERE c.ended_at >= :begin AND c.ended_at < :end AND NOT EXISTS (
            SELECT FROM streams s WHERE s.customer_id = c.customer_id AND s.stream_id = c.stream_id)
          AND NOT EXISTS (
            SELECT FROM archived_streams a WHERE a.customer_id = c.customer_id AND a.stream_id = c.stream_id)
    """
    return rows_that_differ(connection, "charges", query, begin, end)


def check_archived_streams(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """Every archived stream has its charge, is in an archive, and each archive has as many as were moved to it."""
    query = """
        SELECT a.customer_id || '/' || a.stream_id AS key,
               'the stream is archived, and no charge is booked' AS says
        FROM archived_streams a LEFT JOIN charges c ON c.customer_id = a.customer_id AND c.stream_id = a.stream_id
        WHERE c.charge_id IS NULL
    """
    yield from rows_that_differ(connection, "archived_streams", query, begin, end)
    query = """
        WITH moved AS MATERIALIZED (
            SELECT archive_id, count(*) AS streams FROM archived_streams GROUP BY archive_id
        )
        SELECT coalesce(a.archive_id, m.archive_id) AS key,
               format('stream_count: stored %s, derived %s', a.stream_count, coalesce(m.streams, 0)) AS says
        FROM moved m FULL JOIN archives a ON a.archive_id = m.archive_id
        WHERE a.stream_count IS DISTINCT FROM coalesce(m.streams, 0)
    """
    yield from rows_that_differ(connection, "archives", query, begin, end)


def check_retries(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """A retry repeats the request of a stream of the same customer that ended early before the retry began.

    Later facts of the first stream can move its end, or take its early end or its request back. Its retries are
    looked for again then, and adjusted: so only charges that were not adjusted, and need not be, are checked.
    """
    query = """
        SELECT c.customer_id || '/' || c.stream_id AS key,
               format('retry_of: %s did not end early before it, or has another request', c.retry_of) AS says
        FROM charges c JOIN streams s ON s.customer_id = c.customer_id AND s.stream_id = c.stream_id
        WHERE c.retry_of IS NOT NULL AND c.ended_at >= :begin AND c.ended_at < :end
          AND s.revision = 0 AND s.due_at IS NULL AND NOT EXISTS (
            SELECT FROM interrupted_streams i
            WHERE i.customer_id = c.customer_id AND i.stream_id = c.retry_of
              AND (NOT i.linked OR i.request_key = c.request_key
                                   AND (i.ended_at <= c.started_at OR NOT i.interrupted)))
    """
    return rows_that_differ(connection, "charges", query, begin, end)


def check_cancel_policies(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """A provider's policies have the versions 1, 2, 3, ... in the order in which they were set."""
    query = """
        SELECT provider || ' version ' || version AS key,
               format('version: stored %s, derived %s', version, place) AS says
        FROM (SELECT provider, version,
                     row_number() OVER (PARTITION BY provider ORDER BY created_at, version) AS place
              FROM cancel_policies) AS counted
        WHERE version <> place
    """
    return rows_that_differ(connection, "cancel_policies", query, begin, end)


BOOKING_CHECKS: tuple[Check, ...] = (
    check_charge_amounts,
    check_adjustment_amounts,
    check_copies_of_charges,
    check_usage,
    check_charges_have_streams,
    check_archived_streams,
    check_retries,
    check_cancel_policies,
)
