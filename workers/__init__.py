"""The Celery side: the queue wakes the workers, and they find their work in the database."""
