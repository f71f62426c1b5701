"""SQL that writes alerts, their occurrences, and webhook deliveries."""
