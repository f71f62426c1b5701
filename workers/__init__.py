"""The Celery side: it is woken by the queue, and finds its work in the database."""
