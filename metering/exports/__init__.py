"""What leaves the service as a document or a file."""
