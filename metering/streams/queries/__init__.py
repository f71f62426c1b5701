"""SQL that reads streams."""
