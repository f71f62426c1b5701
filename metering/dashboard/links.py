"""Links from a sum to the streams that it sums."""

from collections.abc import Mapping
from datetime import UTC, datetime

from metering.dashboard.asking import link
from metering.totals.ranges import Range

# The filter for streams without an API key: a form that was left empty says nothing.
NO_KEY = "no_key"


def streams_of(*, customer_id: str | None, within: Range, **filters: str | None) -> str:
    """The final streams that ended in a range, by what the totals know of them; "" is what is not known."""
    return link("streams", **range_filters(*within), customer_id=customer_id, **known(filters))


def range_filters(start: datetime, end: datetime) -> dict[str, str | None]:
    """A range as filters of a link."""
    return {"from": _text(start), "to": _text(end)}


def known(filters: Mapping[str, str | None]) -> dict[str, str | None]:
    """Filters of a link, where a key that is not known has a filter of its own."""
    if filters.get("api_key_id") == "":
        return {**filters, "api_key_id": None, NO_KEY: "1"}
    return dict(filters)


def customer_page(customer_id: str) -> str:
    """A customer's page."""
    return link("customer", customer_id=customer_id)


def stream_page(customer_id: str, stream_id: str) -> str:
    """A stream's page."""
    return link("stream", customer_id=customer_id, stream_id=stream_id)


def invoice_page(invoice_id: str) -> str:
    """An invoice's page, by its id or number."""
    return link("invoice", invoice_id=invoice_id)


def rate_page(provider: str, model: str) -> str:
    """The page of a model's rates."""
    return link("rate", provider=provider, model=model)


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
