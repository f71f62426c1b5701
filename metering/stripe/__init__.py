"""Stripe: push invoices, read back their state, and reconcile Stripe's invoices with ours.

`push.py` and `drift.py` hold the rules; only `client/` talks to Stripe. Start with `push.py`.
"""
