"""Metrics of holds in an API process."""

from prometheus_client import Counter, Histogram

HOLDS_ADMITTED = Counter("metering_holds_admitted", "Holds admitted, repeated requests included")
HOLDS_REFUSED = Counter("metering_holds_refused", "Holds refused, by the kind of problem", ["reason"])
HOLDS_NOT_COMMITTED = Counter("metering_holds_not_committed", "Holds answered with 503, for any reason")
HOLD_COMMIT_SECONDS = Histogram("metering_hold_commit_seconds", "Duration of a commit of a group of holds")
STREAMS_STOPPED = Counter("metering_streams_stopped", "Answers that named a stream whose budget is exhausted")
