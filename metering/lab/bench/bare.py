"""Floors of the headline speeds: the least that PostgreSQL or a server has to do for the same result."""

from time import perf_counter

import psycopg

from metering.events.wire.bodies import unpack_body
from metering.events.wire.decode import decode_json
from metering.lab.bench.stage import Stage
from metering.lab.bench.totals import p99_ms

# What a row of the export of charges is made of, in its order.
_CHARGES = """
COPY (SELECT c.*, CAST(s.start_data -> 'tags' AS text) AS tags, u.name
      FROM charges c JOIN customers u ON u.customer_id = c.customer_id
      LEFT JOIN streams s ON s.customer_id = c.customer_id AND s.stream_id = c.stream_id
      ORDER BY c.customer_id, c.ended_at, c.stream_id) TO STDOUT (FORMAT csv)
"""
_JOURNAL = "SELECT event_count, body FROM journal"
# As large as those that an evaluation writes.
_OCCURRENCES = """
INSERT INTO alert_occurrences (customer_id, alert_id, version, alert_window, threshold, occurrence_id, message_id,
    kind, occurred_at, window_has_end, data)
SELECT customer_id, alert_id, version, alert_window, threshold, occurrence_id, message_id, kind, occurred_at,
    window_has_end, data FROM kept_occurrences
"""
_DELIVERIES = "INSERT INTO webhook_deliveries SELECT * FROM kept_deliveries"
_FIRST_DAY = """
SELECT customer_id, model, sum(stream_count), sum(usd_cents) FROM totals_daily
WHERE day >= '2026-10-01 00:00Z' AND day < '2026-10-02 00:00Z'
GROUP BY customer_id, model ORDER BY customer_id, model LIMIT 100
"""


def bare_copy_per_second(running: Stage) -> float:
    """Charges per second of a COPY of the rows that the export of charges reads."""
    rows = running.one("SELECT count(*) FROM charges")
    with psycopg.connect(running.database_url) as connection, connection.cursor() as cursor:
        began = perf_counter()
        with cursor.copy(_CHARGES.encode()) as copy:
            for _ in copy:
                pass
        return rows / (perf_counter() - began)


def decoded_per_second(running: Stage) -> float:
    """Events per second that one core reads from the journal and decodes, without folding or comparing them."""
    events = 0
    with psycopg.connect(running.database_url) as connection, connection.cursor("journal") as cursor:
        began = perf_counter()
        for count, body in cursor.execute(_JOURNAL):
            decode_json(unpack_body(body))
            events += count
        return events / (perf_counter() - began)


def bare_occurrences_per_second(running: Stage) -> float:
    """Occurrences per second of one INSERT for the occurrences that are stored, and one for their deliveries."""
    running.execute("CREATE TABLE kept_occurrences AS TABLE alert_occurrences")
    running.execute("CREATE TABLE kept_deliveries AS TABLE webhook_deliveries")
    running.execute("TRUNCATE alert_occurrences, webhook_deliveries CASCADE")
    running.execute("CHECKPOINT")
    with psycopg.connect(running.database_url, autocommit=True) as connection:
        began = perf_counter()
        with connection.transaction():
            stored = connection.execute(_OCCURRENCES.encode()).rowcount
            connection.execute(_DELIVERIES.encode())
        return stored / (perf_counter() - began)


def bare_first_day_ms(running: Stage, *, times: int) -> float:
    """The p99 of the query for the first 100 sums of a day by customer and model, in milliseconds."""
    with psycopg.connect(running.database_url, autocommit=True) as connection:
        return p99_ms(lambda: len(connection.execute(_FIRST_DAY.encode()).fetchall()), times=times)
