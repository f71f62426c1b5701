"""SQL that reads alerts, their figures, and webhook deliveries."""
