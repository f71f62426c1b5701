"""Files that the dashboard hands out: receipts and usage statements, to whoever may see what they are of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from metering.audit.make_receipt import make_receipt
from metering.audit.receipt_document import receipt_document
from metering.dashboard.asking import Asked
from metering.dashboard.errors import NoSuchThingError
from metering.dashboard.pages.invoices import stored_invoice
from metering.exports.make_statement import make_statement
from metering.months.statements.rendering import statement_html, statement_pdf
from metering.months.statements.usage_statement import UsageStatement
from metering.server.bootstrap import issuer


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file, its name, and whether it is shown rather than kept. `policy` is its own, where it is a page."""

    name: str
    media_type: str
    body: bytes
    inline: bool = False
    policy: str | None = None


# A statement's own style, and nothing else: names on it are the customers'.
_STATEMENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def receipt_file(asked: Asked) -> File:
    """A stream's receipt, which `metering verify` redoes without a database."""
    customer_id, stream_id = asked.id("customer_id"), asked.id("stream_id")
    asked.customer(customer_id)
    receipt = make_receipt(asked.connection, customer_id=customer_id, stream_id=stream_id, now=asked.now)
    if receipt is None:
        raise NoSuchThingError(f"customer {customer_id!r} has no stream {stream_id!r}")
    return File(name="receipt.json", media_type="application/json", body=receipt_document(receipt))


def statement_pdf_file(asked: Asked) -> File:
    """An invoice's usage statement as a PDF."""
    number, statement = _statement(asked)
    name = f"statement-{number}.pdf"
    return File(name=name, media_type="application/pdf", body=statement_pdf(statement), inline=True)


def statement_html_file(asked: Asked) -> File:
    """The same as a page."""
    number, statement = _statement(asked)
    body = statement_html(statement).encode()
    name = f"statement-{number}.html"
    return File(name=name, media_type="text/html", body=body, inline=True, policy=_STATEMENT_POLICY)


def _statement(asked: Asked) -> tuple[str, UsageStatement]:
    stored = stored_invoice(asked)
    sent_by = issuer(asked.service.settings)
    return stored.number, make_statement(asked.connection, stored=stored, issuer=sent_by)


FILES: Sequence[tuple[str, Callable[[Asked], File]]] = (
    ("/receipt.json", receipt_file),
    ("/statement.pdf", statement_pdf_file),
    ("/statement.html", statement_html_file),
)
