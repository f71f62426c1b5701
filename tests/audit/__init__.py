"""What the audit finds, and that it finds nothing where all is right."""
