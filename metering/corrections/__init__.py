"""Corrections: resolve the backlog, adjust manually, rerate, simulate a cancel policy.

Each correction books new entries through `ledger/`; booked entries never change. Start with `resolve_stream.py`.
"""
