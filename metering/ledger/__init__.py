"""The ledger: charges, adjustments and credits; the newest bill of each stream; rolled-up sums of the bookings.

`finalize_due.py` claims due streams, and `finalize_batch.py` books their bills. Booked rows never change: a
correction is a new row. Invoices belong to `months/`. Start with `entries.py`, then `finalize_batch.py`.
"""
