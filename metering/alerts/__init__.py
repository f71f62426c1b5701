"""Alerts: thresholds, the figures they watch, and the webhooks sent when a threshold is reached.

The room owns alerts, their occurrences, webhook endpoints and deliveries, and it announces exhausted budgets and
refused holds. It does not own the amounts: it reads them from `ledger/`, `totals/`, `budgets/` and `credits/`.
Start with `alerts.py`, then `evaluate_alerts.py` and `send_webhooks.py`.
"""
