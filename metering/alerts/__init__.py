"""Alerts: thresholds, the figures they watch, and the webhooks sent when a threshold is reached.

The room owns alerts, their occurrences, webhook endpoints and deliveries. It does not own the amounts: it reads
them from `ledger/` and `totals/`. Start with `alerts.py`, then `evaluate_alerts.py` and `send_webhooks.py`.
"""
