"""SQL that reads the rows of exports."""
