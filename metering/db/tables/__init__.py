"""Tables of alerts as SQLAlchemy Core sees them."""

from metering.db.tables.alerts import alerts, webhook_deliveries, webhook_endpoints, webhook_secrets

__all__ = ["alerts", "webhook_deliveries", "webhook_endpoints", "webhook_secrets"]
