"""SQL that writes the price book, and loads it."""
