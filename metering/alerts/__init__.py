"""Alerts: thresholds, the figures they watch, and webhooks that tell when one is reached.

Start with `alerts.py`, then `evaluate_alerts.py` and `send_webhooks.py`.
"""
