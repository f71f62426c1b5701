"""The embedded servers, the supervisor and `metering up`, as real processes."""
