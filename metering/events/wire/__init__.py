"""The wire format of usage events: CloudEvents 1.0 in JSON, decoded, validated, and read back from the journal."""
