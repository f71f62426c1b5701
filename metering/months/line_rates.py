"""Line rates: what an invoice line sums, by usage kind and rate, so that a payer can compute it again.

They are kept with the invoice when its month is closed, and sum to the line exactly. A rate keeps the amount that
was charged. Time is rounded for each completion, to 12 decimal places of a cent: its row shows quantity x rate,
and the rounding is a row of its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from metering.core.money import EXACT, ZERO, cents_of_time, decimals_of, dollars_text, sum_cents
from metering.events.usage import Quantity, UsageKind
from metering.months.invoice import LineKind, LineSum

# In stored rows, the kind of completions without a charge: waived, written off, or nothing was used.
UNCHARGED = "uncharged"


@dataclass(frozen=True, slots=True, kw_only=True)
class LineRate:
    """The quantity and the exact amount that a line sums of one kind at one rate.

    Without a kind it counts completions without a charge. Without a rate, each completion was priced by itself:
    by what its upstream says that it cost.
    """

    kind: UsageKind | None
    quantity: Quantity
    usd_cents: Decimal
    usd_per_million: Decimal | None = None
    usd_per_hour: Decimal | None = None

    @property
    def rounding_usd_cents(self) -> Decimal:
        """What rounding each completion's time makes of quantity x rate; 0 for whatever is counted."""
        if self.usd_per_hour is None:
            return ZERO
        computed = cents_of_time(seconds=Decimal(self.quantity), usd_per_hour=self.usd_per_hour)
        return EXACT.subtract(self.usd_cents, computed)


# The rates of an invoice's lines, by line key.
RatesOfLines = Mapping[str, Sequence[LineRate]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RateRow:
    """A row beneath a line. `quantity` x `usd` per `per` units = `usd_cents`, where it has a rate.

    `unit` is empty where the quantity has none.
    """

    what: str
    usd_cents: Decimal
    quantity: Quantity | None = None
    usd: Decimal | None = None
    per: str = ""

    def rate(self, decimals: int = 2) -> str:
        """The rate in words, such as `$5.00 per 1M`, with at least this many decimals; empty without one."""
        if self.usd is None:
            return ""
        return f"{dollars_text(EXACT.scaleb(self.usd, 2), decimals=decimals)} {self.per}"


# The kinds that are priced by the thousand, by the companies that sell them, and so by the rates that people know.
_PER_THOUSAND = frozenset(
    {
        UsageKind.REQUEST,
        UsageKind.WEB_SEARCHES,
        UsageKind.STORAGE_SEARCHES,
        UsageKind.INPUT_DOCUMENT_PAGES,
        UsageKind.INPUT_ANNOTATED_DOCUMENT_PAGES,
        UsageKind.INPUT_TEXT_MESSAGES,
    }
)
NAMES = {
    UsageKind.INPUT: "Input tokens",
    UsageKind.CACHE_READ: "Cached input tokens",
    UsageKind.CACHE_READ_AUDIO: "Cached audio input tokens",
    UsageKind.CACHE_READ_IMAGE: "Cached image input tokens",
    UsageKind.CACHE_WRITE: "Cache write tokens",
    UsageKind.CACHE_WRITE_1H: "Cache write tokens, kept an hour",
    UsageKind.INPUT_AUDIO: "Audio input tokens",
    UsageKind.INPUT_IMAGE: "Image input tokens",
    UsageKind.INPUT_VIDEO: "Video input tokens",
    UsageKind.OUTPUT: "Output tokens",
    UsageKind.REASONING: "Reasoning tokens",
    UsageKind.CITATION: "Citation tokens",
    UsageKind.OUTPUT_AUDIO: "Audio output tokens",
    UsageKind.OUTPUT_IMAGE: "Image output tokens",
    UsageKind.OUTPUT_VIDEO: "Video output tokens",
    UsageKind.AUDIO_SECONDS: "Seconds of audio",
    UsageKind.INPUT_AUDIO_SECONDS: "Seconds of input audio",
    UsageKind.INPUT_CHARACTERS: "Input characters",
    UsageKind.INPUT_DOCUMENT_PAGES: "Document pages",
    UsageKind.INPUT_ANNOTATED_DOCUMENT_PAGES: "Annotated document pages",
    UsageKind.INPUT_TEXT_MESSAGES: "Text messages",
    UsageKind.WEB_SEARCHES: "Web searches",
    UsageKind.STORAGE_SEARCHES: "Storage searches",
    UsageKind.REQUEST: "Requests",
    UsageKind.UPSTREAM_COST: "Completions, each at its own price",
}


def rate_rows(rates: Sequence[LineRate]) -> list[RateRow]:
    """The rows beneath a line; they sum to it exactly."""
    rows = [_row(rate) for rate in rates]
    rounding = sum_cents(rate.rounding_usd_cents for rate in rates)
    if rounding:
        rows.append(RateRow(what="Rounding of time, to 12 decimals of a cent a completion", usd_cents=rounding))
    return rows


def _row(rate: LineRate) -> RateRow:
    if rate.kind is None:
        return RateRow(what="Completions without a charge", quantity=rate.quantity, usd_cents=rate.usd_cents)
    usd, per = rate.usd_per_million, "per 1M"
    if rate.usd_per_hour is not None:
        usd, per = rate.usd_per_hour, "per hour"
    elif usd is not None and rate.kind in _PER_THOUSAND:
        usd, per = EXACT.scaleb(usd, -3), "per 1,000"
    return RateRow(
        what=NAMES[rate.kind],
        quantity=rate.quantity,
        usd=usd,
        per=per if usd is not None else "",
        usd_cents=EXACT.subtract(rate.usd_cents, rate.rounding_usd_cents),
    )


def rate_decimals(rows: Iterable[RateRow]) -> int:
    """The decimals that the rates of rows need: one precision for a column of them."""
    return decimals_of(EXACT.scaleb(row.usd, 2) for row in rows if row.usd is not None)


def quantity_text(quantity: Quantity) -> str:
    """A quantity with thousands separators.

    >>> quantity_text(1204), quantity_text(Decimal("12.500")), quantity_text(Decimal(-3))
    ('1,204', '12.5', '-3')
    """
    return f"{EXACT.normalize(Decimal(quantity)):,f}"


def in_order(rates: Iterable[LineRate]) -> list[LineRate]:
    """Rates in the order in which a line shows them: by kind, the larger amount first; the uncharged last."""
    return sorted(
        rates,
        key=lambda rate: (
            _PLACES[rate.kind] if rate.kind is not None else len(_PLACES),
            -rate.usd_cents,
            rate.usd_per_million or rate.usd_per_hour or ZERO,
        ),
    )


_PLACES = {kind: place for place, kind in enumerate(UsageKind)}


def unexplained(line: LineSum, rates: Sequence[LineRate]) -> Decimal:
    """What the rates of a line leave of its amount, in exact cents: 0, but for a bug.

    Credits, corrections and what is carried over have no rates.
    """
    if line.kind in (LineKind.CREDIT, LineKind.CORRECTION, LineKind.CARRIED_IN, LineKind.PREPAID):
        return ZERO
    return EXACT.subtract(line.usd_cents, sum_cents(rate.usd_cents for rate in rates))
