"""Deliveries: sending a message to an endpoint, the schedule of retries, and when a delivery fails for good."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from metering.core.ids import digest


class DeliveryState(StrEnum):
    """State of a delivery. Failed: no attempt succeeded. Skipped: its endpoint is disabled or deleted."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    SKIPPED = "skipped"


# The type of test messages, which are sent once and never retried.
TEST_TYPE = "webhook.test"

# The delay before each further attempt, about a day in all. Follows the example in Standard Webhooks,
# https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
RETRY_DELAYS = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=8),
    timedelta(hours=10),
)
MAX_ATTEMPTS = len(RETRY_DELAYS) + 1
# The longest Retry-After that is honoured.
MAX_RETRY_AFTER = timedelta(hours=2)
# Each delay is lengthened by up to this many thousandths, so that deliveries that failed together spread out.
_JITTER = 250

# The receiver wants no more messages: https://www.rfc-editor.org/rfc/rfc9110#name-410-gone
_GONE = 410


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message; its body is the same in every delivery. `customer_id` is "" when it is not about one customer."""

    message_id: str
    type: str
    customer_id: str
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The result of one attempt: the receiver's status, or the problem that prevented an answer."""

    status: int | None = None
    problem: str | None = None
    retry_after: timedelta | None = None

    @property
    def delivered(self) -> bool:
        """Whether the receiver accepted it: any 2xx. A redirect is a failure."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def gone(self) -> bool:
        """Whether the receiver wants no more messages."""
        return self.status == _GONE


def next_attempt_at(
    *, delivery_id: str, attempts: int, now: datetime, retry_after: timedelta | None
) -> datetime | None:
    """When to retry a delivery after `attempts` attempts; None when no attempt is left.

    The jitter is derived from the delivery's id, so that its schedule is reproducible.
    """
    if attempts >= MAX_ATTEMPTS:
        return None
    delay = RETRY_DELAYS[attempts - 1]
    share = int(digest(delivery_id, str(attempts))[:8], 16) % (_JITTER + 1)
    delay += delay * share // 1000
    if retry_after is not None:
        delay = max(delay, min(retry_after, MAX_RETRY_AFTER))
    return now + delay


def delivery_id_of(*, endpoint_id: str, message_id: str, replay: int) -> str:
    """The id of a delivery, derived from its endpoint, its message and the number of the replay."""
    return f"whd_{digest(endpoint_id, message_id, str(replay))}"
