"""The usage events that gateways post, their wire format, and the journal that keeps them.

`events.py` defines the three events, `wire/` decodes and checks them, `store.py` and `queries.py` write and read
the journal. Joining the events of a stream is the subject of `streams/`. Start with `events.py`.
"""
