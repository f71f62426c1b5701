"""Renderings of a usage statement: an HTML page in one file, and a PDF with selectable text.

DejaVu (fonts/, with its licence and checksums) is embedded in the PDF and covers Latin, Greek, Cyrillic, Hebrew
and more. Chinese, Japanese and Korean have too many glyphs to ship: such runs of text name one of the standard
fonts that PDF readers include.
"""

from functools import cache
from importlib.resources import as_file, files
from io import BytesIO
from itertools import groupby
from typing import Any
from xml.sax.saxutils import escape

from jinja2 import Environment, StrictUndefined
from reportlab.lib.colors import HexColor
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.pdfmetrics import registerFont
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from metering.months.statements.usage_statement import RateText, UsageStatement

_FILES = files("metering.months.statements")
_environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
_template = _environment.from_string(_FILES.joinpath("statement.html.j2").read_text())


def statement_html(statement: UsageStatement) -> str:
    """The statement as an HTML page with its style in it, for print and for phones. All names are escaped."""
    return _template.render(statement=statement)


_REGULAR, _BOLD_FACE = "Text", "TextBold"
_CHINESE, _JAPANESE, _KOREAN = "STSong-Light", "HeiseiKakuGo-W5", "HYGothic-Medium"


@cache
def _embedded() -> frozenset[int]:
    """Register the fonts, which takes a tenth of a second; returns the code points that embedded ones cover."""
    folder = _FILES.joinpath("fonts")
    with as_file(folder) as path:
        text = TTFont(_REGULAR, str(path / "DejaVuSans.ttf"))
        bold = TTFont(_BOLD_FACE, str(path / "DejaVuSans-Bold.ttf"))
    for font in (text, bold, *map(UnicodeCIDFont, (_CHINESE, _JAPANESE, _KOREAN))):
        registerFont(font)
    return frozenset(text.face.charToGlyph) & frozenset(bold.face.charToGlyph)


_MARGIN = 18 * mm
_WIDTH = A4[0] - 2 * _MARGIN
_LINE, _FAINT = HexColor("#cccccc"), HexColor("#555555")

_TEXT = ParagraphStyle("text", fontName=_REGULAR, fontSize=8.5, leading=12)
_RIGHT = ParagraphStyle("right", parent=_TEXT, alignment=TA_RIGHT)
_BOLD = ParagraphStyle("bold", parent=_TEXT, fontName=_BOLD_FACE)
_BOLD_RIGHT = ParagraphStyle("bold right", parent=_BOLD, alignment=TA_RIGHT)
_SMALL = ParagraphStyle("small", parent=_TEXT, fontSize=7, leading=10, textColor=_FAINT)
_INDENTED = ParagraphStyle("indented", parent=_SMALL, leftIndent=3 * mm)
_SMALL_RIGHT = ParagraphStyle("small right", parent=_SMALL, alignment=TA_RIGHT)
_TITLE = ParagraphStyle("title", parent=_BOLD, fontSize=17, leading=22, spaceAfter=6)


def statement_pdf(statement: UsageStatement) -> bytes:
    """The statement as a PDF of A4 pages. The same statement gives the same bytes."""
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
            *(Paragraph(_markup(note), _SMALL) for note in statement.notes),
        ],
        onFirstPage=_footer(statement),
        onLaterPages=_footer(statement),
    )
    return out.getvalue()


def _head(statement: UsageStatement) -> Table:
    issuer = [Paragraph(_markup(statement.issuer.name), _BOLD_RIGHT)]
    issuer += [Paragraph(_markup(line), _RIGHT) for line in statement.issuer.address]
    customer = [Paragraph(_markup(line), _TEXT) for line in statement.customer]
    return _table([[[Paragraph(_markup(statement.title), _TITLE), *customer], issuer]], (0.6, 0.4))


def _facts(statement: UsageStatement) -> Table:
    rows = [
        [Paragraph(_markup(name), _SMALL), Paragraph(_markup(value), _TEXT)] for name, value in statement.facts
    ]
    return _table(rows, (0.15, 0.85))


def _lines(statement: UsageStatement) -> Table:
    names = ("Quantity", "Rate", "Exact amount", "Billed")
    rows: list[list[Any]] = [[Paragraph("Usage", _BOLD), *(Paragraph(name, _BOLD_RIGHT) for name in names)]]
    style: list[Any] = [("LINEBELOW", (0, 0), (-1, 0), 0.4, _LINE)]
    for row in statement.rows:
        _wide(style, len(rows))
        what: list[Any] = [Paragraph(_markup(row.what), _BOLD)]
        if row.when:
            what.append(Paragraph(_markup(row.when), _SMALL))
        rows.append([what, "", "", Paragraph(row.exact, _BOLD_RIGHT), Paragraph(row.billed, _BOLD_RIGHT)])
        rows += [_rate(rate) for rate in row.rates]
        # A line and its first rate stay on one page.
        if row.rates:
            first = len(rows) - len(row.rates)
            style.append(("NOSPLIT", (0, first - 1), (-1, first)))
        style.append(("LINEBELOW", (0, len(rows) - 1), (-1, len(rows) - 1), 0.4, _LINE))
    if not statement.rows:
        rows.append([Paragraph("No usage.", _TEXT), "", "", "", ""])
    begin = len(rows)
    rows.append([Paragraph("How it was rounded", _BOLD), "", "", "", ""])
    for name, exact, billed in statement.rounding:
        _wide(style, len(rows))
        rows.append([Paragraph(_markup(name), _TEXT), "", "", Paragraph(exact, _RIGHT), Paragraph(billed, _RIGHT)])
    name, value = statement.total
    rows.append([Paragraph(_markup(name), _BOLD), "", "", "", Paragraph(value, _BOLD_RIGHT)])
    style += [
        ("NOSPLIT", (0, begin), (-1, -1)),
        ("TOPPADDING", (0, begin), (-1, begin), 10),
        ("LINEABOVE", (0, -1), (-1, -1), 1, HexColor("#000000")),
    ]
    return _table(rows, (0.3, 0.17, 0.19, 0.22, 0.12), repeat=1, style=style)


def _wide(style: list[Any], row: int) -> None:
    style.append(("SPAN", (0, row), (2, row)))


def _rate(rate: RateText) -> list[Any]:
    values = (rate.quantity, rate.rate, rate.amount)
    return [Paragraph(_markup(rate.what), _INDENTED), *(Paragraph(value, _SMALL_RIGHT) for value in values), ""]


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
        canvas.setFont(_REGULAR, 7)
        canvas.setFillColor(_FAINT)
        canvas.drawString(_MARGIN, _MARGIN / 2, f"{statement.title} {statement.facts[0][1]}")
        canvas.drawRightString(A4[0] - _MARGIN, _MARGIN / 2, f"Page {canvas.getPageNumber()}")

    return draw


def _markup(text: str) -> str:
    """Text as markup of a paragraph: escaped, and each run in a font that covers it."""
    embedded_points = _embedded()
    others = [character for character in text if ord(character) not in embedded_points]
    if not others:
        return escape(text)
    other = _font_for(others)
    runs = groupby(text, key=lambda character: ord(character) in embedded_points)
    return "".join(
        escape("".join(run)) if embedded else f'<font name="{other}">{escape("".join(run))}</font>'
        for embedded, run in runs
    )


def _font_for(characters: list[str]) -> str:
    """Han characters do not show their language; kana and hangul beside them do."""
    if any("぀" <= each <= "ヿ" for each in characters):
        return _JAPANESE
    if any("가" <= each <= "힣" or "ᄀ" <= each <= "ᇿ" for each in characters):
        return _KOREAN
    return _CHINESE
