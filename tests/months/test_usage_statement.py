"""Usage statements: what an invoice says, for its customer, as a page and as a PDF."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from importlib.resources import files
from io import BytesIO

import pytest
from pypdf import PdfReader

from metering.core.money import dollars_text
from metering.core.period import BillingPeriod
from metering.events.usage import Usage, UsageKind
from metering.months.invoice import ClosedPeriod, LineKind, LineSum, Previous, make_invoice
from metering.months.line_rates import LineRate, RatesOfLines, unexplained
from metering.months.statements.rendering import statement_html, statement_pdf
from metering.months.statements.usage_statement import Issuer, UsageStatement, usage_statement
from metering.months.store.invoices import StoredInvoice

BEGIN, END = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)


def usage_line(number: int, usd_cents: str = "100.4062", **changes: object) -> LineSum:
    given: dict[str, object] = {
        "kind": LineKind.USAGE,
        "usd_cents": Decimal(usd_cents),
        "starts_at": BEGIN,
        "ends_at": END,
        "provider": "anthropic",
        "model": f"claude-{number}",
        "stream_count": 1204,
        "usage": Usage(input_tokens=980_112, output_tokens=44_370),
        **changes,
    }
    return LineSum(**given)  # type: ignore[arg-type]


def statement(
    *sums: LineSum, name: str | None = "Acme Ltd", minimum: int = 50, rates: RatesOfLines | None = None
) -> UsageStatement:
    closed = ClosedPeriod(
        customer_id="acme",
        period=BillingPeriod(2026, 10),
        time_zone="Europe/Berlin",
        starts_at=BEGIN - timedelta(hours=2),
        ends_at=END - timedelta(hours=1),
        closed_at=END,
        closed_by="test",
        force_reason=None,
        entry_count=1204,
        seal=bytes(32),
    )
    before = Previous(invoice_id="inv_0", remainder_usd_cents=Decimal("0.25"), period=BillingPeriod(2026, 9))
    invoice = make_invoice(closed=closed, sums=sums, previous=before, minimum_cents=minimum)
    stored = StoredInvoice(invoice=invoice, number="2026-10-000007", closed=closed, created_at=END)
    issuer = Issuer(name="Gateway Inc.", address=["1 Main Street", "Springfield"])
    return usage_statement(
        stored=stored,
        rates=rates or {},
        issuer=issuer,
        customer_name=name,
        customer_address=["Invalidenstr. 1", "10115 Berlin"],
        stripe_number="ABC-0001",
    )


def text_of(pdf: bytes) -> str:
    return "\n".join(page.extract_text() for page in PdfReader(BytesIO(pdf)).pages)


@pytest.mark.parametrize(
    "render", [statement_html, lambda each: text_of(statement_pdf(each))], ids=["html", "pdf"]
)
def test_it_says_who_what_when_and_how_much(render: object) -> None:
    shown = " ".join(render(statement(usage_line(1))).split())  # type: ignore[operator]
    for text in (
        "Usage statement",
        "2026-10-000007",
        "Acme Ltd Invalidenstr. 1 10115 Berlin acme",
        "Gateway Inc.",
        "Springfield",
        "1 October 2026 to 31 October 2026 (Europe/Berlin)",
        "claude-1 (anthropic): 1,204 completions, 980,112 input and 44,370 output tokens",
        "$1.004062",
        "Carried over from 2026-09",
        "$0.0025",
        "$1.00",
        "$0.006562",
        "ABC-0001",
        "0" * 64,
    ):
        assert text in shown, text


@pytest.mark.parametrize(
    "render", [statement_html, lambda each: text_of(statement_pdf(each))], ids=["html", "pdf"]
)
def test_a_line_shows_quantity_times_rate_for_each_kind_and_rate(render: object) -> None:
    line = usage_line(1, "101.1")
    kinds = [
        (UsageKind.INPUT, 100_000, {"usd_per_million": Decimal(5)}, "50"),
        (UsageKind.INPUT, 50_000, {"usd_per_million": Decimal("7.5")}, "37.5"),
        (UsageKind.CACHE_READ, 7_200, {"usd_per_million": Decimal("0.5")}, "0.36"),
        (UsageKind.OUTPUT, 5_000, {"usd_per_million": Decimal(25)}, "12.5"),
        (UsageKind.REQUEST, 148, {"usd_per_million": Decimal(50)}, "0.74"),
        (None, 7, {}, "0"),
    ]
    rates = [
        LineRate(kind=kind, quantity=count, usd_cents=Decimal(cents), **rate)  # type: ignore[arg-type]
        for kind, count, rate, cents in kinds
    ]
    assert unexplained(line, rates) == 0
    shown = render(statement(line, rates={line.line_key: rates}))  # type: ignore[operator]
    plain = " ".join(re.sub(r"<[^>]+>", " ", shown).split())
    for text in (
        "Input tokens 100,000 $5.00 per 1M $0.5000",
        "Input tokens 50,000 $7.50 per 1M $0.3750",
        "Cached input tokens 7,200 $0.50 per 1M $0.0036",
        "Requests 148 $0.05 per 1,000 $0.0074",
        "Completions without a charge 7 $0.0000",
    ):
        assert text in plain, (text, plain)


def test_exact_amounts_have_one_precision_and_the_billed_column_adds_up() -> None:
    shown = statement(usage_line(1, "100.4062"), usage_line(2, "3.1"), usage_line(3, "0.5"))
    exact = [row.exact for row in shown.rows] + [amount for _, amount, _ in shown.rounding]
    assert {len(text.partition(".")[2]) for text in exact} == {6}
    billed = [row.billed for row in shown.rows] + [cents for _, _, cents in shown.rounding if cents]
    assert sum(Decimal(text.strip("$")) for text in billed) == Decimal(shown.total[1].strip("$"))


def test_the_rounding_is_told_once_step_by_step() -> None:
    shown = statement(usage_line(1))
    assert [(name, exact) for name, exact, _ in shown.rounding] == [
        ("Usage, adjustments and credits", "$1.004062"),
        ("Carried over from 2026-09", "$0.002500"),
        ("Exact total", "$1.006562"),
        ("Rounded down once, to whole cents", "$1.000000"),
        ("Carried over to the next statement", "$0.006562"),
    ]
    assert all("Carried over" not in row.what for row in shown.rows)


def test_an_amount_keeps_every_digit_and_is_never_nothing_when_it_is_something() -> None:
    assert dollars_text(Decimal("0.0026175")) == "$0.000026175"
    assert dollars_text(Decimal("123456789")) == "$1,234,567.89"
    assert dollars_text(Decimal("1E+3")) == "$10.00"
    assert dollars_text(Decimal("-0.5")) == "-$0.005"


def test_late_usage_shows_its_own_dates() -> None:
    late = usage_line(1, kind=LineKind.LATE_USAGE, month="2026-09", starts_at=datetime(2026, 9, 3, tzinfo=UTC),
                      ends_at=datetime(2026, 9, 9, tzinfo=UTC))  # fmt: skip
    shown = statement_html(statement(late))
    assert "Late usage of 2026-09" in shown
    assert "3 September 2026 to 9 September 2026" in shown


def test_a_month_below_the_minimum_says_that_nothing_is_billed() -> None:
    shown = statement_html(statement(usage_line(1, "3")))
    assert "Amounts below $0.50 are not billed" in shown
    assert '<td class="amount">$0.00</td>' in shown


def test_what_names_hold_is_text_and_never_markup() -> None:
    hostile = "<script>alert(1)</script> & <b>x</b>"
    rendered = statement(usage_line(1, model=hostile), name=hostile)
    assert "<script>" not in statement_html(rendered)
    assert hostile in " ".join(text_of(statement_pdf(rendered)).split())


@pytest.mark.parametrize(
    "name",
    [
        "Żółw Kőfal Ağaç",
        "Ελληνικά",
        "Тарас Шевченко",
        "杭州人工智能",
        "株式会社テスト",
        "주식회사 한국",
        "Ünï 杭州 & <Co>",
    ],
)
def test_names_in_any_script_are_in_the_pdf(name: str) -> None:
    shown = text_of(statement_pdf(statement(usage_line(1), name=name)))
    assert name.split() == [word for word in shown.split() if word in name.split()][: len(name.split())]


def test_the_fonts_are_those_whose_checksums_are_beside_them() -> None:
    folder = files("metering.months.statements") / "fonts"
    sums = dict(reversed(line.split()) for line in (folder / "SHA256SUMS").read_text().splitlines())
    fonts = {each.name: each for each in folder.iterdir() if each.name.endswith(".ttf")}
    assert sums == {name: sha256(each.read_bytes()).hexdigest() for name, each in fonts.items()}


def test_a_long_statement_goes_on_over_pages_and_loses_no_line() -> None:
    rendered = statement(*(usage_line(number) for number in range(120)))
    pdf = statement_pdf(rendered)
    text = text_of(pdf)
    assert len(PdfReader(BytesIO(pdf)).pages) > 3
    assert all(f"claude-{number} " in text for number in range(120))


def test_the_same_statement_is_the_same_file() -> None:
    assert statement_pdf(statement(usage_line(1))) == statement_pdf(statement(usage_line(1)))
