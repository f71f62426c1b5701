"""Resolve a stream: an admin decides how a stream of the backlog is settled, and why. The finalizer books it."""

from datetime import datetime

from sqlalchemy import Engine

from metering.access.actors import Author
from metering.access.store.audit_log import log_action
from metering.core.errors import MeteringError
from metering.corrections.examine_stream import check_version
from metering.db.engine import transaction
from metering.prices.store.book import PriceBooks
from metering.streams.resolutions import Resolution, ResolutionAction, fingerprints_of
from metering.streams.settlement import NEEDS_PERSON, SETTLED_BY, State
from metering.streams.store.archived import check_not_archived
from metering.streams.store.due import wake_stream
from metering.streams.store.resolutions import add_resolution
from metering.streams.store.streams import StoredStream, read_streams


class UnknownStreamError(MeteringError):
    """The stream does not exist."""


class NotInBacklogError(MeteringError):
    """The stream is not in the backlog: it is open, ended or finalized."""


class InvalidResolutionError(MeteringError):
    """The action does not settle the stream, or the reason is empty."""


def resolve_stream(
    *,
    engine: Engine,
    customer_id: str,
    stream_id: str,
    action: ResolutionAction,
    reason: str,
    resolved_by: Author,
    now: datetime,
    version: str | None = None,
    price_books: PriceBooks | None = None,
) -> Resolution:
    """Record a resolution and make the stream due. It holds while the winning start and end stay the same.

    `version` is that of the examination that the decision is about; checking it needs `price_books`.

    Raises:
        StreamArchivedError: its facts are in an archive.
        UnknownStreamError: no event of the stream has arrived.
        NotInBacklogError: the stream is not in the backlog.
        InvalidResolutionError: `bill_as_is` for a stream that is not conflicting or has no start,
            `bill_as_received` for one that is not misdated, any for one that failed, or the reason is empty.
        StreamChangedError: `version` is given, and the stream or its price has changed since.
    """
    if not reason.strip():
        raise InvalidResolutionError("reason: required, it is kept with the resolution")
    with transaction(engine) as connection:
        locked = read_streams(connection, [(customer_id, stream_id)], lock=True)
        if not locked:
            check_not_archived(connection, customer_id=customer_id, stream_id=stream_id)
            raise UnknownStreamError(f"customer {customer_id!r} has no stream {stream_id!r}")
        stream = locked[0]
        if version is not None and price_books is not None and stream.state in NEEDS_PERSON:
            check_version(stream, version, price_books.current(connection))
        _check(stream, action)
        start_fingerprint, end_fingerprint = fingerprints_of(stream.facts)
        resolution = Resolution(
            customer_id=customer_id,
            stream_id=stream_id,
            resolved_at=now,
            action=action,
            reason=reason.strip(),
            resolved_by=str(resolved_by),
            start_fingerprint=start_fingerprint,
            end_fingerprint=end_fingerprint,
        )
        add_resolution(connection, resolution)
        wake_stream(connection, customer_id=customer_id, stream_id=stream_id, now=now)
        log_action(
            connection,
            by=resolved_by,
            now=now,
            kind="stream",
            action="resolve",
            subject=stream_id,
            before={"customer_id": customer_id, "state": stream.state, "reason": stream.state_reason},
            after={"customer_id": customer_id, "action": action, "reason": resolution.reason},
        )
    return resolution


def _check(stream: StoredStream, action: ResolutionAction) -> None:
    if stream.state not in NEEDS_PERSON:
        raise NotInBacklogError(f"the stream is {stream.state.value}: it is not in the backlog")
    if stream.state is State.FAILED:
        raise InvalidResolutionError(
            "action: no decision helps a stream that cannot be finalized; report the error in the worker's log,"
            " and close its month with force if that cannot wait"
        )
    if action is not ResolutionAction.WRITE_OFF:
        if stream.state is not SETTLED_BY[action]:
            raise InvalidResolutionError(
                f"action: {action.value} needs a {SETTLED_BY[action].value} stream,"
                f" this one is {stream.state.value}"
                f" ({stream.state_reason}); supply what is missing, or use write_off"
            )
        if stream.facts.start is None:
            raise InvalidResolutionError(
                f"action: {action.value} needs the stream-start, and none arrived; send it, or use write_off"
            )
