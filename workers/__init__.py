"""The Celery side: the queue wakes the workers, and they find their work in the database."""

import gc

# Imported objects are no garbage, and searching them took a fifth of the start. `app` sets the threshold for work.
gc.set_threshold(100_000, *gc.get_threshold()[1:])
