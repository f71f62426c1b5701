"""The Celery side: the queue wakes the workers, and they find their work in the database."""

import gc

# What is imported is no garbage: to search it took a fifth of the start. The start sets it for the work.
gc.set_threshold(100_000, *gc.get_threshold()[1:])
