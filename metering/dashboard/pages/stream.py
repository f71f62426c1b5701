"""The page of a stream, live while it is open; and the part of it that opens beside a list."""

from collections.abc import Sequence

from metering.dashboard.links import customer_cell, customer_page, link, stream_cell
from metering.dashboard.page_request import Page, PageRequest
from metering.dashboard.stream_details import StreamDetails, read_details
from metering.dashboard.tables import Cell, Kind
from metering.streams.bill import Bill, PriceSource
from metering.streams.settlement import State
from metering.streams.stream import BillableUsage, StreamFacts, billable_usage


def stream(request: PageRequest) -> Page:
    """The page."""
    customer_id, stream_id = request.id("customer_id"), request.id("stream_id")
    # The events stand outside of the part that is reloaded.
    found = read_details(request, customer_id, stream_id, with_events=not request.refreshes)
    return Page(
        template="stream.html.j2",
        title=f"Stream {stream_id}",
        section="streams",
        customer_id=customer_id,
        crumbs=[("Streams", link("streams")), (customer_id, customer_page(customer_id))],
        context={"found": found, "facts": _facts(found, for_customer=request.viewer.customer_id is not None)},
        tables=[found.lines, found.entries, found.draws, found.events],
    )


def sheet(request: PageRequest) -> Page:
    """The part that opens beside a list: no frame around it."""
    customer_id, stream_id = request.id("customer_id"), request.id("stream_id")
    return Page(
        template="stream_sheet.html.j2",
        title=f"Stream {stream_id}",
        section="streams",
        customer_id=customer_id,
        context={"found": read_details(request, customer_id, stream_id)},
    )


def _facts(found: StreamDetails, *, for_customer: bool) -> Sequence[tuple[str, Cell, Kind]]:
    """The stream's properties, by name. A customer has no use for how its usage came in."""
    stream, facts, bill, receipt = found.stream, found.stream.facts, found.bill, found.receipt
    start = facts.start.event if facts.start else None
    end = facts.end.event if facts.end else None
    billable = billable_usage(facts)
    rows: list[tuple[str, Cell, Kind]] = [
        ("Customer", customer_cell(facts.customer_id), Kind.TEXT),
        ("Reason", Cell(None if for_customer else stream.state_reason), Kind.PROSE),
        ("Response model", Cell(end.response_model if end else None), Kind.TEXT),
        ("API key", Cell(start.api_key_id if start else None), Kind.TEXT),
        ("Outcome", Cell(bill.outcome.value if bill and stream.state is not State.OPEN else None), Kind.STATE),
        ("Usage source", Cell(billable.source.value), Kind.TEXT),
        ("Inlet", Cell(None if for_customer else facts.inlet.value), Kind.TEXT),
        *_doubts(bill, billable, facts),
        ("Cancel policy", Cell(_policy(bill) if bill else None), Kind.TEXT),
        ("Retry of", stream_cell(facts.customer_id, bill.retry_of if bill else None), Kind.CODE),
        ("Rate card", Cell(bill.rate_card_id if bill else None, found.rates), Kind.CODE),
    ]
    if receipt.resolution is not None:
        decided = receipt.resolution
        rows.append(("Decision", Cell(f"{decided.action} by {decided.resolved_by}: {decided.reason}"), Kind.TEXT))
    return rows


def _doubts(bill: Bill | None, billable: BillableUsage, facts: StreamFacts) -> list[tuple[str, Cell, Kind]]:
    """What a person should know of the usage and the price; empty for most streams."""
    rows: list[tuple[str, Cell, Kind]] = []
    if bill is not None and bill.flags:
        rows.append(("Flags", Cell(", ".join(flag.value.replace("_", " ") for flag in bill.flags)), Kind.TEXT))
    rows += [("Reading", Cell(fault), Kind.TEXT) for fault in billable.faults]
    if facts.clock_ahead_seconds is not None:
        rows.append(("Clock", Cell(f"{facts.clock_ahead_seconds:,} s ahead of the receipt"), Kind.TEXT))
    if bill is not None and bill.response_provider is not None:
        rows.append(("Response provider", Cell(bill.response_provider), Kind.TEXT))
    if bill is not None and bill.upstream_usd_cents is not None:
        rows.append(("The upstream says", Cell(bill.upstream_usd_cents), Kind.EXACT_MONEY))
    if bill is not None and bill.price_source is PriceSource.UPSTREAM:
        rows.append(("Price", Cell("the upstream's own cost"), Kind.TEXT))
    return rows


def _policy(bill: Bill) -> str:
    version = bill.cancel_policy_version
    return f"{bill.cancel_policy}, version {version}" if version else f"{bill.cancel_policy} (default)"
