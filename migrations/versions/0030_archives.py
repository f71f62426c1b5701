"""Archives: streams that were moved to files, and until when closed holds were removed."""

from alembic import op

revision = "0030_archives"
down_revision = "0029_finance"
branch_labels = None
depends_on = None

# Older code that gets a late event of an archived stream cannot book it, and says so.
OLDEST_CODE = "0017_compatible"

ARCHIVES = """
-- One row for each month of arrival whose streams and journal were moved to files. `completed_at` is NULL while that
-- is under way.
CREATE TABLE archives (
    archive_id      text PRIMARY KEY CHECK (archive_id ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
    manifest_sha256 text NOT NULL CHECK (manifest_sha256 ~ '^[0-9a-f]{64}$'),
    received_from   timestamptz NOT NULL,
    received_before timestamptz NOT NULL CHECK (received_before > received_from),
    request_count   bigint NOT NULL CHECK (request_count >= 0),
    event_count     bigint NOT NULL CHECK (event_count >= 0),
    stream_count    bigint NOT NULL CHECK (stream_count >= 0),
    started_at      timestamptz NOT NULL,
    completed_at    timestamptz
);

-- What is left of an archived stream: where its facts are, so that an event of it is not taken for a new stream, and
-- its tags, which exports of its month need.
CREATE TABLE archived_streams (
    customer_id text NOT NULL,
    stream_id   text NOT NULL,
    archive_id  text NOT NULL,
    tags        json,
    PRIMARY KEY (customer_id, stream_id)
);

-- The owner moves streams. The service may only read what was moved.
GRANT SELECT ON archives, archived_streams TO metering_service;
"""

HOLDS = """
-- Closed holds from before `since` were removed: the audit no longer asks for them.
CREATE TABLE holds_kept (
    one   boolean PRIMARY KEY DEFAULT true CHECK (one),
    since timestamptz NOT NULL
);
GRANT SELECT, INSERT, UPDATE ON holds_kept TO metering_service;
"""


def upgrade() -> None:
    for statements in (ARCHIVES, HOLDS):
        op.execute(statements)
