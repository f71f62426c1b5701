"""Resolve a stream: an admin decides what no rule can, and says why. The finalizer then books it."""

from datetime import datetime

from sqlalchemy import Engine

from metering.core.errors import MeteringError
from metering.db.engine import transaction
from metering.streams.resolutions import Resolution, ResolutionAction, fingerprints_of
from metering.streams.settlement import NEEDS_PERSON, State
from metering.streams.store.resolutions import add_resolution
from metering.streams.store.streams import StoredStream, read_streams, wake_stream


class UnknownStreamError(MeteringError):
    """There is no such stream."""


class NotInBacklogError(MeteringError):
    """The stream needs no decision: it is open, or final."""


class InvalidResolutionError(MeteringError):
    """The decision does not settle the stream, or has no reason."""


def resolve_stream(
    *,
    engine: Engine,
    customer_id: str,
    stream_id: str,
    action: ResolutionAction,
    reason: str,
    resolved_by: str,
    now: datetime,
) -> Resolution:
    """Record a decision about a stream in the backlog. It holds until newer facts say something else.

    Raises:
        UnknownStreamError: no event of it ever came.
        NotInBacklogError: it waits for nobody.
        InvalidResolutionError: what is missing cannot be decided, or the reason is empty.
    """
    if not reason.strip():
        raise InvalidResolutionError("reason: say why, for whoever reads the bill later")
    with transaction(engine) as connection:
        locked = read_streams(connection, [(customer_id, stream_id)], lock=True)
        if not locked:
            raise UnknownStreamError(f"customer {customer_id!r} has no stream {stream_id!r}")
        stream = locked[0]
        _check(stream, action)
        start_fingerprint, end_fingerprint = fingerprints_of(stream.facts)
        resolution = Resolution(
            customer_id=customer_id,
            stream_id=stream_id,
            resolved_at=now,
            action=action,
            reason=reason.strip(),
            resolved_by=resolved_by,
            start_fingerprint=start_fingerprint,
            end_fingerprint=end_fingerprint,
        )
        add_resolution(connection, resolution)
        wake_stream(connection, customer_id=customer_id, stream_id=stream_id, now=now)
    return resolution


def _check(stream: StoredStream, action: ResolutionAction) -> None:
    if stream.state not in NEEDS_PERSON:
        raise NotInBacklogError(f"the stream is {stream.state.value}: it needs no decision")
    if action is ResolutionAction.BILL_AS_IS:
        if stream.state is not State.CONFLICTING:
            raise InvalidResolutionError(
                f"action: an {stream.state.value} stream cannot be billed as it is, {stream.state_reason};"
                " supply what is missing, or write it off"
            )
        if stream.facts.start is None:
            raise InvalidResolutionError(
                "action: without a stream-start there is nothing to bill by; send it, or write the stream off"
            )
