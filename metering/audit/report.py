"""What an audit found: how much it compared, and the differences."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from metering.audit.difference import Difference

# The report keeps this many differences; further ones are only counted.
MAX_SHOWN = 1_000


@dataclass(slots=True)
class AuditReport:
    """The numbers of what was compared, and the differences.

    `pending` streams are due for the finalizer: their facts and their bookings so far were compared.
    `before_journal` streams began before the part of the journal that METERING_JOURNAL_RETENTION keeps: their
    stored facts were taken as they are. `archived` streams are in archives that were not given: only their
    bookings were checked. `difference_count` counts all differences, `differences` has the first.
    """

    requests: int = 0
    events: int = 0
    streams: int = 0
    pending: int = 0
    before_journal: int = 0
    archived: int = 0
    difference_count: int = 0
    differences: list[Difference] = field(default_factory=list)

    def add(self, differences: Iterable[Difference]) -> None:
        """Count the differences, and keep the first ones."""
        for difference in differences:
            self.difference_count += 1
            if len(self.differences) < MAX_SHOWN:
                self.differences.append(difference)

    def include(self, part: "AuditReport") -> None:
        """Add what a part of the audit found."""
        self.requests += part.requests
        self.events += part.events
        self.streams += part.streams
        self.pending += part.pending
        self.before_journal += part.before_journal
        self.archived += part.archived
        self.difference_count += part.difference_count
        self.differences += part.differences[: MAX_SHOWN - len(self.differences)]
