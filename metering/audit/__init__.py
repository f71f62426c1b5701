"""The audit: everything that is stored, derived again from the journal and compared; and receipts.

It shares the pure rules with the service, but none of its SQL. Start with `run.py`; for receipts, `receipt.py`.
"""
