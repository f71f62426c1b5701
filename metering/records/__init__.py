"""Rows as records: how streams, charges and bills lie in their tables. For the writing and the reading side."""
