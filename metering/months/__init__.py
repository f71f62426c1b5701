"""Months: close a customer's month, make its invoice, and render the customer's statement.

Entries come from `ledger/`; `stripe/` writes invoices to Stripe. Start with `invoice.py`, then `close_months.py`.
"""
