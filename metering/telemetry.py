"""What operators can measure. `/metrics` serves it in the Prometheus text format."""

from prometheus_client import Counter, Gauge

EVENTS_ACCEPTED = Counter("metering_events_accepted", "Usage events that were committed")
EVENTS_REJECTED = Counter("metering_events_rejected", "Usage events that were refused, by validation")
INGEST_COMMITS = Counter(
    "metering_ingest_commits", "Transactions in which waiting requests were committed together"
)
INGEST_REFUSED = Counter("metering_ingest_queue_full", "Requests refused with 503 because the queue was full")
INGEST_QUEUED_EVENTS = Gauge(
    "metering_ingest_queued_events", "Usage events that wait for a commit in this process"
)
EXPORTS = Counter(
    "metering_exports",
    "Exports over HTTP, by how they ended: whole, left (by the client), timed_out, stalled or failed",
    ["kind", "format", "result"],
)
STREAMS_DUE = Gauge("metering_streams_due", "Streams that the finalizer has to look at now")
OLDEST_DUE_SECONDS = Gauge(
    "metering_oldest_due_seconds", "Age of the longest waiting stream that is due; 0 when none is"
)
STREAMS_NOT_FINAL = Gauge("metering_streams_not_final", "Streams that are not final, by state", ["state"])
