"""SQL that reads the state of the service: backlog, workers, sizes."""
