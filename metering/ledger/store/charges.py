"""SQL that books charges and adjustments, and reads bills back. Booked rows never change.

A bill has the same column names in `charges`, in `adjustments`, and in the views `entries` and `newest_bills`.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, text

from metering.db.rows import copy_rows, json_keys, json_rows, moment
from metering.events.events import Inlet, Outcome, UsageSource
from metering.events.usage import COUNTERS, TIMED_COUNTERS, USUAL_COUNTERS, Quantity, Usage
from metering.ledger.entries import Adjustment, Charge
from metering.prices.cancel_policies import CancelPolicy
from metering.prices.rating import ChargeLine
from metering.streams.bill import Bill, Flag, PriceSource
from metering.streams.resolutions import ResolutionAction


def _counter_types(names: Sequence[str]) -> dict[str, str]:
    return {name: "numeric" if name in TIMED_COUNTERS else "bigint" for name in names}


_USUAL_TYPES = {
    "outcome": "text",
    "provider": "text",
    "model": "text",
    "response_model": "text",
    "api_key_id": "text",
    "started_at": "timestamptz",
    "ended_at": "timestamptz",
    **_counter_types(COUNTERS[:USUAL_COUNTERS]),
    "usage_source": "text",
    "input_unknown": "boolean",
    "cancel_policy": "text",
    "cancel_policy_version": "integer",
    "rate_card_id": "text",
    "rated_model": "text",
    "model_rule": "text",
    "markup_percent": "numeric",
    "service_tier": "text",
    "retry_of": "text",
    "resolution": "text",
    "lines": "json",
}
# Nearly all bills leave these columns at their defaults; a charge without them is written a third faster.
_RARE_TYPES = {
    **_counter_types(COUNTERS[USUAL_COUNTERS:]),
    "response_provider": "text",
    "price_source": "text",
    "upstream_usd_cents": "numeric",
    "flags": "text[]",
    "inlet": "text",
}
# The columns of a bill, without its amount, and their types.
BILL_TYPES = _USUAL_TYPES | _RARE_TYPES
BILL_COLUMNS = tuple(BILL_TYPES)
_OWN_COLUMNS = ("customer_id", "stream_id", "charge_id", "booked_at", "period", "usd_cents", "request_key")
PLAIN_COLUMNS = (*_OWN_COLUMNS, *_USUAL_TYPES)
CHARGE_COLUMNS = (*_OWN_COLUMNS, *BILL_COLUMNS)

_encode_lines = msgspec.json.Encoder(order="deterministic").encode
# Nearly all lines have a price per million only.
_NO_HOURLY_PRICE = b',"usd_per_hour":null'
_decode_lines = msgspec.json.Decoder(tuple[ChargeLine, ...]).decode


def _lines_document(lines: tuple[ChargeLine, ...]) -> str:
    return _encode_lines(lines).replace(_NO_HOURLY_PRICE, b"").decode()


def bill_row(table: str) -> str:
    """The select list for `bill_of_row`; `table` is a table name or alias in FROM."""
    return ", ".join(f"{table}.{name}" if name != "lines" else f"{table}.lines::text" for name in BILL_COLUMNS)


def bill_of_row(row: Any) -> Bill:
    """The bill in a row selected with `bill_row`."""
    return Bill(
        outcome=Outcome(row.outcome),
        provider=row.provider,
        model=row.model,
        response_model=row.response_model,
        service_tier=row.service_tier,
        api_key_id=row.api_key_id,
        started_at=row.started_at,
        ended_at=row.ended_at,
        usage=Usage(**{counter: getattr(row, counter) for counter in COUNTERS}),
        usage_source=UsageSource(row.usage_source),
        input_unknown=row.input_unknown,
        cancel_policy=CancelPolicy(row.cancel_policy),
        cancel_policy_version=row.cancel_policy_version,
        rate_card_id=row.rate_card_id,
        rated_model=row.rated_model,
        model_rule=row.model_rule,
        markup_percent=row.markup_percent,
        retry_of=row.retry_of,
        resolution=ResolutionAction(row.resolution) if row.resolution else None,
        response_provider=row.response_provider,
        price_source=PriceSource(row.price_source),
        upstream_usd_cents=row.upstream_usd_cents,
        flags=tuple(map(Flag, row.flags)),
        inlet=Inlet(row.inlet),
        lines=_decode_lines(row.lines),
    )


# The select list for `charge_of_row`; `c` is an alias of `charges`.
CHARGE_ROW = f"{', '.join(f'c.{name}' for name in _OWN_COLUMNS)}, {bill_row('c')}"


def charge_of_row(row: Any) -> Charge:
    """The charge in a row selected with CHARGE_ROW."""
    return Charge(
        charge_id=row.charge_id,
        customer_id=row.customer_id,
        stream_id=row.stream_id,
        booked_at=row.booked_at,
        period=row.period,
        bill=bill_of_row(row),
        request_key=row.request_key,
    )


COPY_PLAIN = f"COPY charges ({', '.join(PLAIN_COLUMNS)}) FROM STDIN"
_COPY_CHARGES = f"COPY charges ({', '.join(CHARGE_COLUMNS)}) FROM STDIN"
_NO_RARE_COUNTERS = (None,) * (len(COUNTERS) - USUAL_COUNTERS)
_NOTHING_RARE = (*_NO_RARE_COUNTERS, None, PriceSource.RATE_CARD.value, None, "{}", Inlet.EVENTS.value)


def book_charges(connection: Connection, charges: Sequence[Charge]) -> None:
    """Book charges. The database refuses a second charge for a stream."""
    plain: list[tuple[Any, ...]] = []
    others: list[tuple[Any, ...]] = []
    for charge in charges:
        counts = charge.bill.usage.counts()
        usual = (*_own_values(charge), *_usual_values(charge.bill, counts))
        rare = _rare_values(charge.bill, counts)
        if rare == _NOTHING_RARE:
            plain.append(usual)
        else:
            others.append(usual + rare)
    if plain:
        copy_rows(connection, COPY_PLAIN, plain)
    if others:
        copy_rows(connection, _COPY_CHARGES, others)


def _own_values(charge: Charge) -> tuple[Any, ...]:
    return (
        charge.customer_id,
        charge.stream_id,
        charge.charge_id,
        moment(charge.booked_at),
        charge.period,
        charge.bill.usd_cents,
        charge.request_key,
    )


def _usual_values(bill: Bill, counts: tuple[Quantity | None, ...]) -> tuple[Any, ...]:
    return (
        bill.outcome.value,
        bill.provider,
        bill.model,
        bill.response_model,
        bill.api_key_id,
        moment(bill.started_at),
        moment(bill.ended_at),
        *counts[:USUAL_COUNTERS],
        bill.usage_source.value,
        bill.input_unknown,
        bill.cancel_policy.value,
        bill.cancel_policy_version,
        bill.rate_card_id,
        bill.rated_model,
        bill.model_rule,
        bill.markup_percent,
        bill.service_tier,
        bill.retry_of,
        bill.resolution.value if bill.resolution else None,
        _lines_document(bill.lines),
    )


def _rare_values(bill: Bill, counts: tuple[Quantity | None, ...]) -> tuple[Any, ...]:
    flags = f"{{{','.join(bill.flags)}}}" if bill.flags else "{}"
    return (
        *counts[USUAL_COUNTERS:],
        bill.response_provider,
        bill.price_source.value,
        bill.upstream_usd_cents,
        flags,
        bill.inlet.value,
    )


def _bill_values(bill: Bill) -> tuple[Any, ...]:
    """The values in the order of BILL_COLUMNS."""
    counts = bill.usage.counts()
    return _usual_values(bill, counts) + _rare_values(bill, counts)


_ADJUSTMENT_TYPES = {
    "customer_id": "text",
    "adjustment_id": "text",
    "stream_id": "text",
    "charge_id": "text",
    "revision": "integer",
    "booked_at": "timestamptz",
    "period": "text",
    "reason": "text",
    "usd_cents": "numeric",
    "bill_usd_cents": "numeric",
}
_CHARGED = {
    "charged_at": "booked_at",
    "charged_period": "period",
    "charged_ended_at": "ended_at",
    "charged_provider": "provider",
    "charged_model": "model",
    "charged_usd_cents": "usd_cents",
}
# An adjustment that takes the bill back repeats the charge's columns, with no lines and no usage.
_NOT_OF_CHARGE = {"lines": "'[]'", "flags": "'{}'", **dict.fromkeys((*COUNTERS, "upstream_usd_cents"), "NULL")}
_BOOK_ADJUSTMENTS = text(
    f"""
    INSERT INTO adjustments ({", ".join(_ADJUSTMENT_TYPES)}, taken_back, {", ".join(_CHARGED)},
                             {", ".join(BILL_COLUMNS)})
    SELECT {", ".join(f"a.{name}" for name in _ADJUSTMENT_TYPES)}, a.taken_back,
           {", ".join(f"c.{name}" for name in _CHARGED.values())},
           {
        ", ".join(
            f"CASE WHEN a.taken_back THEN {_NOT_OF_CHARGE.get(name, f'c.{name}')} ELSE a.{name} END"
            for name in BILL_COLUMNS
        )
    }
    FROM json_to_recordset(CAST(:rows AS json)) AS a (
        {
        ", ".join(f"{name} {kind}" for name, kind in (_ADJUSTMENT_TYPES | BILL_TYPES).items())
    }, taken_back boolean)
    JOIN charges c ON c.customer_id = a.customer_id AND c.stream_id = a.stream_id
    """
)


def book_adjustments(connection: Connection, adjustments: Sequence[Adjustment]) -> None:
    """Book adjustments of charged streams. The database refuses a revision that exists."""
    connection.execute(_BOOK_ADJUSTMENTS, {"rows": json_rows(map(_adjustment_values, adjustments))})


def _adjustment_values(adjustment: Adjustment) -> dict[str, Any]:
    bill = adjustment.bill
    values: dict[str, Any] = {
        "customer_id": adjustment.customer_id,
        "adjustment_id": adjustment.adjustment_id,
        "stream_id": adjustment.stream_id,
        "charge_id": adjustment.charge_id,
        "revision": adjustment.revision,
        "booked_at": adjustment.booked_at,
        "period": adjustment.period,
        "reason": adjustment.reason.value,
        "usd_cents": adjustment.usd_cents,
        "bill_usd_cents": bill.usd_cents if bill else 0,
        "taken_back": bill is None,
    }
    if bill is not None:
        values |= zip(BILL_COLUMNS, _bill_values(bill), strict=True)
        values["lines"] = msgspec.Raw(values["lines"].encode())
    return values


_NEWEST_BILLS = text(
    f"""
    SELECT b.customer_id, b.stream_id, b.taken_back, {bill_row("b")}
    FROM json_to_recordset(CAST(:keys AS json)) AS wanted (customer_id text, stream_id text)
    JOIN newest_bills b ON b.customer_id = wanted.customer_id AND b.stream_id = wanted.stream_id
    """
)


def newest_bills(connection: Connection, streams: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Bill | None]:
    """The newest bills by (customer_id, stream_id); None for a bill that was taken back.

    Streams without a booking are left out.
    """
    if not streams:
        return {}
    rows = connection.execute(_NEWEST_BILLS, {"keys": json_keys(streams)})
    return {(row.customer_id, row.stream_id): newest_bill_of_row(row) for row in rows}


def newest_bill_of_row(row: Any) -> Bill | None:
    """The bill in a row with `taken_back` and the columns of `bill_row`; None when it was taken back."""
    return None if row.taken_back else bill_of_row(row)
