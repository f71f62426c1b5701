"""The tasks: thin. Each finds its work in the database, so that losing or doubling its message is harmless."""

from metering.clock import utc_now
from metering.ingest.nudge import FINALIZE_TASK
from metering.store.schema import ensure_journal_partitions
from workers.app import app, service
from workers.finalizing import drain
from workers.schedule import PARTITIONS_TASK


@app.task(name=FINALIZE_TASK)  # type: ignore[untyped-decorator]
def finalize_due_streams() -> None:
    """Finalize what is due."""
    drain(service)


@app.task(name=PARTITIONS_TASK)  # type: ignore[untyped-decorator]
def keep_partitions_ahead() -> None:
    """Make the journal's next partitions before they are needed."""
    ensure_journal_partitions(service().engine, now=utc_now())
