"""Usage events as bytes: CloudEvents 1.0 in JSON, decoded, checked, folded, and read back from the journal."""
