"""The ledger: charges, adjustments, manual adjustments, the views over them, and their rolled up sums."""

from alembic import op

revision = "0006_ledger"
down_revision = "0005_streams"
branch_labels = None
depends_on = None

FINITE = "NOT IN ('NaN', 'Infinity', '-Infinity')"
MONTH = "~ '^[0-9]{4}-(0[1-9]|1[0-2])$'"
COUNTERS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_write_input_tokens",
    "reasoning_output_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
)
COUNTED = ",\n    ".join(f"{name:<24} bigint CHECK ({name} >= 0)" for name in COUNTERS)
OUTCOMES = "('completed', 'cancelled', 'failed', 'timed_out', 'abandoned')"
USAGE_SOURCES = "('provider', 'gateway_count', 'estimate')"

CHARGES = f"""
-- The first bill of a stream. No foreign key to rate_cards: at 15,000 charges a second every worker would lock the
-- same few cards.
CREATE TABLE charges (
    customer_id              text NOT NULL,
    stream_id                text NOT NULL,
    charge_id                text NOT NULL,
    booked_at                timestamptz NOT NULL,
    period                   text NOT NULL CHECK (period {MONTH}),
    outcome                  text NOT NULL CHECK (outcome IN {OUTCOMES}),
    provider                 text NOT NULL,
    model                    text NOT NULL,
    response_model           text,
    api_key_id               text,
    started_at               timestamptz NOT NULL,
    ended_at                 timestamptz NOT NULL,
    {COUNTED},
    usage_source             text NOT NULL CHECK (usage_source IN {USAGE_SOURCES}),
    input_unknown            boolean NOT NULL,
    cancel_policy            text NOT NULL,
    rate_card_id             text,
    rated_model              text,
    lines                    json NOT NULL,
    usd_cents                numeric NOT NULL CHECK (usd_cents >= 0 AND usd_cents {FINITE}),
    service_tier             text,
    cancel_policy_version    integer NOT NULL DEFAULT 0,
    model_rule               text,
    markup_percent           numeric NOT NULL DEFAULT 0 CHECK (markup_percent {FINITE}),
    retry_of                 text,
    request_key              bigint,
    resolution               text,
    PRIMARY KEY (customer_id, stream_id),
    CHECK (rate_card_id IS NOT NULL OR usd_cents = 0)
);
CREATE INDEX charges_by_end ON charges (ended_at, customer_id, stream_id);
CREATE INDEX charges_by_period ON charges (customer_id, period);
CREATE INDEX charges_by_request ON charges (request_key, started_at) WHERE request_key IS NOT NULL;
"""

ADJUSTMENTS = f"""
-- A later bill of a stream. `usd_cents` is the difference to the bill before, `bill_usd_cents` the new bill. With
-- `taken_back` nothing may be billed for now, and the other columns repeat the charge. The `charged_...` columns repeat what
-- invoice lines and reports need of the charge, which never changes.
CREATE TABLE adjustments (
    customer_id              text NOT NULL,
    adjustment_id            text NOT NULL,
    stream_id                text NOT NULL,
    charge_id                text NOT NULL,
    revision                 integer NOT NULL CHECK (revision > 0),
    booked_at                timestamptz NOT NULL,
    period                   text NOT NULL CHECK (period {MONTH}),
    reason                   text NOT NULL,
    usd_cents                numeric NOT NULL CHECK (usd_cents {FINITE}),
    charged_at               timestamptz NOT NULL,
    charged_period           text NOT NULL,
    charged_ended_at         timestamptz NOT NULL,
    charged_provider         text NOT NULL,
    charged_model            text NOT NULL,
    charged_usd_cents        numeric NOT NULL,
    taken_back               boolean NOT NULL,
    outcome                  text NOT NULL CHECK (outcome IN {OUTCOMES}),
    provider                 text NOT NULL,
    model                    text NOT NULL,
    response_model           text,
    api_key_id               text,
    started_at               timestamptz NOT NULL,
    ended_at                 timestamptz NOT NULL,
    {COUNTED},
    usage_source             text NOT NULL CHECK (usage_source IN {USAGE_SOURCES}),
    input_unknown            boolean NOT NULL,
    cancel_policy            text NOT NULL,
    rate_card_id             text,
    rated_model              text,
    lines                    json NOT NULL,
    bill_usd_cents           numeric NOT NULL CHECK (bill_usd_cents >= 0 AND bill_usd_cents {FINITE}),
    service_tier             text,
    cancel_policy_version    integer NOT NULL,
    model_rule               text,
    markup_percent           numeric NOT NULL CHECK (markup_percent {FINITE}),
    retry_of                 text,
    resolution               text,
    PRIMARY KEY (customer_id, adjustment_id),
    UNIQUE (customer_id, stream_id, revision),
    FOREIGN KEY (customer_id, stream_id) REFERENCES charges,
    CHECK (rate_card_id IS NOT NULL OR bill_usd_cents = 0),
    CHECK (NOT taken_back OR bill_usd_cents = 0)
);
CREATE INDEX adjustments_by_end ON adjustments (ended_at, customer_id, stream_id);
CREATE INDEX adjustments_by_period ON adjustments (customer_id, period);
"""

MANUAL = f"""
-- Credits and corrections. `filed_at` and the dimensions say where totals count it: with its stream, or at the time of
-- booking.
CREATE TABLE manual_adjustments (
    customer_id   text NOT NULL REFERENCES customers,
    adjustment_id text NOT NULL,
    stream_id     text,
    kind          text NOT NULL CHECK (kind IN ('credit', 'correction')),
    usd_cents     numeric NOT NULL CHECK (usd_cents <> 0 AND usd_cents {FINITE}),
    reason        text NOT NULL CHECK (reason <> ''),
    booked_by     text NOT NULL,
    booked_at     timestamptz NOT NULL,
    period        text NOT NULL CHECK (period {MONTH}),
    filed_at      timestamptz NOT NULL,
    provider      text NOT NULL,
    model         text NOT NULL,
    api_key_id    text NOT NULL,
    outcome       text NOT NULL,
    usage_source  text NOT NULL,
    retry         text NOT NULL,
    PRIMARY KEY (customer_id, adjustment_id),
    FOREIGN KEY (customer_id, stream_id) REFERENCES charges,
    CHECK (kind <> 'credit' OR usd_cents < 0)
);
CREATE INDEX manual_adjustments_by_stream ON manual_adjustments (customer_id, stream_id)
    WHERE stream_id IS NOT NULL;
CREATE INDEX manual_adjustments_by_filing ON manual_adjustments (filed_at);
CREATE INDEX manual_adjustments_by_period ON manual_adjustments (customer_id, period);
"""

# The columns of a bill, with the same names in both tables. Manual adjustments have none of them.
BILL = {
    "outcome": "text",
    "provider": "text",
    "model": "text",
    "response_model": "text",
    "api_key_id": "text",
    "started_at": "timestamptz",
    "ended_at": "timestamptz",
    **dict.fromkeys(COUNTERS, "bigint"),
    "usage_source": "text",
    "input_unknown": "boolean",
    "cancel_policy": "text",
    "cancel_policy_version": "integer",
    "rate_card_id": "text",
    "rated_model": "text",
    "model_rule": "text",
    "markup_percent": "numeric",
    "service_tier": "text",
    "retry_of": "text",
    "resolution": "text",
    "lines": "json",
}
CHARGED = {
    "charged_at": ("booked_at", "timestamptz"),
    "charged_period": ("period", "text"),
    "charged_ended_at": ("ended_at", "timestamptz"),
    "charged_provider": ("provider", "text"),
    "charged_model": ("model", "text"),
    "charged_usd_cents": ("usd_cents", "numeric"),
}
BILL_NAMES = ", ".join(BILL)
OF_A_CHARGE = ", ".join(f"{name} AS {charged}" for charged, (name, _) in CHARGED.items())
UNKNOWN = ", ".join(f"NULL::{kind}" for kind in ("boolean", *(kind for _, kind in CHARGED.values()), "numeric"))

# Each branch reads one table, so that PostgreSQL can use the index of each, also for the condition of a join.
RELATIONS = f"""
-- What an invoice sums: every charge, adjustment, credit and correction. `filed_at` is when totals count it.
-- `revision` and the bill are NULL for credits and corrections.
CREATE VIEW entries AS
SELECT customer_id, period, charge_id AS entry_id, 'charge' AS kind, stream_id, charge_id, 0 AS revision, booked_at,
       ended_at AS filed_at, usd_cents, NULL AS reason, NULL AS booked_by, false AS taken_back, {OF_A_CHARGE},
       usd_cents AS bill_usd_cents, {BILL_NAMES}
FROM charges
UNION ALL
SELECT customer_id, period, adjustment_id, 'adjustment', stream_id, charge_id, revision, booked_at,
       ended_at, usd_cents, reason, NULL, taken_back, {", ".join(CHARGED)}, bill_usd_cents, {BILL_NAMES}
FROM adjustments
UNION ALL
SELECT customer_id, period, adjustment_id, kind, stream_id, NULL, NULL::integer, booked_at,
       filed_at, usd_cents, reason, booked_by, {UNKNOWN}, {", ".join(f"NULL::{kind}" for kind in BILL.values())}
FROM manual_adjustments;

-- The current bill of each charged stream: that of its last adjustment, or else of its charge.
CREATE VIEW newest_bills AS
SELECT e.customer_id, e.stream_id, e.charge_id, e.revision, e.taken_back, {", ".join(f"e.{name}" for name in CHARGED)},
       e.bill_usd_cents, {", ".join(f"e.{name}" for name in BILL)}
FROM entries e
WHERE e.revision IS NOT NULL
  AND NOT EXISTS (SELECT FROM adjustments newer WHERE newer.customer_id = e.customer_id
                  AND newer.stream_id = e.stream_id AND newer.revision > e.revision);
"""

KEY = ("provider", "model", "api_key_id", "outcome", "usage_source", "retry")
SUMS = f"""
    stream_count bigint NOT NULL,
    {", ".join(f"{name} numeric NOT NULL" for name in COUNTERS)},
    usd_cents    numeric NOT NULL CHECK (usd_cents {FINITE})
"""
ROLLUPS = {
    "totals_hourly": ("hour", ("customer_id", *KEY)),
    "totals_hourly_by_customer": ("hour", ("customer_id",)),
    "totals_hourly_by_model": ("hour", ("provider", "model", "outcome", "usage_source")),
    "totals_daily": ("day", ("customer_id", *KEY)),
    "totals_daily_by_customer": ("day", ("customer_id",)),
    "totals_daily_by_model": ("day", ("provider", "model", "outcome", "usage_source")),
    "totals_monthly": ("month", ("customer_id", *KEY)),
    "totals_monthly_by_customer": ("month", ("customer_id", "outcome", "usage_source", "retry")),
}


def rollup(table: str, bucket: str, dimensions: tuple[str, ...]) -> str:
    """A table of sums. Its key starts with the customer, if it has one, and then the time."""
    by_customer = "customer_id" in dimensions
    key = (*dimensions[:by_customer], bucket, *dimensions[by_customer:])
    columns = ", ".join(f"{name} {'timestamptz' if name == bucket else 'text'} NOT NULL" for name in key)
    index = f"CREATE INDEX {table}_by_{bucket} ON {table} ({bucket});" if by_customer else ""
    return f"""
CREATE TABLE {table} ({columns}, {SUMS}, PRIMARY KEY ({", ".join(key)})) WITH (fillfactor = 80);
{index}
GRANT SELECT, INSERT, UPDATE ON {table} TO metering_service;
"""


TOTALS = f"""
-- Sums that are booked and not rolled up yet. The transaction that books appends to it, so that bookings never wait for
-- each other to update a common total. A total is the rolled up sums plus these.
CREATE TABLE totals_pending (
    customer_id text NOT NULL,
    hour        timestamptz NOT NULL,
    {", ".join(f"{name} text NOT NULL" for name in KEY)},
    {SUMS}
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000);

-- When totals were last rolled up. One row.
CREATE TABLE totals_rolled_up (
    is_last      boolean PRIMARY KEY CHECK (is_last),
    rolled_up_at timestamptz NOT NULL
);

GRANT SELECT, INSERT, DELETE ON totals_pending TO metering_service;
GRANT SELECT, INSERT, UPDATE ON totals_rolled_up TO metering_service;
"""

# The service can add and read facts. Its privileges do not allow it to change or remove them.
PRIVILEGES = """
GRANT SELECT, INSERT ON charges, adjustments, manual_adjustments TO metering_service;
GRANT SELECT ON entries, newest_bills TO metering_service;
"""


def upgrade() -> None:
    for statements in (CHARGES, ADJUSTMENTS, MANUAL, RELATIONS, PRIVILEGES, TOTALS):
        op.execute(statements.replace(":", r"\:"))
    for table, (bucket, dimensions) in ROLLUPS.items():
        op.execute(rollup(table, bucket, dimensions))
