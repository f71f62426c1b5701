"""Files that the dashboard sends: tables as CSV, receipts, usage statements, exports of a month."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from sqlalchemy import Engine
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from metering.access.scopes import Scope
from metering.audit.make_receipt import make_receipt
from metering.audit.receipt_document import receipt_document
from metering.core.clock import utc_now
from metering.core.period import BillingPeriod
from metering.dashboard.access import needs
from metering.dashboard.arranging import Arrangement
from metering.dashboard.errors import InvalidFilterError, NotFoundError
from metering.dashboard.months import Month
from metering.dashboard.page_request import Page, PageRequest
from metering.dashboard.pages.invoice import stored_invoice
from metering.dashboard.rendering import HEADERS
from metering.dashboard.sessions import viewer_of
from metering.dashboard.tables import Table, table_csv
from metering.exports.csv_file import EXCEL_MARK
from metering.exports.download import stream_export
from metering.exports.export_month import ExportFormat, ExportKind, ExportRequest, plain_name
from metering.exports.make_statement import make_statement
from metering.months.statements.rendering import statement_html, statement_pdf
from metering.months.statements.usage_statement import UsageStatement
from metering.server.bootstrap import Service, issuer

# A CSV file is built in memory while the browser waits.
MAX_ROWS = 200_000
# An HTML statement may use its own style and nothing else: names on it are the customers'.
_STATEMENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file and its name. `inline` if the browser shows it; `policy` replaces the dashboard's content policy."""

    name: str
    media_type: str
    body: bytes
    inline: bool = False
    policy: str | None = None

    def response(self) -> Response:
        """The file as an answer, never cached."""
        headers = {
            **HEADERS,
            **({"content-security-policy": self.policy} if self.policy else {}),
            "content-disposition": f'{"inline" if self.inline else "attachment"}; filename="{self.name}"',
            "cache-control": "no-store",
        }
        return Response(self.body, headers=headers, media_type=self.media_type)


def table_file(request: PageRequest, build: Callable[[PageRequest], Page], name: str) -> File:
    """All rows of one of a page's tables, read in the snapshot of the request.

    Raises:
        NotFoundError: the page has no such table.
        InvalidFilterError: it has too many rows for a file; a part of it would look complete.
    """
    first = build(request)
    # With Excel's mark: people open these files by a double-click.
    body = EXCEL_MARK + table_csv(_pages(request, build, name, first)).encode()
    return File(name=_file_name(request, first, name), media_type="text/csv; charset=utf-8", body=body)


def _file_name(request: PageRequest, page: Page, table: str) -> str:
    """`umbrella-2026-11-models.csv`: whose, of which month, what; a table without months has the day."""
    month = page.context.get("month")
    when = month.name if isinstance(month, Month) else request.query.get("month") or f"{request.now:%Y-%m-%d}"
    whose = request.query.get("customer_id") or request.viewer.customer_id if request.viewer else None
    return plain_name(*([whose] if whose else []), when, f"{table}.csv")


def _pages(request: PageRequest, build: Callable[[PageRequest], Page], name: str, page: Page) -> Iterator[Table]:
    rows = 0
    while True:
        table = next((each for each in page.tables if each.name == name), None)
        if table is None:
            raise NotFoundError(f"this page has no table {name!r}")
        rows += len(table.rows)
        if not table.whole or (table.more and rows >= MAX_ROWS):
            raise InvalidFilterError(
                f"{table.title}: more than {rows:,} rows, too many for this file. Add filters, or export a month"
                " without a row limit: Invoices, Downloads"
            )
        yield Arrangement(request.query, rows == len(table.rows)).in_order(table)
        if table.more is None:
            return
        request = replace(request, query=QueryParams(urlsplit(table.more).query))
        page = build(request)


def receipt_file(request: PageRequest) -> File:
    """A stream's receipt, which `metering verify` recomputes without a database."""
    customer_id, stream_id = request.id("customer_id"), request.id("stream_id")
    request.customer(customer_id)
    receipt = make_receipt(request.connection, customer_id=customer_id, stream_id=stream_id, now=request.now)
    if receipt is None:
        raise NotFoundError(f"customer {customer_id!r} has no stream {stream_id!r}")
    name = plain_name("receipt", customer_id, f"{stream_id}.json")
    return File(name=name, media_type="application/json", body=receipt_document(receipt))


def statement_pdf_file(request: PageRequest) -> File:
    """An invoice's usage statement as PDF."""
    number, statement = _statement(request)
    name = f"statement-{number}.pdf"
    return File(name=name, media_type="application/pdf", body=statement_pdf(statement), inline=True)


def statement_html_file(request: PageRequest) -> File:
    """An invoice's usage statement as HTML."""
    number, statement = _statement(request)
    body = statement_html(statement).encode()
    name = f"statement-{number}.html"
    return File(name=name, media_type="text/html", body=body, inline=True, policy=_STATEMENT_POLICY)


def _statement(request: PageRequest) -> tuple[str, UsageStatement]:
    stored = stored_invoice(request)
    sender = issuer(request.service.settings)
    return stored.number, make_statement(request.connection, stored=stored, issuer=sender)


FILES: Sequence[tuple[str, Callable[[PageRequest], File]]] = (
    ("/receipt.json", receipt_file),
    ("/statement.pdf", statement_pdf_file),
    ("/statement.html", statement_html_file),
)


def export_route(service: Service, *, engine: Engine) -> Route:
    """The exports of a month: the same files as over the API."""

    @needs(Scope.EXPORTS_READ)
    def endpoint(request: Request) -> Response:
        viewer = viewer_of(request, engine=service.engine, now=utc_now())
        kind, _, format = request.path_params["name"].rpartition(".")
        if kind not in set(ExportKind) or format not in set(ExportFormat):
            raise NotFoundError("there is no such export")
        customer_id = request.query_params.get("customer_id") or None
        if customer_id is not None and "\0" in customer_id:
            raise InvalidFilterError("customer_id: must not contain NUL")
        wanted = ExportRequest(
            kind=ExportKind(kind),
            format=ExportFormat(format),
            period=BillingPeriod.parse(request.query_params.get("period", "")),
            customer_id=viewer.customer(customer_id),
            excel=request.query_params.get("excel") == "true",
        )
        return stream_export(
            engine=engine,
            request=wanted,
            issuer=service.settings.issuer_name,
            timeout=service.settings.export_timeout,
        )

    return Route("/exports/{name}", endpoint, methods=["GET"])
