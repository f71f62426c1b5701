"""SQL that reads pushes and reconciliations."""
