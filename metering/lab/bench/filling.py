"""Fills a database with millions of rows, as months of use would, in seconds to minutes."""

from collections.abc import Iterator
from contextlib import contextmanager

from metering.lab.bench.stage import Stage
from metering.ledger.rollups import DETAILED, QUARTERED, QUARTERLY_BY_MODEL, ROLLUPS, SPARSE_SUMS, SUMS

# Finalized streams as ingest and finalizer leave them; their ids are random hex, like UUIDs.
_STREAMS = """
INSERT INTO streams (customer_id, stream_id, started_at, start_fingerprint, start_data, delivered_seq,
    delivered_output_tokens, last_event_at, end_rank, ended_at, end_fingerprint, end_data, first_received_at,
    last_received_at, state, revision)
SELECT 'cust_' || to_char(floor(2000 * power(random(), 3)), 'FM000000'), md5(n::text), at, n,
    json_build_object('provider', 'openai', 'model', 'gpt-5.2', 'streaming', true, 'operation', 'chat',
        'input_tokens', n % 8000, 'max_output_tokens', 4096, 'api_key_id', 'key_' || n % 500,
        'request_hash', md5(n::text), 'tags', json_build_object('team', 'search')),
    19, 323, at + interval '5 s', 0, at + interval '5 s', n,
    json_build_object('outcome', 'completed', 'usage_source', 'provider',
        'finish_reasons', json_build_array('stop'), 'response_model', 'gpt-5.2',
        'response_id', 'resp_' || left(md5(n::text), 24),
        'usage', json_build_object('input_tokens', n % 8000, 'output_tokens', 323)),
    at, at + interval '5 s', 'finalized', 0
FROM (SELECT n, now() - interval '30 days' + n * interval '0.2 s' AS at
      FROM generate_series({first}, {last}) AS n) AS numbered
"""
_CHUNK = 500_000


def fill_streams(stage: Stage, streams: int) -> None:
    """Store finalized streams, then vacuum and checkpoint."""
    stage.execute("ALTER TABLE streams DROP CONSTRAINT streams_pkey")
    for first in range(1, streams + 1, _CHUNK):
        stage.execute(_STREAMS.format(first=first, last=min(first + _CHUNK - 1, streams)))
    stage.execute("ALTER TABLE streams ADD PRIMARY KEY (customer_id, stream_id)")
    stage.execute("VACUUM (ANALYZE) streams")
    stage.execute("CHECKPOINT")


# Charges of October 2026: 2,000 customers of very different sizes, each with a few models and keys.
_CHARGES = """
INSERT INTO charges (customer_id, stream_id, charge_id, booked_at, period, outcome, provider, model,
    response_model, api_key_id, started_at, ended_at, input_tokens, output_tokens, cache_read_input_tokens,
    usage_source, input_unknown, cancel_policy, rate_card_id, rated_model, lines, usd_cents)
SELECT 'cust_' || to_char(c, 'FM000000'), 's' || n, 'ch_' || n, at, '2026-10',
    (ARRAY['completed', 'completed', 'completed', 'completed', 'completed', 'completed', 'completed', 'cancelled',
           'cancelled', 'failed'])[1 + n % 10],
    (ARRAY['openai', 'anthropic', 'google'])[1 + m % 3], 'model-' || m, 'model-' || m,
    'key_' || c || '_' || n % 2, at - interval '5 s', at, n % 8000, n % 900, n % 500,
    (ARRAY['provider', 'provider', 'provider', 'gateway_count', 'estimate'])[1 + n % 5], false, 'delivered',
    'rc_bench', 'model-' || m, '[]', (n % 9000) * 0.000125 + (n % 900) * 0.001
FROM (SELECT n, c, (c * 7 + floor(3 * random())::int) % 20 AS m,
             timestamptz '2026-10-01 00:00Z' + random() * interval '31 days' AS at
      FROM (SELECT n, floor(2000 * power(random(), 3))::int AS c
            FROM generate_series({first}, {last}) AS n) AS numbered) AS drawn
"""
_SUMMED = "count(*), " + ", ".join(
    f"sum({name})" if name in SPARSE_SUMS else f"sum(coalesce({name}, 0))" for name in SUMS[1:]
)
_DROP_INDEXES = (
    "ALTER TABLE charges DROP CONSTRAINT charges_pkey CASCADE",
    "DROP INDEX charges_by_end",
    "DROP INDEX charges_by_period",
)
_BUILD_INDEXES = (
    "ALTER TABLE charges ADD PRIMARY KEY (customer_id, stream_id)",
    "CREATE INDEX charges_by_end ON charges (ended_at, customer_id, stream_id)",
    "CREATE INDEX charges_by_period ON charges (customer_id, period)",
)


@contextmanager
def charges_without_indexes(stage: Stage) -> Iterator[None]:
    """Build the indexes of charges after the block, which is several times faster."""
    for statement in _DROP_INDEXES:
        stage.execute(statement)
    yield
    for statement in _BUILD_INDEXES:
        stage.execute(statement)


def fill_charges(stage: Stage, charges: int) -> None:
    """Store charges and their totals."""
    with charges_without_indexes(stage):
        for first in range(1, charges + 1, _CHUNK):
            stage.execute(_CHARGES.format(first=first, last=min(first + _CHUNK - 1, charges)))
    fill_totals(stage)
    stage.execute(
        "INSERT INTO customers (customer_id, created_at)"
        " SELECT DISTINCT customer_id, now() FROM totals_monthly_by_customer"
    )
    stage.execute("VACUUM (ANALYZE)")
    stage.execute("CHECKPOINT")


def fill_totals(stage: Stage) -> None:
    """Fill all sums from the stored charges, which must be without retries and adjustments."""
    hourly = ", ".join(DETAILED.key).replace("hour", "date_trunc('hour', ended_at)").replace("retry", "'false'")
    places = ", ".join(str(place + 1) for place in range(len(DETAILED.key)))
    stage.execute(
        f"INSERT INTO totals_hourly ({', '.join((*DETAILED.key, *SUMS))}) SELECT {hourly}, {_SUMMED} FROM charges"
        f" GROUP BY {places}"
    )
    fill_rollups(stage)
    quarters = ", ".join(QUARTERLY_BY_MODEL.key).replace("quarter", "date_bin('15 minutes', ended_at, 'epoch')")
    places = ", ".join(str(place + 1) for place in range(len(QUARTERLY_BY_MODEL.key)))
    stage.execute(
        f"INSERT INTO {QUARTERLY_BY_MODEL.table} ({', '.join((*QUARTERLY_BY_MODEL.key, *SUMS))})"
        f" SELECT {quarters}, {_SUMMED} FROM charges GROUP BY {places}"
    )
    stage.execute("INSERT INTO totals_rolled_up (is_last, rolled_up_at, keyed_at) VALUES (true, now(), now())")


def fill_rollups(stage: Stage) -> None:
    """Fill the less detailed, daily and monthly sums from `totals_hourly`; those of quarters come from charges."""
    sums = ", ".join(f"sum({name})" for name in SUMS)
    for rollup in ROLLUPS:
        if rollup is DETAILED:
            continue
        start = f"date_trunc('{rollup.bucket}', hour)"
        if rollup is QUARTERED:
            start += " + interval '1 microsecond'"
        key = ", ".join(rollup.key).replace(rollup.bucket, start)
        places = ", ".join(str(place + 1) for place in range(len(rollup.key)))
        stage.execute(
            f"INSERT INTO {rollup.table} ({', '.join((*rollup.key, *SUMS))})"
            f" SELECT {key}, {sums} FROM totals_hourly GROUP BY {places}"
        )


def fill_open_streams(stage: Stage, streams: int) -> None:
    """Store streams that have started and delivered tokens, and have not ended."""
    stage.execute(_STREAMS.format(first=1, last=streams).replace("'finalized', 0", "'open', NULL"))
    stage.execute(
        "UPDATE streams SET end_rank = NULL, ended_at = NULL, end_fingerprint = NULL, end_data = NULL,"
        " last_event_at = now() WHERE state = 'open'"
    )
    stage.execute("VACUUM (ANALYZE) streams")
