"""Customers: who pays. Their name, their time zone, their link to Stripe.

Ingest adds a customer when an event names a new one. Pushing invoices to Stripe is the subject of `stripe/`.
"""
