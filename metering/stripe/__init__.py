"""Stripe: pushing invoices there, reading back what became of them, and reconciling the two.

`push.py` and `drift.py` hold the rules, `client/` is the only place that talks to Stripe. Start with `push.py`.
"""
