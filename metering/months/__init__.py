"""Months: closing a customer's month, making its invoice, and the statement that the customer gets.

Entries come from `ledger/`. Writing an invoice to Stripe is the subject of `stripe/`. Start with `invoice.py`,
then `close_months.py`.
"""
