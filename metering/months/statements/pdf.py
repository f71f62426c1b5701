"""A usage statement as a PDF: A4, as many pages as it has lines, its text selectable."""

from io import BytesIO
from typing import Any

from reportlab.lib.colors import HexColor
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from metering.months.statements.pdf_text import BOLD, TEXT, markup
from metering.months.statements.usage_statement import UsageStatement

_MARGIN = 18 * mm
_WIDTH = A4[0] - 2 * _MARGIN
_LINE, _FAINT = HexColor("#cccccc"), HexColor("#555555")

_TEXT = ParagraphStyle("text", fontName=TEXT, fontSize=8.5, leading=12)
_RIGHT = ParagraphStyle("right", parent=_TEXT, alignment=TA_RIGHT)
_BOLD = ParagraphStyle("bold", parent=_TEXT, fontName=BOLD)
_BOLD_RIGHT = ParagraphStyle("bold right", parent=_BOLD, alignment=TA_RIGHT)
_SMALL = ParagraphStyle("small", parent=_TEXT, fontSize=7, leading=10, textColor=_FAINT)
_TITLE = ParagraphStyle("title", parent=_BOLD, fontSize=17, leading=22, spaceAfter=6)


def statement_pdf(statement: UsageStatement) -> bytes:
    """The document. The same statement gives the same bytes."""
    out = BytesIO()
    document = SimpleDocTemplate(
        out,
        pagesize=A4,
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN,
        title=f"{statement.title} {statement.facts[0][1]}",
        author=statement.issuer.name,
        invariant=1,
    )
    document.build(
        [
            _head(statement),
            Spacer(0, 5 * mm),
            _facts(statement),
            Spacer(0, 7 * mm),
            _lines(statement),
            Spacer(0, 6 * mm),
            *(Paragraph(markup(note), _SMALL) for note in statement.notes),
        ],
        onFirstPage=_footer(statement),
        onLaterPages=_footer(statement),
    )
    return out.getvalue()


def _head(statement: UsageStatement) -> Table:
    issuer = [Paragraph(markup(statement.issuer.name), _BOLD_RIGHT)]
    issuer += [Paragraph(markup(line), _RIGHT) for line in statement.issuer.address]
    customer = [Paragraph(markup(line), _TEXT) for line in statement.customer]
    return _table([[[Paragraph(markup(statement.title), _TITLE), *customer], issuer]], (0.6, 0.4))


def _facts(statement: UsageStatement) -> Table:
    rows = [[Paragraph(markup(name), _SMALL), Paragraph(markup(value), _TEXT)] for name, value in statement.facts]
    return _table(rows, (0.15, 0.85))


def _lines(statement: UsageStatement) -> Table:
    head = [
        Paragraph("What was used", _BOLD),
        Paragraph("Exact amount", _BOLD_RIGHT),
        Paragraph("Billed", _BOLD_RIGHT),
    ]
    rows: list[list[Any]] = [head]
    for row in statement.rows:
        what: list[Any] = [Paragraph(markup(row.what), _TEXT)]
        if row.when:
            what.append(Paragraph(markup(row.when), _SMALL))
        rows.append([what, Paragraph(row.exact, _RIGHT), Paragraph(row.billed, _RIGHT)])
    rows += [[Paragraph(markup(name), _TEXT), Paragraph(value, _RIGHT), ""] for name, value in statement.sums]
    name, value = statement.total
    rows.append([Paragraph(markup(name), _BOLD), "", Paragraph(value, _BOLD_RIGHT)])
    style = [
        ("LINEBELOW", (0, 0), (-1, -2), 0.4, _LINE),
        ("LINEABOVE", (0, -1), (-1, -1), 1, HexColor("#000000")),
    ]
    return _table(rows, (0.6, 0.22, 0.18), repeat=1, style=style)


def _table(
    rows: list[list[Any]], shares: tuple[float, ...], *, repeat: int = 0, style: list[Any] | None = None
) -> Table:
    plain = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("RIGHTPADDING", (0, 0), (-1, -1), 0),
        ("TOPPADDING", (0, 0), (-1, -1), 2.5),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 2.5),
    ]
    widths = [share * _WIDTH for share in shares]
    return Table(rows, colWidths=widths, repeatRows=repeat, style=TableStyle([*plain, *(style or [])]))


def _footer(statement: UsageStatement) -> Any:
    def draw(canvas: Any, _: Any) -> None:
        canvas.setFont(TEXT, 7)
        canvas.setFillColor(_FAINT)
        canvas.drawString(_MARGIN, _MARGIN / 2, f"{statement.title} {statement.facts[0][1]}")
        canvas.drawRightString(A4[0] - _MARGIN, _MARGIN / 2, f"Page {canvas.getPageNumber()}")

    return draw
