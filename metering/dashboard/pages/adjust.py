"""The page that shows what a credit or a correction would book, before it is booked."""

import secrets
from dataclasses import dataclass
from decimal import Decimal

from metering.core.money import EXACT
from metering.core.period import BillingPeriod
from metering.core.time_zones import shown_zone
from metering.customers.queries.customers import get_customer
from metering.dashboard.errors import InvalidFilterError, NotFoundError
from metering.dashboard.links import customer_page, link
from metering.dashboard.page_request import Page, PageRequest
from metering.ledger.entries import ManualKind
from metering.ledger.queries.streams import get_stream

# The most digits that a person writes; exact amounts of streams have fewer.
_MOST_PLACES, _MOST = 12, Decimal(1_000_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An adjustment that is not booked. `usd_cents` is exact, below 0 for what the customer gets back."""

    customer_id: str
    kind: ManualKind
    usd_cents: Decimal
    reason: str
    stream_id: str | None


def adjust(request: PageRequest) -> Page:
    """The page."""
    if request.viewer.customer_id is not None:
        raise NotFoundError("your key cannot book adjustments")
    draft = draft_of({name: request.query.get(name, "") for name in FIELDS})
    customer = get_customer(request.connection, customer_id=draft.customer_id, now=request.now)
    if customer is None:
        raise NotFoundError(f"there is no customer {draft.customer_id!r}")
    stream = None
    if draft.stream_id is not None:
        stream = get_stream(request.connection, customer_id=draft.customer_id, stream_id=draft.stream_id)
        if stream is None or stream.charge is None:
            raise InvalidFilterError(f"stream_id: the customer has no charge for {draft.stream_id!r}")
    zone = shown_zone(customer.time_zone)
    before = stream.cost_usd_cents if stream else customer.month_to_date_usd_cents
    assert before is not None, "a charged stream has a cost"
    return Page(
        template="adjust.html.j2",
        title="Book a credit or a correction",
        section="customers",
        crumbs=[
            ("Customers", link("customers")),
            (customer.name or draft.customer_id, customer_page(draft.customer_id)),
        ],
        context={
            "draft": draft,
            "customer": customer,
            "period": BillingPeriod.containing(at=request.now, time_zone=zone),
            "before": before,
            "after": EXACT.add(before, draft.usd_cents),
            # Sent with the form, so that sending it twice books once.
            "once": secrets.token_hex(16),
            "back": customer_page(draft.customer_id),
        },
    )


FIELDS = ("customer_id", "kind", "usd", "reason", "stream_id")


def draft_of(given: dict[str, str]) -> Draft:
    """The adjustment that a form describes, in dollars.

    Raises:
        InvalidFilterError: a field is missing or wrong; the text names it.
    """
    kind = given["kind"].strip()
    if kind not in set(ManualKind):
        raise InvalidFilterError(f"kind: one of {', '.join(ManualKind)}")
    usd = _dollars(given["usd"])
    if kind == ManualKind.CREDIT and usd > 0:
        # People write the amount that they give.
        usd = -usd
    if not given["customer_id"] or not given["reason"].strip():
        raise InvalidFilterError("reason: required, the invoice shows it")
    if len(given["reason"]) > 500 or "\0" in "".join(given.values()):
        raise InvalidFilterError("reason: at most 500 characters, none of them NUL")
    return Draft(
        customer_id=given["customer_id"],
        kind=ManualKind(kind),
        usd_cents=EXACT.scaleb(usd, 2),
        reason=given["reason"].strip(),
        stream_id=given["stream_id"] or None,
    )


def _dollars(text: str) -> Decimal:
    """An amount in dollars as people write it: `10`, `10.50`, `-0.004`, `$1,000`."""
    plain = text.strip().replace("$", "").replace(",", "")
    digits = plain.lstrip("+-").replace(".", "", 1)
    expected = f"usd: expected an amount in dollars such as 12.50, got {text[:40]!r}"
    if not digits.isascii() or not digits.isdigit():
        raise InvalidFilterError(expected)
    amount = Decimal(plain)
    exponent = amount.as_tuple().exponent
    if not isinstance(exponent, int) or -exponent > _MOST_PLACES or abs(amount) > _MOST or not amount:
        raise InvalidFilterError(f"{expected}: other than 0, with at most {_MOST_PLACES} decimal places")
    return amount
