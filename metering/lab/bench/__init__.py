"""`metering bench` measures the product, and compares it with the floor: what PostgreSQL alone can do."""
