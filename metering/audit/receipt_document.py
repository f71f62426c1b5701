"""A receipt as JSON, written and read, and as plain text."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec

from metering.audit.receipt import FORMAT, Check, Receipt, facts_of_receipt, verify
from metering.core.errors import MeteringError
from metering.core.money import EXACT, cents_text
from metering.events.events import EVIDENCE, Inlet
from metering.events.usage import TIMED_KINDS
from metering.prices.rates import unit_name
from metering.streams.bill import Bill
from metering.streams.stream import billable_usage


class UnreadableReceiptError(MeteringError):
    """The document is not a receipt that this version can read."""


def receipt_document(receipt: Receipt) -> bytes:
    """The receipt as JSON; amounts are strings."""
    return msgspec.json.format(msgspec.json.encode(_plain(receipt)), indent=1)


def _plain(receipt: Receipt) -> Any:
    return _public(msgspec.to_builtins(receipt, builtin_types=(Decimal,)))


def _public(value: Any) -> Any:
    """Without private fields; each amount in its one spelling."""
    match value:
        case dict():
            return {name: _public(inner) for name, inner in value.items() if not name.startswith("_")}
        case list() | tuple():
            return [_public(inner) for inner in value]
        case Decimal():
            return cents_text(value)
    return value


def verify_document(document: bytes) -> list[Check]:
    """Check a receipt from its JSON alone.

    Raises:
        UnreadableReceiptError: the document is not a receipt.
    """
    try:
        given = msgspec.json.decode(document)
        if not isinstance(given, dict) or given.get("format") != FORMAT:
            raise UnreadableReceiptError(f"not a receipt: `format` is not {FORMAT!r}")
        given.setdefault("draws", [])  # receipts of earlier releases have none
        receipt = msgspec.convert(given, Receipt, strict=False)
    except msgspec.DecodeError as error:
        raise UnreadableReceiptError(f"not a receipt: {error}") from error
    fault = None if _plain(receipt) == given else "a value does not follow from the others"
    return [Check("the document has the form and the values of a receipt", fault), *verify(receipt)]


def receipt_text(receipt: Receipt) -> str:
    """The receipt as lines of text."""
    return "\n".join(_text(receipt)) + "\n"


def _answered(bill: Bill) -> str:
    if bill.response_provider is None and bill.response_model is None:
        return ""
    named = [name for name in (bill.response_provider, bill.response_model) if name is not None]
    return f", answered by {'/'.join(named)}"


def _text(receipt: Receipt) -> Iterator[str]:
    bill = receipt.bill
    yield f"Stream   {receipt.stream_id}"
    yield f"Customer {receipt.customer_id}"
    yield f"State    {receipt.state}, as of {receipt.issued_at:%Y-%m-%d %H:%M:%S %Z}"
    if bill is None:
        yield "Nothing is billed."
        return
    yield f"Model    {bill.provider}/{bill.model}" + _answered(bill)
    yield f"Time     {bill.started_at:%Y-%m-%d %H:%M:%S %Z} to {bill.ended_at:%Y-%m-%d %H:%M:%S %Z}"
    yield f"Outcome  {bill.outcome.value}; usage source: {bill.usage_source.value}" + (
        ", input unknown" if bill.input_unknown else ""
    )
    if bill.inlet is not Inlet.EVENTS:
        yield f"Inlet    {bill.inlet.value}: {EVIDENCE[bill.inlet]}"
    if bill.flags:
        yield f"Flags    {', '.join(bill.flags)}"
    for fault in billable_usage(facts_of_receipt(receipt)).faults:
        yield f"Reading  {fault}"
    if receipt.clock_ahead_seconds is not None:
        yield f"Clock    an event was dated {receipt.clock_ahead_seconds:,} s ahead of its receipt"
    yield f"Policy   {bill.cancel_policy.value}, version {bill.cancel_policy_version}"
    if receipt.rate_card is not None:
        card = receipt.rate_card
        yield f"Rates    {card.card.rate_card_id}: {card.card.provider}/{card.card.model} ({bill.model_rule})"
        yield f"         in force from {card.card.effective_from:%Y-%m-%d %H:%M %Z}; {card.provenance}"
    if bill.markup_percent:
        yield f"Markup   {cents_text(bill.markup_percent)} %, in the rates below"
    if bill.retry_of:
        yield f"Retry of {bill.retry_of}"
    if (decided := receipt.resolution) is not None:
        yield f"Decided  {decided.action.value} by {decided.resolved_by}: {decided.reason}"
    yield ""
    yield f"{'kind':<14}{'quantity':>16}{'USD per million':>20}{'US cents':>24}"
    for line in bill.lines:
        rate = cents_text(line.usd) + (f" {unit_name(line.kind)}" if line.kind in TIMED_KINDS else "")
        yield f"{line.kind.value:<14}{line.quantity:>16,}{rate:>20}{cents_text(line.usd_cents):>24}"
    yield f"{'bill':<50}{cents_text(bill.usd_cents):>24}"
    if bill.upstream_usd_cents is not None:
        difference = EXACT.subtract(bill.usd_cents, bill.upstream_usd_cents)
        yield f"{'the upstream says':<50}{cents_text(bill.upstream_usd_cents):>24}"
        yield f"{'difference':<50}{cents_text(difference):>24}"
    yield ""
    for entry in receipt.entries:
        note = f" ({entry.note})" if entry.note else ""
        where = f", on {entry.invoice}" if entry.invoice else ""
        what = entry.reason + note
        yield f"{entry.booked_at:%Y-%m-%d} {what:<39}{cents_text(entry.usd_cents):>24}  {entry.id}{where}"
    yield f"{'cost':<50}{cents_text(receipt.usd_cents) if receipt.usd_cents is not None else '-':>24}"
    yield from _draws(receipt)
    yield f"Invoice  {receipt.invoice or 'none yet'}"


def _draws(receipt: Receipt) -> Iterator[str]:
    """What grants paid of the cost, and what is left to be invoiced."""
    for draw in receipt.draws:
        what = f"{'paid by' if draw.usd_cents < 0 else 'back to'} {draw.grant_id}"
        left = f"{cents_text(draw.left_usd_cents)} left"
        yield f"{draw.booked_at:%Y-%m-%d} {what:<39}{cents_text(draw.usd_cents):>24}  for {draw.entry_id}, {left}"
    if receipt.draws:
        yield f"{'to be invoiced':<50}{cents_text(receipt.due_usd_cents):>24}"
