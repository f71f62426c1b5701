"""SQL that reads alerts, the figures they watch, and webhooks."""
