"""What people do after the fact: settle the backlog, adjust by hand, rerate, simulate a cancel policy.

Each books new entries through `ledger/`; nothing that is booked changes.
"""
