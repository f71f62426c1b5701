"""The hot path: decode a request once, join its events, commit it together with other waiting requests."""
