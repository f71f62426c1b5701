"""The audit derives everything that is stored from the journal again and compares; receipts do it for one stream.

It shares the pure rules with the service. It reads invoices, entries, bills and sums with SQL of its own; it reads
the journal, the streams' facts and the price book with the service's queries, and compares or derives from those.
Start with `run.py`; for receipts, with `receipt.py`.
"""
