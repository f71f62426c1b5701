"""Acceptance scenarios: the whole service as real processes, against an oracle that shares no code with it."""
