"""The reading side: one question per function, frozen rows out. Nothing here writes."""
