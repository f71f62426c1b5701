"""The ledger: charges, adjustments and credits; the newest bill of a stream; sums rolled up beside them.

`finalize_due.py` books what due streams owe. Booked rows are never changed: a correction is a new row. Invoices
are the subject of `months/`. Start with `entries.py`, then `finalize_due.py`.
"""
