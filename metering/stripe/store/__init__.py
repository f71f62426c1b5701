"""SQL that writes pushes, Stripe operations and reconciliations."""
