"""SQL of the audit: what is stored, and the invariants that it must keep. It shares none with the product."""
