"""A small web page with the invoices, and one with each invoice's lines and credit notes."""

from datetime import UTC, datetime
from html import escape
from itertools import islice
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from metering.lab.stripe_local.invoice_lines import lines_of
from metering.lab.stripe_local.store import Document, Store

_PAGE = 50
_POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
p.note { border: 1px solid; border-radius: .4rem; padding: .5rem .8rem; }
div.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; vertical-align: top; border-bottom: 1px solid #8886; }
td.amount, th.amount { text-align: right; font-variant-numeric: tabular-nums; }
"""


def page_routes(store: Store) -> list[Route]:
    """The routes of the list, of an invoice, and of the stylesheet."""

    async def index(request: Request) -> Response:
        return _html("Invoices", _index(store, request.query_params.get("starting_after")))

    async def invoice(request: Request) -> Response:
        found = store.find("invoice", request.path_params["invoice_id"])
        if found is None:
            return _html(
                "Invoice not found", "<p>This invoice does not exist. <a href='/'>All invoices</a></p>", 404
            )
        return _html(found["number"] or found["id"], _invoice(store, found))

    async def style(_: Request) -> Response:
        return Response(_STYLE, media_type="text/css")

    return [Route("/", index), Route("/invoices/{invoice_id}", invoice), Route("/style.css", style)]


def _html(title: str, body: str, status: int = 200) -> Response:
    text = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(title)} - local Stripe</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="/style.css"></head>
<body><p class="note">A local stand-in for Stripe. No money moves.</p><h1>{escape(title)}</h1>{body}</body></html>
"""
    headers = {"content-security-policy": _POLICY, "stripe-local": "1"}
    return Response(text, status, headers, "text/html")


def _index(store: Store, after: str | None) -> str:
    found = list(islice(store.walk("invoice", beyond=after), _PAGE + 1))
    if not found:
        return "<p>No invoices yet. Close a month: <code>metering invoices run --period 2026-10</code></p>"
    shown = found[:_PAGE]
    names = ("Number", "Customer", "Status", "Total", "Created", "For")
    rows = [
        (
            f"<a href='/invoices/{escape(each['id'])}'>{escape(each['number'] or each['id'])}</a>",
            escape(each["customer_name"] or each["customer"]),
            escape(each["status"]),
            _amount(each["total"]),
            _moment(each["created"]),
            escape(each["metadata"].get("metering_invoice", each["description"] or "")),
        )
        for each in shown
    ]
    last = escape(shown[-1]["id"])
    older = f"<p><a href='/?starting_after={last}'>Older</a></p>" if len(found) > _PAGE else ""
    return _table(names, rows, amounts={3}) + older


def _invoice(store: Store, invoice: Document) -> str:
    facts = [
        ("Id", escape(invoice["id"])),
        ("Customer", escape(invoice["customer"])),
        ("Status", escape(invoice["status"])),
        ("Total", _amount(invoice["total"])),
        ("Remaining", _amount(invoice["amount_remaining"])),
        *((name, _moment(at)) for name, at in _dates(invoice) if at is not None),
        ("Description", escape(invoice["description"] or "")),
        *((escape(key), escape(value)) for key, value in invoice["metadata"].items()),
    ]
    lines = [
        (escape(line["description"] or ""), _amount(line["amount"]), escape(line["id"]))
        for line in lines_of(store, invoice["id"])
    ]
    notes = [
        (escape(note["number"]), _amount(note["amount"]), escape(note["memo"] or note["reason"] or ""))
        for note in store.where("credit_note", invoice=invoice["id"])
    ]
    credited = (
        f"<h2>Credit notes</h2>{_table(('Number', 'Amount', 'Reason'), notes, amounts={1})}" if notes else ""
    )
    listed = f"<h2>Lines</h2>{_table(('Description', 'Amount', 'Id'), lines, amounts={1})}"
    return f"{_table(('', ''), facts, amounts=set())}{listed}{credited}<p><a href='/'>All invoices</a></p>"


def _dates(invoice: Document) -> list[tuple[str, int | None]]:
    done = invoice["status_transitions"]
    return [("Finalized", done["finalized_at"]), ("Due", invoice["due_date"]), ("Paid", done["paid_at"])]


def _table(names: tuple[str, ...], rows: Any, *, amounts: set[int]) -> str:
    def cells(tag: str, values: Any) -> str:
        return "".join(
            f"<{tag}{' class=amount' if place in amounts else ''}>{value}</{tag}>"
            for place, value in enumerate(values)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<div class='wide'><table><tr>{cells('th', names)}</tr>{body}</table></div>"


def _amount(cents: int) -> str:
    return f"{'-' if cents < 0 else ''}${abs(cents) // 100:,}.{abs(cents) % 100:02d}"


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
