"""`metering bench`: measured figures, each beside the floor under it. Nothing of the product imports this."""
