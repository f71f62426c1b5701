"""Customers: who pays. Their name, their time zone, their link to Stripe.

Ingest adds customers by itself when events name new ones. Pushing to Stripe is the subject of `stripe/`.
"""
