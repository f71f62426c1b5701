"""Ingest metrics that each API process counts; `api/metrics.py` adds those of the whole deployment."""

from prometheus_client import Counter, Gauge, Histogram

EVENTS_ACCEPTED = Counter("metering_events_accepted", "Usage events that were committed")
EVENTS_REJECTED = Counter("metering_events_rejected", "Usage events that were refused, by validation")
# Labels are ids of ingest keys, which an admin creates.
STREAMS_AHEAD = Counter(
    "metering_streams_clock_ahead",
    "Streams in requests with an event that was dated over five minutes ahead, by ingest key",
    ["key"],
)
UNKNOWN_FIELDS = Counter(
    "metering_requests_unknown_fields",
    "Requests with fields that the contract does not know, by ingest key",
    ["key"],
)
RECORDS_LEFT_OUT = Counter(
    "metering_records_left_out",
    "Records of other senders' formats that became no event, by ingest key and inlet",
    ["key", "inlet"],
)
INGEST_COMMITS = Counter(
    "metering_ingest_commits", "Transactions in which waiting requests were committed together"
)
# From the commit time of a local disk to the default METERING_INGEST_COMMIT_TIMEOUT.
INGEST_COMMIT_SECONDS = Histogram(
    "metering_ingest_commit_seconds",
    "How long a transaction of waiting requests took until it was durable",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)
INGEST_REFUSED = Counter("metering_ingest_queue_full", "Requests refused with 503 because the queue was full")
INGEST_NOT_COMMITTED = Counter(
    "metering_ingest_not_committed", "Requests answered with 503 because their commit failed, or was not confirmed"
)
INGEST_QUEUED_EVENTS = Gauge(
    "metering_ingest_queued_events",
    "Usage events that wait for a commit in this process",
    multiprocess_mode="livesum",
)
