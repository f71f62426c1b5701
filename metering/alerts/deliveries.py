"""Deliveries: a message on its way to an endpoint, how often it is tried, and when that is given up."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from metering.core.ids import digest


class DeliveryState(StrEnum):
    """Where a delivery is. Failed: all attempts were in vain. Skipped: its endpoint was disabled or is gone."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    SKIPPED = "skipped"


# The type of messages that only try an endpoint out; they are sent once.
TEST_TYPE = "webhook.test"

# Before each further attempt; together, and with the jitter, a good day. After the example of Standard Webhooks,
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
# A receiver may ask for more patience, up to this.
MAX_RETRY_AFTER = timedelta(hours=2)
# A delay is longer by up to this many thousandths, so that what failed together does not come again together.
_JITTER = 250

# The answer of a receiver that wants no more: https://www.rfc-editor.org/rfc/rfc9110#name-410-gone
_GONE = 410


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is sent, the same each time; `customer_id` is whom it is about, "" when it is nobody in particular."""

    message_id: str
    type: str
    customer_id: str
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What came of sending once: the receiver's status, or the problem that kept it from answering."""

    status: int | None = None
    problem: str | None = None
    retry_after: timedelta | None = None

    @property
    def delivered(self) -> bool:
        """Whether the receiver took it: any 2xx, and nothing else, a redirect included."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def gone(self) -> bool:
        """Whether the receiver wants no more messages."""
        return self.status == _GONE


def next_attempt_at(
    *, delivery_id: str, attempts: int, now: datetime, retry_after: timedelta | None
) -> datetime | None:
    """When a delivery that was tried `attempts` times is tried again; None when it is given up.

    The jitter follows from the delivery, so that the schedule of each can be told.
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
    """A delivery's id follows from what goes where, and the how manieth time."""
    return f"whd_{digest(endpoint_id, message_id, str(replay))}"
