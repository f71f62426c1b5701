"""Ten months of charges for `metering bench growth`: as they are when their streams have been archived."""

from datetime import timedelta

from metering.core.period import BillingPeriod
from metering.core.time_zones import UTC_ZONE
from metering.lab.bench.filling import charges_without_indexes, fill_totals
from metering.lab.bench.stage import Stage

# The traffic that the benchmark posts is of the month after the last one, which is left open.
PERIODS = tuple(BillingPeriod(2026, month) for month in range(1, 11))
LAST = PERIODS[-1]

_CUSTOMERS = """
INSERT INTO customers (customer_id, created_at)
SELECT 'cust_' || to_char(n, 'FM000000'), '2026-01-01 00:00Z' FROM generate_series(0, {customers} - 1) AS n
"""
# Customers of very different sizes, each with two models and one key. The ids are random, as those of gateways,
# and shorter: a hundred million charges are to fit a disk. For the same reason a charge has one line.
_CHARGES = """
WITH made AS (
    INSERT INTO charges (customer_id, stream_id, charge_id, booked_at, period, outcome, provider, model,
        response_model, api_key_id, started_at, ended_at, input_tokens, output_tokens, usage_source, input_unknown,
        cancel_policy, rate_card_id, rated_model, lines, usd_cents)
    SELECT customer_id, id, 'ch_' || id, at, '{period}', 'completed', 'openai', model, model,
        customer_id || '_key', at - interval '5 s', at, tokens, 0, 'provider', false, 'delivered',
        'rc_bench', model, format('[{{"kind":"input","quantity":%s,"usd_per_million":"2.5","usd_cents":"%s"}}]',
                                  tokens, tokens * 0.00025)::json, tokens * 0.00025
    FROM (
        SELECT n, left(hash, 16) AS id, 'model-' || (c + n % 2) % 5 AS model, 50 + n % 7950 AS tokens,
            timestamptz '{begin}' + (n - {before}) * interval '{step} us' AS at,
            'cust_' || to_char(c, 'FM000000') AS customer_id
        FROM (SELECT n, hash,
                     floor({customers} * power(('x' || right(hash, 7))::bit(28)::int / 268435456e0, 3))::int AS c
              FROM (SELECT n, md5(n::text) AS hash FROM generate_series({first}, {last}) AS n) AS numbered
        ) AS hashed
    ) AS drawn
    RETURNING customer_id, stream_id
)
INSERT INTO archived_streams (customer_id, stream_id, archive_id)
SELECT customer_id, stream_id, '{period}' FROM made
"""
_ARCHIVE = """
INSERT INTO archives (archive_id, manifest_sha256, received_from, received_before, request_count, event_count,
    stream_count, started_at, completed_at)
VALUES ('{period}', repeat('0', 64), '{begin}', '{end}', {charges} / 10, {charges} * 10, {charges}, '{end}',
    '{end}')
"""
_CHUNK = 500_000


def fill_history(stage: Stage, *, charges: int, customers: int) -> None:
    """Store a tenth of the charges in each month, in the order of their ends, and all sums of them."""
    stage.execute(_CUSTOMERS.format(customers=customers))
    in_month = charges // len(PERIODS)
    with charges_without_indexes(stage):
        stage.execute("ALTER TABLE archived_streams DROP CONSTRAINT archived_streams_pkey")
        for place, period in enumerate(PERIODS):
            _fill_month(stage, period, before=place * in_month, charges=in_month, customers=customers)
        stage.execute("ALTER TABLE archived_streams ADD PRIMARY KEY (customer_id, stream_id)")
    fill_totals(stage)
    stage.execute("VACUUM (ANALYZE)")
    stage.execute("CHECKPOINT")


def _fill_month(stage: Stage, period: BillingPeriod, *, before: int, charges: int, customers: int) -> None:
    begin, end = period.start(time_zone=UTC_ZONE), period.next.start(time_zone=UTC_ZONE)
    step = (end - begin) // timedelta(microseconds=1) // charges
    for first in range(before, before + charges, _CHUNK):
        last = min(first + _CHUNK, before + charges) - 1
        stage.execute(
            _CHARGES.format(
                period=period,
                begin=begin,
                before=before,
                step=step,
                customers=customers,
                first=first,
                last=last,
            )
        )
    stage.execute(_ARCHIVE.format(period=period, begin=begin, end=end, charges=charges))
