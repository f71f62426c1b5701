"""Adjustments by hand, credits and corrections; and the keys that make asking for one twice harmless."""

from alembic import op

revision = "2026_12_01_manual_adjustments"
down_revision = "2026_11_30_resolutions"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        -- `filed_at` and the dimensions say where totals have it: with its stream, or at the time of booking.
        CREATE TABLE manual_adjustments (
            customer_id   text NOT NULL REFERENCES customers,
            adjustment_id text NOT NULL,
            stream_id     text,
            kind          text NOT NULL CHECK (kind IN ('credit', 'correction')),
            usd_cents     numeric NOT NULL
                          CHECK (usd_cents <> 0 AND usd_cents NOT IN ('NaN', 'Infinity', '-Infinity')),
            reason        text NOT NULL CHECK (reason <> ''),
            booked_by     text NOT NULL,
            booked_at     timestamptz NOT NULL,
            period        text NOT NULL CHECK (period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
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

        CREATE TABLE idempotency_keys (
            idempotency_key text PRIMARY KEY,
            request_hash    bytea NOT NULL,
            result_id       text NOT NULL,
            created_at      timestamptz NOT NULL
        );

        GRANT SELECT ON manual_adjustments TO metering_service, metering_reader;
        GRANT SELECT ON idempotency_keys TO metering_service;
        GRANT INSERT ON manual_adjustments, idempotency_keys TO metering_service;
        """
    )
