"""What can be wrong with a request that reached a route."""

from collections.abc import Sequence

from metering.core.errors import MeteringError
from metering.events.wire.rejections import Rejection


class NotFoundError(MeteringError):
    """What the path names is not there."""


class InvalidParameterError(MeteringError):
    """A query parameter or a field of the body is wrong; the message names it."""


class NoEventAcceptedError(MeteringError):
    """Not one event of the request counts."""

    def __init__(self, rejected: Sequence[Rejection]) -> None:
        super().__init__(
            f"all {len(rejected)} events were rejected"
            if rejected
            else "the batch is empty: send at least one event"
        )
        self.rejected = rejected
