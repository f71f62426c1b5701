"""The query for one stream with its facts and its bookings."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, text

from metering.core.money import sum_cents
from metering.ledger.entries import Adjustment, AdjustmentReason, Charge, ManualAdjustment
from metering.ledger.store.adjustments import manual_adjustment_of_row
from metering.ledger.store.charges import CHARGE_ROW, bill_row, charge_of_row, newest_bill_of_row
from metering.streams.bill import Bill
from metering.streams.resolutions import Resolution
from metering.streams.store.archived import check_not_archived
from metering.streams.store.resolutions import resolution_of_row
from metering.streams.store.streams import (
    RESPONSE_KEY,
    STREAM_COLUMNS,
    StoredStream,
    response_key,
    stored_stream,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamView:
    """A stream with its bookings and its latest resolution. `adjustments` are in the order of their revision."""

    stream: StoredStream
    charge: Charge | None
    adjustments: Sequence[Adjustment]
    resolution: Resolution | None = None
    manual_adjustments: Sequence[ManualAdjustment] = ()

    @property
    def newest_bill(self) -> Bill | None:
        """The bill of the last booking; None before the charge, or when the bookings were taken back."""
        if self.adjustments:
            return self.adjustments[-1].bill
        return self.charge.bill if self.charge else None

    @property
    def cost_usd_cents(self) -> Decimal | None:
        """Charge plus adjustments, manual ones included, in exact cents; None while there is no bill."""
        if self.newest_bill is None or self.charge is None:
            return None
        adjusted = [adjustment.usd_cents for adjustment in self.adjustments]
        manual = [adjustment.usd_cents for adjustment in self.manual_adjustments]
        return sum_cents([self.charge.bill.usd_cents, *adjusted, *manual])


_STREAM = text(
    f"SELECT {STREAM_COLUMNS} FROM streams s WHERE s.customer_id = :customer_id AND s.stream_id = :stream_id"
)
_CHARGE = text(
    f"SELECT {CHARGE_ROW} FROM charges c WHERE c.customer_id = :customer_id AND c.stream_id = :stream_id"
)
_ADJUSTMENTS = text(
    f"""
    SELECT a.customer_id, a.stream_id, a.adjustment_id, a.charge_id, a.revision, a.booked_at, a.period, a.reason,
           a.usd_cents, a.taken_back, {bill_row("a")}
    FROM adjustments a WHERE a.customer_id = :customer_id AND a.stream_id = :stream_id ORDER BY a.revision
    """
)
_MANUAL = text(
    """
    SELECT * FROM manual_adjustments WHERE customer_id = :customer_id AND stream_id = :stream_id
    ORDER BY booked_at, adjustment_id
    """
)
_RESOLUTION = text(
    """
    SELECT * FROM resolutions WHERE customer_id = :customer_id AND stream_id = :stream_id
    ORDER BY resolved_at DESC LIMIT 1
    """
)


_BY_RESPONSE = text(
    f"""
    SELECT s.stream_id FROM streams s
    WHERE s.customer_id = :customer_id AND {RESPONSE_KEY} = {response_key(":customer_id", ":id")}
      AND s.end_data ->> 'response_id' = :id
    ORDER BY s.first_received_at DESC LIMIT 1
    """
)


def find_stream_id(connection: Connection, *, customer_id: str, id: str) -> str | None:
    """The id itself, if a stream has it; else the newest stream whose response has this id; else None.

    Raises:
        StreamArchivedError: the facts of the stream with this id are in an archive.
    """
    key = {"customer_id": customer_id, "stream_id": id}
    if connection.execute(_STREAM, key).first() is not None:
        return id
    found: str | None = connection.execute(_BY_RESPONSE, {"customer_id": customer_id, "id": id}).scalar()
    if found is None:
        check_not_archived(connection, customer_id=customer_id, stream_id=id)
    return found


def get_stream(connection: Connection, *, customer_id: str, stream_id: str) -> StreamView | None:
    """The stream with its bookings; None when no event of it has arrived.

    Raises:
        StreamArchivedError: its facts are in an archive.
    """
    key = {"customer_id": customer_id, "stream_id": stream_id}
    row = connection.execute(_STREAM, key).first()
    if row is None:
        check_not_archived(connection, customer_id=customer_id, stream_id=stream_id)
        return None
    charge = connection.execute(_CHARGE, key).first()
    adjustments = connection.execute(_ADJUSTMENTS, key).all() if charge else []
    resolution = connection.execute(_RESOLUTION, key).first()
    manual = connection.execute(_MANUAL, key).all() if charge else []
    return StreamView(
        stream=stored_stream(row),
        charge=charge_of_row(charge) if charge else None,
        adjustments=[_adjustment(row) for row in adjustments],
        resolution=resolution_of_row(resolution) if resolution else None,
        manual_adjustments=[manual_adjustment_of_row(row) for row in manual],
    )


def _adjustment(row: Any) -> Adjustment:
    return Adjustment(
        adjustment_id=row.adjustment_id,
        customer_id=row.customer_id,
        stream_id=row.stream_id,
        charge_id=row.charge_id,
        revision=row.revision,
        booked_at=row.booked_at,
        period=row.period,
        reason=AdjustmentReason(row.reason),
        usd_cents=row.usd_cents,
        bill=newest_bill_of_row(row),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstSteps:
    """The first steps of a new deployment: a stream has been received, and one is final."""

    received: bool
    final: bool


_FIRST_STEPS = text("SELECT EXISTS (SELECT 1 FROM streams) AS received, EXISTS (SELECT 1 FROM charges) AS final")


def first_steps(connection: Connection) -> FirstSteps:
    """Whether any stream has been received, and whether any is final."""
    row = connection.execute(_FIRST_STEPS).one()
    return FirstSteps(received=row.received, final=row.final)
