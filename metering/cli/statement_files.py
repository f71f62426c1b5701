"""Writes an invoice's usage statement for `metering invoices show`: importing what draws a PDF takes long."""

from pathlib import Path

from sqlalchemy import Connection

from metering.exports.make_statement import make_statement
from metering.months.statements.rendering import statement_html, statement_pdf
from metering.months.store.invoices import StoredInvoice
from metering.server.bootstrap import issuer
from metering.server.settings import Settings
from metering.server.terminal.output import say


def write_statement(
    connection: Connection, *, stored: StoredInvoice, settings: Settings, pdf: Path | None, html: Path | None
) -> None:
    """Write the statement to the files that are given."""
    statement = make_statement(connection, stored=stored, issuer=issuer(settings))
    if pdf is not None:
        pdf.write_bytes(statement_pdf(statement))
        say(f"wrote {pdf}")
    if html is not None:
        html.write_text(statement_html(statement))
        say(f"wrote {html}")
