"""What waits for a commit: in the order of arrival for each key, and each key in turn."""

from collections import OrderedDict, deque

from metering.streams.ingest.submission import Submission


class FairQueue:
    """Submissions by the key that posted them. A group takes one of each key at a time."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[Submission]] = OrderedDict()
        self._events: dict[str, int] = {}
        self.events = 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def keys(self) -> int:
        """How many keys have something waiting."""
        return len(self._waiting)

    def events_of(self, key_id: str) -> int:
        """How many events of a key wait."""
        return self._events.get(key_id, 0)

    def put(self, submission: Submission) -> None:
        """Add a submission behind those of its key."""
        key_id = submission.entry.ingest_key_id
        self._waiting.setdefault(key_id, deque()).append(submission)
        self._count(key_id, submission.entry.event_count)

    def take(self, most_events: int) -> list[Submission]:
        """The next group: at least one submission, and no more once it has this many events."""
        group: list[Submission] = []
        events = 0
        while self._waiting and events < most_events:
            key_id, queue = next(iter(self._waiting.items()))
            submission = queue.popleft()
            if queue:
                self._waiting.move_to_end(key_id)
            else:
                del self._waiting[key_id]
            self._count(key_id, -submission.entry.event_count)
            events += submission.entry.event_count
            group.append(submission)
        return group

    def _count(self, key_id: str, events: int) -> None:
        self.events += events
        left = self._events.get(key_id, 0) + events
        if left or key_id in self._waiting:
            self._events[key_id] = left
        else:
            self._events.pop(key_id, None)
