"""Streams: one completion each. The join of its events, the bill that its facts result in, and ingest.

`stream.py` joins events in any order, `settlement.py` decides whether a stream waits, needs attention or has a
bill, `ingest/` stores what gateways post. Booking a bill is the subject of `ledger/`. Start with `stream.py`.
"""
